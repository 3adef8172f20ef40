"""Post-training: responses sampled beside transformers' generate, a DPO step beside TRL's.

    python -m benchmarks.post_training [--rounds N] [--plot [FILE]]

Both sides have the same random weights in the size of AFM_TINY (1.7M projection weights; transformers knows no model
that normalises queries after RoPE, so it is Qwen3's order on both sides).

rollout_vs_transformers: 4 responses to each of 16 prompts in a batch of 64, temperature 1, the whole vocabulary, 48 new
tokens to every row. Ours is `responses.sample`, which reads and writes text, and each prompt once; theirs has its token
ids ready, hands token ids back, and is given all 64 rows. `rollout_vs_transformers_small` is the same with 5M
parameters. dpo_vs_trl: one step on 16 pairs with reference log-probabilities computed before. Theirs is DPOTrainer
itself (training_step, its fused AdamW), without gradient checkpointing, eager as it runs by default, on the same padded
batch.

Read the ratios of a quiet machine only: where other work takes a core, torch's threads wait for each other, and the
ratio grows several times over in our favour. `ratio_range` shows it.
"""

from . import _common
from ._qwen3 import DIMS, qwen3

PROMPTS, N, NEW = 16, 4, 48
PAIRS, STEPS_PER_TURN, LEARNING_RATE, BETA = 16, 4, 1e-5, 0.1


def both(cfg):
    """Return (transformers' Qwen3 with random weights, our params of the same weights, cfg as it was read)."""
    import tempfile

    import jax
    import jax.numpy as jnp

    from afm_ref.interop import hugging_face

    peer = qwen3(cfg).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        params, cfg = hugging_face.load(folder)
    return peer, jax.tree.map(jnp.asarray, params), cfg


def rollout_line(name, cfg, prompts, tokenizer, rounds):
    """Compare responses a second."""
    import numpy as np
    import torch

    from afm_ref.data.tasks import chat_tokens
    from afm_ref.data.tokenizer import PAD
    from afm_ref.post_training import responses

    peer, params, cfg = both(cfg)
    chats = [chat_tokens(tokenizer, prompt).tokens for prompt in prompts for _ in range(N)]
    ids = np.full((len(chats), max(map(len, chats))), PAD, np.int64)
    for row, chat in zip(ids, chats, strict=True):
        row[len(row) - len(chat) :] = chat  # their padding is on the left
    ids, mask = torch.from_numpy(ids), torch.from_numpy((ids != PAD).astype(np.int64))
    seeds = iter(range(1 << 30))

    def ours():
        found = responses.sample(params, cfg, tokenizer, prompts, N, NEW, seed=next(seeds), batch_size=PROMPTS * N)
        return [response.tokens for group in found for response in group]

    def theirs():
        settings = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=NEW, pad_token_id=PAD)
        with torch.no_grad():
            return peer.generate(ids, attention_mask=mask, **settings)[:, ids.shape[1] :].numpy()

    # <|end|> ends a row of ours, but the batch goes on to the last row; theirs knows no end
    steps = max(map(len, ours())), theirs().shape[1]
    if steps != (NEW, NEW):
        raise RuntimeError(f"both sides must take {NEW} steps, not {steps}")
    return _common.compare(
        name, ours, theirs, unit="responses/s", work_per_call=PROMPTS * N, rounds=rounds, warmup=1, new_tokens=NEW
    )


def preferred(tokenizer):
    """Return PAIRS pairs: the reference of a record is preferred to that of another."""
    from afm_ref.data import tasks
    from afm_ref.post_training import losses, preferences
    from afm_ref.post_training.responses import written

    records = [record for task in tasks.TASKS for record in tasks.records(task, 4)][:PAIRS]
    said = [written(tokenizer, record.reference) for record in records]
    grades = (1, 1, 1, 1)
    found = [
        preferences.Preference(record.prompt, chosen, rejected, 1, grades, grades, 0.2)
        for record, chosen, rejected in zip(records, said, said[1:] + said[:1], strict=True)
    ]
    return losses.pairs_of(found, tokenizer)


def our_step(params, cfg, batch):
    """Return a call that makes one step of DPO and returns its loss."""
    from functools import partial

    import optax

    from afm_ref import training
    from afm_ref.post_training import preference_loss

    optimizer = optax.adamw(LEARNING_RATE, weight_decay=0.0)
    weights, frozen = training.split(params, None)
    step = training.make_step(partial(preference_loss, cfg=cfg, kind="dpo", beta=BETA), optimizer)
    state = [weights, optimizer.init(weights)]

    def call():
        state[0], state[1], metrics = step(*state, frozen, batch)
        return float(metrics["loss"])

    return call


def trl_step(model, tokenizer_file, batch, folder):
    """Return a call that makes one step of TRL's DPOTrainer on the same batch and returns its loss."""
    import datasets
    import numpy as np
    import torch
    import transformers
    import trl

    from afm_ref.post_training.rows import take

    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, pad_token="<|pad|>")
    tokenizer.eos_token = "<|end|>"
    unused = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])  # it asks for a data set
    settings = trl.DPOConfig(
        output_dir=folder, use_cpu=True, report_to="none", beta=BETA, learning_rate=LEARNING_RATE, bf16=False,
        precompute_ref_log_probs=True, gradient_checkpointing=False, max_grad_norm=0.0, disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(model=model, args=settings, train_dataset=unused, processing_class=tokenizer)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # as its own loop sets it
    rows = take(batch.rows, batch.places.reshape(-1))  # the chosen ones first
    real = np.arange(rows.tokens.shape[1]) < rows.lengths[:, None]
    columns = dict(input_ids=rows.tokens, attention_mask=real, completion_mask=rows.response)
    inputs = {name: torch.as_tensor(np.asarray(value, np.int64)) for name, value in columns.items()}
    sides = zip(("ref_chosen_logps", "ref_rejected_logps"), batch.reference[batch.places], strict=True)
    inputs |= {name: torch.tensor(np.asarray(value)) for name, value in sides}

    def call():
        trainer.optimizer.zero_grad(set_to_none=True)
        loss = trainer.training_step(trainer.model, dict(inputs))
        trainer.optimizer.step()
        return float(loss)

    return call


def dpo_line(cfg, tokenizer, tokenizer_file, rounds):
    """Compare tokens a second of DPO steps: those of both responses, prompts included and padding not."""
    import tempfile

    import trl

    from afm_ref.post_training import losses

    peer, params, cfg = both(cfg)
    batch = losses.with_reference(preferred(tokenizer), params, cfg)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = our_step(params, cfg, batch), trl_step(peer, tokenizer_file, batch, folder)
        first = [(ours(), theirs()) for _ in range(3)]
        if max(abs(a - b) for a, b in first) > 1e-5:  # float32, of about 0.69
            raise RuntimeError(f"the two sides are not doing the same: losses {first}")
        return _common.compare(
            "dpo_vs_trl",
            lambda: [ours() for _ in range(STEPS_PER_TURN)],
            lambda: [theirs() for _ in range(STEPS_PER_TURN)],
            unit="tokens/s",
            work_per_call=STEPS_PER_TURN * int(batch.rows.lengths.sum()),
            rounds=rounds,
            warmup=1,
            trl=trl.__version__,
        )


def main():
    """Run all comparisons and print their lines."""
    args = _common.arguments(__doc__)
    import dataclasses

    import torch
    import transformers

    from afm_ref import assets
    from afm_ref.config import AFM_TINY, AFMConfig
    from afm_ref.data import tasks
    from afm_ref.interop import hugging_face

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(_common.THREADS)
    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    prompts = [record.prompt for task in tasks.TASKS for record in tasks.records(task, 4)][:PROMPTS]
    tiny = dataclasses.replace(AFM_TINY, qk_norm="before_rope", rope_layout="half_split")
    lines = [
        rollout_line("rollout_vs_transformers", tiny, prompts, tokenizer, args.rounds),
        rollout_line(
            "rollout_vs_transformers_small",
            AFMConfig(**DIMS | {"vocab_size": tokenizer.vocab_size}),
            prompts,
            tokenizer,
            args.rounds,
        ),
        dpo_line(tiny, tokenizer, str(assets.FOLDER / "tokenizer.json"), args.rounds),
    ]
    _common.plot(lines, args.plot, "benchmark_post_training.png")


if __name__ == "__main__":
    _common.prepare()
    main()
