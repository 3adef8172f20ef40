"""Adapters: a LoRA step against a full one and PEFT's, mixed batches against single ones, swaps against reloads.

    python -m benchmarks.lora [--rounds N] [--plot [FILE]]

All on "afm-small-bench" (5.5M float32 parameters), rank 16 on every matrix of attention and FFN. `lora_vs_peft` needs
the extra `oracles` and is left out without it. A line whose unit ends in bytes compares memory: there, too, a ratio
above 1 is better for us (peer / ours).
"""

import json
import tempfile
from pathlib import Path

from afm_ref import containers

from . import _common
from ._qwen3 import DIMS, qwen3

BATCH, SEQ_LEN, STEPS_PER_TURN = 8, 256, 4
RANK, ADAPTERS, NEW_TOKENS = 16, 8, 48
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def training_step(cfg, batch, rank):
    """Return (call that makes one step and waits, the step's bytes): of an adapter, or of all weights for rank None."""
    from functools import partial

    import jax
    import jax.numpy as jnp
    import optax

    from afm_ref import lora, losses, training, transformer

    params = jax.tree.map(jnp.asarray, transformer.init(cfg, 0))
    params = params if rank is None else lora.attach(params, rank=rank)
    optimizer = optax.adamw(3e-4, b1=0.9, b2=0.95, weight_decay=0.1)
    weights, frozen = training.split(jax.tree.map(jnp.asarray, params), None if rank is None else lora.trainable)
    step = training.make_step(partial(losses.next_token, cfg=cfg), optimizer)
    state = [weights, optimizer.init(weights)]
    analysis = step.lower(*state, frozen, batch).compile().memory_analysis()

    def call():
        state[0], state[1], metrics = step(*state, frozen, batch)
        return float(metrics["loss"])

    return call, analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


def peft_step(cfg, tokens, rank):
    """Return a call that makes one step of PEFT's adapter on transformers' Qwen3, eager, with fused AdamW."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft

        torch.set_num_threads(_common.THREADS)
        settings = peft.LoraConfig(r=rank, lora_alpha=16, target_modules=LINEARS, task_type="CAUSAL_LM")
        model = peft.get_peft_model(qwen3(cfg).train(), settings)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.from_numpy(tokens).long()
    loss_of = torch.compile(lambda ids: model(input_ids=ids, labels=ids, use_cache=False).loss)

    def call():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(ids)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return call


def batch_of(tokens):
    """Return the tokens as a Batch; the last position predicts nothing, as with the peer's labels."""
    import numpy as np

    from afm_ref import losses

    counted = np.ones(tokens.shape, np.float32)
    counted[:, -1] = 0
    return losses.Batch(tokens, np.roll(tokens, -1, axis=1), counted)


def make_bank(cfg, folder):
    """Return a bank with ADAPTERS adapters in its folder, none of them loaded."""
    import numpy as np

    from afm_ref import lora, transformer

    params = transformer.init(cfg, 0)
    base = lora.files.fingerprint(params)
    for seed in range(ADAPTERS):
        adapted = lora.attach(params, rank=RANK, seed=seed)
        rng = np.random.default_rng(seed)

        def drawn(name, w, numbers, rng=rng):
            w.b[...] = 0.02 * rng.standard_normal(w.b.shape)
            return w

        lora.files.save(folder / f"a{seed}.safetensors", containers.map_matrices(adapted, drawn), base=base)
    return lora.AdapterBank(params, folder, budget_bytes=1e9, rank=RANK, slots=ADAPTERS)


def turns(call, count):
    """Return a call that makes several, so that a change of sides is not what is timed."""
    return lambda: [call() for _ in range(count)]


def training_lines(cfg, rounds):
    """Compare steps: LoRA against full, in time and bytes, and against PEFT."""
    import numpy as np

    tokens = np.random.default_rng(1).integers(0, cfg.vocab_size, (BATCH, SEQ_LEN)).astype(np.int32)
    batch = batch_of(tokens)
    thin, thin_bytes = training_step(cfg, batch, RANK)
    full, full_bytes = training_step(cfg, batch, None)
    shared = dict(unit="tokens/s", work_per_call=STEPS_PER_TURN * BATCH * SEQ_LEN, rounds=rounds)
    yield _common.compare("lora_step_vs_full_step", turns(thin, STEPS_PER_TURN), turns(full, STEPS_PER_TURN), **shared)
    ratio = round(full_bytes / thin_bytes, 3)
    line = dict(name="lora_step_bytes_vs_full", ours=thin_bytes, peer=full_bytes, ratio=ratio, unit="bytes",
                share_of_peak=None, rounds=1, versions=_common.versions())  # fmt: skip
    print(json.dumps(line), flush=True)
    yield line
    try:
        import peft
    except ImportError:
        return
    theirs = peft_step(cfg, tokens, RANK)
    yield _common.compare(
        "lora_vs_peft", turns(thin, STEPS_PER_TURN), turns(theirs, STEPS_PER_TURN), **shared, peft=peft.__version__
    )


def serving_lines(cfg, rounds, folder):
    """Compare a batch of eight adapters with a batch of one, and a swap in memory with reading the file again."""
    import jax
    import numpy as np

    from afm_ref import generation

    bank = make_bank(cfg, folder)
    names = [f"a{seed}" for seed in range(ADAPTERS)]
    prompts = np.random.default_rng(2).integers(0, cfg.vocab_size, (ADAPTERS, 32)).astype(np.int32)
    mixed, single = bank.batch(names), bank.params("a0")
    yield _common.compare(
        "mixed_adapters_vs_one",
        lambda: generation.generate(mixed, cfg, prompts, NEW_TOKENS),
        lambda: generation.generate(single, cfg, prompts, NEW_TOKENS),
        unit="tokens/s",
        work_per_call=ADAPTERS * NEW_TOKENS,
        rounds=rounds,
    )
    turn = iter(range(1 << 30))

    def swap():
        return bank.params(names[next(turn) % ADAPTERS])

    def reload():
        name = names[next(turn) % ADAPTERS]
        bank.drop(name)
        jax.block_until_ready(bank.params(name))

    yield _common.compare(
        "swap_vs_reload", turns(swap, 100), turns(reload, 100), unit="swaps/s", work_per_call=100, rounds=rounds
    )


def main():
    """Run all comparisons and print their lines."""
    args = _common.arguments(__doc__)
    from afm_ref.config import AFMConfig

    cfg = AFMConfig(**DIMS)
    with tempfile.TemporaryDirectory() as folder:
        lines = list(serving_lines(cfg, args.rounds, Path(folder)))
    lines += training_lines(cfg, args.rounds)  # last, for PEFT's threads stay in the process
    _common.plot(lines, args.plot, "benchmark_lora.png")


if __name__ == "__main__":
    _common.prepare()
    main()
