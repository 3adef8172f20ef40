"""A training step: this project against transformers' Qwen3 with torch.compile and fused AdamW, in turn.

    python -m benchmarks.train [--rounds N] [--plot [FILE]]

Both train the same architecture ("afm-small-bench": 5.5M parameters, float32, batch 8 x 256) with AdamW and read the
loss back. Needs the extra `oracles` and a C++ compiler for torch.compile. Both sides live in one process; a turn is
several steps, since the first one after a change of sides finds its threads asleep and the other's still spinning.
"""

from . import _common
from ._qwen3 import DIMS, qwen3

BATCH, SEQ_LEN = 8, 256
STEPS_PER_TURN = 4


def ours(cfg, tokens):
    """Return a call that makes one step of training.make_step, as fit does, and waits for its loss."""
    from functools import partial

    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from afm_ref import losses, training, transformer

    optimizer = optax.adamw(3e-4, b1=0.9, b2=0.95, weight_decay=0.1)
    step = training.make_step(partial(losses.next_token, cfg=cfg), optimizer)
    weights, frozen = training.split(jax.tree.map(jnp.asarray, transformer.init(cfg, 0)))
    state = [weights, optimizer.init(weights)]
    # the peer's labels are its inputs shifted by one, so the last position predicts nothing
    targets, counted = np.roll(tokens, -1, axis=1), np.ones(tokens.shape, np.float32)
    counted[:, -1] = 0
    batch = losses.Batch(tokens, targets, counted)

    def call():
        state[0], state[1], metrics = step(*state, frozen, batch)
        return float(metrics["loss"])

    return call


def peer(cfg, tokens):
    """Return a call that makes one compiled forward and backward, and one fused AdamW step."""
    import torch

    torch.set_num_threads(_common.THREADS)
    model = qwen3(cfg).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.from_numpy(tokens).long()
    loss_of = torch.compile(lambda ids: model(input_ids=ids, labels=ids, use_cache=False).loss)

    def call():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(ids)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return call


def main():
    """Run the comparison and print its line."""
    args = _common.arguments(__doc__)
    import numpy as np

    from afm_ref.config import AFMConfig, train_flops_per_token

    cfg = AFMConfig(**DIMS)
    tokens = np.random.default_rng(1).integers(0, cfg.vocab_size, (BATCH, SEQ_LEN)).astype(np.int32)

    def turn(step):
        return lambda: [step() for _ in range(STEPS_PER_TURN)]

    line = _common.compare(
        "train_vs_transformers_compile",
        turn(ours(cfg, tokens)),
        turn(peer(cfg, tokens)),
        unit="tokens/s",
        work_per_call=STEPS_PER_TURN * BATCH * SEQ_LEN,
        rounds=args.rounds,
        peaks=(_common.gemm_of_jax, _common.gemm_of_torch),
        cost_per_work=train_flops_per_token(cfg, SEQ_LEN),
    )
    _common.plot([line], args.plot, "benchmark_train.png")


if __name__ == "__main__":
    _common.prepare()
    main()
