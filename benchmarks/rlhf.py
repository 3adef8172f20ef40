"""RLHF: a full iteration beside TRL's RLOOTrainer.

    python -m benchmarks.rlhf [--rounds N] [--plot [FILE]]

rlhf_vs_trl: iterations of RLOO a minute. Both sides have the same random weights in the size of AFM_TINY (Qwen3's
order of normalising, see `post_training`), float32, the same 16 prompts, n responses each at temperature 1, the same
reward of the text, beta > 0, and 4 steps of AdamW over all responses. Prompts are longer than responses, as for a
feature: a message to summarise, of 45 to 104 tokens, and n = 8 responses of 32 tokens. An iteration is:

    ours (rollout.OnPolicy and training.make_step, as `rlhf.run` puts them together): sample, with
        the policy's log-probabilities; those of the reference; advantages; 4 steps; log-probabilities once more, for
        the divergence from the previous iterate that is recorded. Each reads a prompt once for its n responses.
    theirs (RLOOTrainer.training_step, 4 times, and its own fused AdamW): generate; log-probabilities under both,
        rewards and advantages; 4 steps. Each reads a prompt n times. No gradient checkpointing; eager, as it runs by
        default. Its loop, data loader, scheduler and writing of logs are left out.

A row that ends early is masked and saves neither side anything: the batch goes on to the last row, of all tokens.
Before anything is timed, one iteration of theirs is read by ours: log-probabilities and the losses of all 4 steps must
agree.

mdloo_vs_trl: our MDLOO beside the same trainer. TRL has no MDLOO.

rlhf_vs_trl_short: RLOO where little is shared: prompts of all tasks, 26 to 78 tokens, n = 4 responses of 48 tokens.
rlhf_vs_trl_long: RLOO where much is: threads of four such messages, 191 to 306 tokens, n = 8 responses of 32 tokens.

Read the ratios of a quiet machine only, as with `post_training`.

"""

from typing import NamedTuple

from . import _common
from .post_training import both

PROMPTS, INNER_STEPS = 16, 4
LEARNING_RATE, BETA, GAMMA, EPSILON = 1e-5, 0.05, 0.5, 0.2


class Shape(NamedTuple):
    """What an iteration is about."""

    records: list  # PROMPTS of them
    n: int
    new_tokens: int


def reward_of(text: str) -> float:
    """Return a reward that costs nothing: how often the text has an e."""
    return float(text.count("e"))


class Ours:
    """Iterations of one algorithm, each a call."""

    def __init__(self, params, cfg, tokenizer, shape, algorithm):
        from functools import partial

        import jax
        import optax

        from afm_ref import training
        from afm_ref.rlhf import ALGORITHMS, Settings, rollout

        sizes = dict(n=shape.n, max_new_tokens=shape.new_tokens, batch_size=PROMPTS * shape.n)
        sizes |= dict(prompts=PROMPTS, inner_steps=INNER_STEPS)
        prompts = [record.prompt for record in shape.records]
        settings = Settings(beta=BETA, gamma=GAMMA, epsilon=EPSILON, **sizes)
        chosen = ALGORITHMS[algorithm]
        self.source = rollout.OnPolicy(cfg, tokenizer, prompts, rewards, params, chosen, settings)
        optimizer = optax.adamw(LEARNING_RATE, weight_decay=0.0)
        loss = partial(chosen.loss, cfg=cfg, **{name: getattr(settings, name) for name in chosen.options})
        self.update = training.make_step(loss, optimizer)
        weights, self.frozen = training.split(jax.tree.map(jax.numpy.copy, params))  # a step donates its weights
        self.state, self.steps = (weights, optimizer.init(weights)), 0

    def step(self, batch) -> float:
        """Take one step of the optimizer and return its loss."""
        *self.state, metrics = self.update(*self.state, self.frozen, batch)
        return float(metrics["loss"])

    def __call__(self):
        for _ in range(INNER_STEPS):
            self.step(self.source(self.steps, self.state[0]))
            self.steps += 1
        return self.source.finished(self.state[0])


def rewards(prompts, groups):
    """Return [P, n]."""
    return [[reward_of(response.text) for response in group] for group in groups]


def trl_trainer(peer, tokenizer_file, chats, shape, folder):
    """Return TRL's RLOOTrainer of the model, whose weights its reference takes from the folder."""
    import datasets
    import transformers
    import trl

    peer.save_pretrained(folder)
    peer.config._name_or_path = folder
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, pad_token="<|pad|>")
    tokenizer.eos_token, tokenizer.padding_side = "<|end|>", "left"
    settings = trl.RLOOConfig(
        output_dir=folder, use_cpu=True, report_to="none", bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        per_device_train_batch_size=PROMPTS * shape.n, num_generations=shape.n, num_iterations=INNER_STEPS, beta=BETA,
        epsilon=EPSILON, max_completion_length=shape.new_tokens, temperature=1.0, learning_rate=LEARNING_RATE,
    )  # fmt: skip

    def rewards(completions, **_):
        return [reward_of(text) for text in completions]

    trainer = trl.RLOOTrainer(peer, rewards, settings, datasets.Dataset.from_list(chats), processing_class=tokenizer)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # as its own loop sets it
    return trainer


def trl_iteration(trainer, chats):
    """Return a call that does one iteration with the prompts, and returns the losses of its steps."""
    batch = [chat for chat in chats for _ in range(trainer.num_generations)]  # as its sampler repeats them

    def call():
        losses = []
        for _ in range(INNER_STEPS):
            trainer.optimizer.zero_grad(set_to_none=True)
            losses.append(float(trainer.training_step(trainer.model, batch, None)))
            trainer.optimizer.step()
        return losses

    return call


def experience_of(inputs, params, cfg, shape):
    """Return what TRL's trainer has sampled and learns from as our Experience, and its own log-probabilities of it."""
    from afm_ref.post_training.rows import in_batches, response_log_probs, share
    from afm_ref.rlhf import Experience

    columns = [inputs[name].numpy() for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")]
    parts = [(prompt[p == 1].tolist(), said[c == 1].tolist()) for prompt, p, said, c in zip(*columns, strict=True)]
    order = sorted(range(len(parts)), key=lambda row: parts[row][0])  # it has shuffled them
    prompts, said = zip(*(parts[row] for row in order), strict=True)
    groups = [said[i : i + shape.n] for i in range(0, len(said), shape.n)]
    rows = share(prompts[:: shape.n], groups, columns[0].shape[1], shape.new_tokens)
    old = in_batches(response_log_probs, params, rows, cfg, len(said))
    return Experience(rows, old, old, inputs["advantages"].numpy()[order]), inputs["old_logps"].numpy()[order]


def check_same(ours, trainer, theirs, params, cfg, shape):
    """Raise RuntimeError unless one iteration of theirs, done by ours with their samples, gives the same numbers."""
    import numpy as np

    wanted = theirs()
    batch, log_probs = experience_of(trainer._buffered_inputs[0], params, cfg, shape)
    apart = np.abs(batch.old.sum(-1) - log_probs).max()
    found = [ours.step(batch) for _ in range(INNER_STEPS)]
    if apart > 1e-3 or not np.allclose(found, wanted, atol=1e-4):  # float32, of up to 370 and 1
        raise RuntimeError(f"the two sides are not doing the same: log-probabilities {apart}, losses {found}, {wanted}")


def check_lengths(ours, trainer, new_tokens):
    """Raise RuntimeError unless the longest response of both sides' last iteration has new_tokens."""
    rows, completions = ours.source.experience.rows, trainer._buffered_inputs[0]["completion_ids"]
    longest = int(rows.response.sum(-1).max()), completions.shape[1]
    if longest != (new_tokens, new_tokens):
        raise RuntimeError(f"both sides must take {new_tokens} steps, not {longest}")


def iteration_lines(cfg, tokenizer, tokenizer_file, shape, algorithms, rounds):
    """Compare iterations a minute with TRL's RLOO; algorithms: {name of the line: ours}."""
    import tempfile

    import trl

    from afm_ref.data.chat import chat_tokens, render

    peer, params, cfg = both(cfg)
    chats = [{"prompt": f"<|bos|>{render(record.prompt)}"} for record in shape.records]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_trainer(peer, tokenizer_file, chats, shape, folder)
        read = trainer._tokenize_prompts([chat["prompt"] for chat in chats])[0]
        if read != [chat_tokens(tokenizer, record.prompt).tokens.tolist() for record in shape.records]:
            raise RuntimeError("the two sides read other tokens")
        theirs = trl_iteration(trainer, chats)
        check_same(Ours(params, cfg, tokenizer, shape, "rloo"), trainer, theirs, params, cfg, shape)
        tokens = [min(map(len, read)), max(map(len, read))]
        settings = dict(n=shape.n, prompt_tokens=tokens, new_tokens=shape.new_tokens, trl=trl.__version__)
        lines = []
        for name, algorithm in algorithms.items():
            ours = Ours(params, cfg, tokenizer, shape, algorithm)
            lines.append(_common.compare(name, ours, theirs, "iterations/min", 60, rounds=rounds, warmup=1, **settings))
            check_lengths(ours, trainer, shape.new_tokens)
        return lines


def main():
    """Run all comparisons and print their lines."""
    args = _common.arguments(__doc__, rounds=5)
    import dataclasses

    import torch
    import transformers

    from afm_ref import assets
    from afm_ref.config import AFM_TINY
    from afm_ref.data import tasks
    from afm_ref.interop import hugging_face

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(_common.THREADS)
    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    feature = Shape(tasks.records("summarise", PROMPTS, difficulty=4), n=8, new_tokens=32)
    all_tasks = [record for task in tasks.TASKS for record in tasks.records(task, 4)][:PROMPTS]
    short = Shape(all_tasks, n=4, new_tokens=48)
    messages = tasks.records("summarise", 4 * PROMPTS, difficulty=4)
    threads = [messages[i]._replace(prompt="\n".join(m.prompt for m in messages[i::PROMPTS])) for i in range(PROMPTS)]
    long = Shape(threads, n=8, new_tokens=32)
    tiny = dataclasses.replace(AFM_TINY, qk_norm="before_rope", rope_layout="half_split")
    lines, file = [], str(assets.FOLDER / "tokenizer.json")
    for shape, algorithms in (
        (feature, {"rlhf_vs_trl": "rloo", "mdloo_vs_trl": "mdloo"}),
        (short, {"rlhf_vs_trl_short": "rloo"}),
        (long, {"rlhf_vs_trl_long": "rloo"}),
    ):
        lines += iteration_lines(tiny, tokenizer, file, shape, algorithms, args.rounds)
    _common.plot(lines, args.plot, "benchmark_rlhf.png")


if __name__ == "__main__":
    _common.prepare()
    main()
