"""RLHF: a full iteration beside TRL's RLOOTrainer, and the samples that each algorithm needs.

    python -m benchmarks.rlhf [--rounds N] [--plot [FILE]]

rlhf_vs_trl: iterations of RLOO a minute. Both sides have the same random weights in the size of AFM_TINY (Qwen3's
order of normalising, see `post_training`), float32, the same 16 prompts, K = 4 responses of 48 tokens at temperature
1, the same reward of the text, beta > 0, and 4 steps of AdamW over all 64 responses. An iteration is:

    ours (iterate.OnPolicy and training.make_step, as `iterate.run` puts them together): sample, reading each prompt
        once; log-probabilities under the policy and the reference; advantages; 4 steps; log-probabilities once more,
        for the divergence from the previous iterate that is recorded.
    theirs (RLOOTrainer.training_step, 4 times, and its own fused AdamW): generate, with all 64 rows; the same
        log-probabilities, rewards and advantages; 4 steps. No gradient checkpointing; eager, as it runs by default.
        Its loop, data loader, scheduler and writing of logs are left out.

A row that ends early is masked and saves neither side anything: the batch goes on to the last row, of 48 tokens. Before
anything is timed, one iteration of theirs is read by ours: log-probabilities and the losses of all 4 steps must agree.

mdloo_vs_trl: our MDLOO beside the same trainer. TRL has no MDLOO.

Read the ratios of a quiet machine only, as with `post_training`.

samples_to_utility: from experiments/recorded/rlhf.json, after how many samples each algorithm's held-out utility first
is half way from the start to the best mean of any algorithm: a mean over the seeds that came there, and how many did.
"""

import json
import sys

from . import _common
from .post_training import both

PROMPTS, K, NEW, INNER_STEPS = 16, 4, 48, 4
LEARNING_RATE, BETA, GAMMA, EPSILON = 1e-5, 0.05, 0.5, 0.2


def reward_of(text: str) -> float:
    """Return a reward that costs nothing: how often the text has an e."""
    return float(text.count("e"))


class Ours:
    """Iterations of one algorithm, each a call."""

    def __init__(self, params, cfg, tokenizer, prompts, algorithm):
        from functools import partial

        import jax
        import optax

        from afm_ref import training
        from afm_ref.rlhf import ALGORITHMS, Settings, iterate

        sizes = dict(K=K, prompts=PROMPTS, inner_steps=INNER_STEPS, max_new_tokens=NEW, batch_size=PROMPTS * K)
        settings = Settings(beta=BETA, gamma=GAMMA, epsilon=EPSILON, **sizes)
        chosen = ALGORITHMS[algorithm]
        self.source = iterate.OnPolicy(cfg, tokenizer, prompts, rewards, params, chosen, settings)
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
    """Return [P, K]."""
    return [[reward_of(response.text) for response in group] for group in groups]


def trl_trainer(peer, tokenizer_file, prompts, folder):
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
        per_device_train_batch_size=PROMPTS * K, num_generations=K, num_iterations=INNER_STEPS, beta=BETA,
        epsilon=EPSILON, max_completion_length=NEW, temperature=1.0, learning_rate=LEARNING_RATE,
    )  # fmt: skip

    def rewards(completions, **_):
        return [reward_of(text) for text in completions]

    trainer = trl.RLOOTrainer(peer, rewards, settings, datasets.Dataset.from_list(prompts), processing_class=tokenizer)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # as its own loop sets it
    return trainer


def trl_iteration(trainer, prompts):
    """Return a call that does one iteration with the prompts, and returns the losses of its steps."""
    batch = [prompt for prompt in prompts for _ in range(K)]  # as its sampler repeats them

    def call():
        losses = []
        for _ in range(INNER_STEPS):
            trainer.optimizer.zero_grad(set_to_none=True)
            losses.append(float(trainer.training_step(trainer.model, batch, None)))
            trainer.optimizer.step()
        return losses

    return call


def experience_of(inputs, params, cfg):
    """Return what TRL's trainer has sampled and learns from as our Experience."""
    from afm_ref.data.tasks import Rendered
    from afm_ref.post_training.policy import response_log_probs
    from afm_ref.post_training.responses import in_batches, pad
    from afm_ref.rlhf import Experience

    columns = [inputs[name].numpy() for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")]
    parts = [(prompt[p == 1], completion[c == 1]) for prompt, p, completion, c in zip(*columns, strict=True)]
    rows = pad([Rendered([*prompt, *completion], len(prompt)) for prompt, completion in parts])
    old = in_batches(response_log_probs, params, rows, cfg, len(parts))
    return Experience(rows, old, old, inputs["advantages"].numpy())


def check_same(ours, trainer, theirs, params, cfg):
    """Raise RuntimeError unless one iteration of theirs, done by ours with their samples, gives the same numbers."""
    import numpy as np

    wanted = theirs()
    inputs = trainer._buffered_inputs[0]
    batch = experience_of(inputs, params, cfg)
    apart = np.abs(batch.old.sum(-1) - inputs["old_logps"].numpy()).max()
    found = [ours.step(batch) for _ in range(INNER_STEPS)]
    if apart > 1e-3 or not np.allclose(found, wanted, atol=1e-4):  # float32, of about 370 and 1
        raise RuntimeError(f"the two sides are not doing the same: log-probabilities {apart}, losses {found}, {wanted}")


def check_lengths(ours, trainer):
    """Raise RuntimeError unless the longest response of both sides' last iteration has NEW tokens."""
    rows, completions = ours.source.experience.rows, trainer._buffered_inputs[0]["completion_ids"]
    longest = int(rows.response.sum(-1).max()), completions.shape[1]
    if longest != (NEW, NEW):
        raise RuntimeError(f"both sides must take {NEW} steps, not {longest}")


def iteration_lines(cfg, tokenizer, tokenizer_file, records, rounds):
    """Compare iterations a minute of RLOO and of MDLOO with TRL's RLOO."""
    import tempfile

    import trl

    from afm_ref.data.tasks import chat_tokens, render_prompt

    peer, params, cfg = both(cfg)
    chats = [{"prompt": f"<|bos|>{render_prompt(record)}"} for record in records]
    prompts = [record.prompt for record in records]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_trainer(peer, tokenizer_file, chats, folder)
        read = trainer._tokenize_prompts([chat["prompt"] for chat in chats])[0]
        if read != [chat_tokens(tokenizer, prompt).tokens.tolist() for prompt in prompts]:
            raise RuntimeError("the two sides read other tokens")
        theirs = trl_iteration(trainer, chats)
        check_same(Ours(params, cfg, tokenizer, prompts, "rloo"), trainer, theirs, params, cfg)
        lines, settings = [], dict(responses=PROMPTS * K, new_tokens=NEW, inner_steps=INNER_STEPS, trl=trl.__version__)
        for name, algorithm in (("rlhf_vs_trl", "rloo"), ("mdloo_vs_trl", "mdloo")):
            ours = Ours(params, cfg, tokenizer, prompts, algorithm)
            lines.append(_common.compare(name, ours, theirs, "iterations/min", 60, rounds=rounds, warmup=1, **settings))
            check_lengths(ours, trainer)
        return lines


def utility_lines(runs):
    """Print for each judge and algorithm the samples to the target, one JSON line each.

    runs: {"<judge>_<algorithm>_<seed>": {"samples": [...], "utility": [...]}} as the recording has them.
    """
    import numpy as np

    from afm_ref.rlhf.measures import samples_to, target_between

    found = {}
    for key, run in runs.items():
        judge, algorithm, _ = key.split("_")
        found.setdefault(judge, {}).setdefault(algorithm, []).append(run)
    for judge, algorithms in found.items():
        target = target_between({name: [run["utility"] for run in group] for name, group in algorithms.items()})
        for name, group in algorithms.items():
            needed = [samples_to(run["samples"], run["utility"], target) for run in group]
            there = [samples for samples in needed if samples is not None]
            samples = round(float(np.mean(there))) if there else "not reached"
            line = dict(name="samples_to_utility", judge=judge, algorithm=name, samples=samples, seeds=len(group))
            print(json.dumps(line | {"seeds_there": len(there), "target": round(target, 4)}))


def main():
    """Run all comparisons and print their lines."""
    args = _common.arguments(__doc__.split("\n")[0], rounds=5)
    import dataclasses

    import torch
    import transformers

    from afm_ref import assets
    from afm_ref.config import AFM_TINY
    from afm_ref.data import tasks
    from afm_ref.interop import hugging_face
    from experiments import _record

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(_common.THREADS)
    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    records = [record for task in tasks.TASKS for record in tasks.records(task, 4)][:PROMPTS]
    tiny = dataclasses.replace(AFM_TINY, qk_norm="before_rope", rope_layout="half_split")
    lines = iteration_lines(tiny, tokenizer, str(assets.FOLDER / "tokenizer.json"), records, args.rounds)
    try:
        utility_lines(_record.load("rlhf")["numbers"]["runs"])
    except FileNotFoundError as missing:
        print(f"no samples_to_utility: {missing}", file=sys.stderr)
    _common.plot(lines, args.plot, "benchmark_rlhf.png")


if __name__ == "__main__":
    _common.prepare()
    main()
