"""What a fine-tune changes, and whether adapters specialise: numbers of chapter 8 (what rank costs: experiments.rank).

    nice -n 10 python -m experiments.lora          # call it again to resume; about 20 CPU-minutes
    python -m experiments.lora --seeds 2 --steps 5 --matrix-steps 5 --held-out 8 --folder runs/lora_smoke --no-ship

Question  does an adapter do its own task better than the adapters of other tasks, and than the base?
Arms      an adapter of rank 16 for each of summarise, proofread and tone, from the shipped model, and no adapter; each
          measured on held-out records of all three
Others    spectrum: singular values of what full fine-tuning changed, beside those of the weights and of noise of equal
          size. serving: how long a swap in memory and a reading from disk take, and tokens/s with 0 to 8 adapters in a
          batch of 8
Seeds     3; the adapters of the first are shipped in afm_ref/assets/adapters
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref import assets, evaluation, generation, lora, losses
from afm_ref.containers import matrices
from afm_ref.data import packing, tasks, tokenizer
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.training import fit

from . import _record

FEATURES = ("summarise", "proofread", "tone")
SEQ_LEN = 112  # the longest conversation has 102 tokens
MATRIX_SEQ_LEN = 216  # three conversations in a row: the matrix's adapters see more text
SHIPPED = Path(assets.__file__).parent / "adapters"


def arguments():
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--steps", type=int, default=400, help="of full fine-tuning, rows of one conversation (default: %(default)s)")
    add("--matrix-steps", type=int, default=600, help="of the matrix, rows of three (default: %(default)s)")
    add("--batch-size", type=int, default=4)
    add("--records", type=int, default=2000, help="training records a task (default: %(default)s)")
    add("--held-out", type=int, default=150, help="held-out records a task (default: %(default)s)")
    add("--learning-rate", type=float, default=0.003, help="peak, of full fine-tuning (default: %(default)s)")
    add("--lora-learning-rate", type=float, default=0.006, help="peak, of adapters (default: %(default)s)")
    add("--alpha", type=float, default=16.0)
    add("--folder", type=Path, default=Path("runs/lora"), help="finished runs are kept there (default: %(default)s)")
    add("--no-ship", action="store_true", help="record nothing and ship no adapters")
    return parser.parse_args()


class Bench:
    """The model, the data and the measures that all parts share."""

    def __init__(self, a):
        self.a = a
        self.params, self.cfg, self.tok = assets.load_tiny()
        self.held_out = {task: tasks.records(task, a.held_out, seed=10_000, split="held_out") for task in FEATURES}
        self.loss = partial(losses.next_token, cfg=self.cfg)

    def rows(self, records, seq_len=SEQ_LEN):
        """Return conversations as rows; only responses are targets."""
        chats = [tasks.chat_tokens(self.tok, record.prompt, record.reference) for record in records]
        return packing.pack_conversations(chats, self.tok, seq_len)

    def tune(self, features, rank, seed, steps, seq_len=SEQ_LEN):
        """Return the params after fine-tuning on these tasks: an adapter of that rank, or all weights for None."""
        records = [record for task in features for record in tasks.records(task, self.a.records, seed=seed + 1)]
        batches = packing.batches(self.rows(records, seq_len), self.a.batch_size, seed=seed)
        start = self.params if rank is None else lora.attach(self.params, rank=rank, alpha=self.a.alpha, seed=seed)
        peak = self.a.learning_rate if rank is None else self.a.lora_learning_rate
        optimizer = afm_optimizer(peak, warmup_cosine(steps // 10, steps), weight_decay=1e-5)
        select = None if rank is None else lora.trainable
        return fit(start, self.loss, batches, optimizer, steps, select=select, progress=False).params

    def nats(self, params):
        """Return {task: mean nats per token of the held-out responses}."""
        table = {}
        for task, records in self.held_out.items():
            total, count = evaluation.total_loss(
                params, self.loss, packing.evaluation_batches(self.rows(records), 25), progress=False
            )
            table[task] = round(total / count, 5)
        return table

    def scores(self, params):
        """Return {task: {"score": mean metric, "success": share done wholly}} of greedy responses."""
        table = {}
        for task, records in self.held_out.items():
            prompts = [tasks.chat_tokens(self.tok, record.prompt).tokens for record in records]
            replies = generation.generate(params, self.cfg, prompts, 72, stop=tokenizer.END)
            texts = [self.tok.decode([t for t in reply.tolist() if t != tokenizer.END]) for reply in replies]
            pairs = list(zip(records, texts, strict=True))
            table[task] = {
                "score": round(float(np.mean([tasks.score(*pair) for pair in pairs])), 4),
                "success": round(float(np.mean([tasks.success(*pair) for pair in pairs])), 4),
            }
        return table

    def measure(self, params):
        """Return losses and scores of every task."""
        return {"nats": self.nats(params), "scores": self.scores(params)}


def spectrum(bench, tuned):
    """Return how the change of every matrix is spread over its singular values, beside W0 and noise of equal norm."""
    rng = np.random.default_rng(0)
    base, changed = (matrices(p) for p in (bench.params, tuned))
    table = {}
    for (name, layer), w in base.items():
        change = np.asarray(changed[name, layer], np.float64) - w
        noise = rng.standard_normal(change.shape)
        noise *= np.linalg.norm(change) / np.linalg.norm(noise)
        values = {
            kind: np.linalg.svd(m, compute_uv=False) for kind, m in (("change", change), ("w0", w), ("noise", noise))
        }
        table[f"{layer}.{name}"] = {kind: summary(s) for kind, s in values.items()} | {
            "norm_ratio": round(float(np.linalg.norm(change) / np.linalg.norm(w)), 4)
        }
        if layer == 1:  # all values of one layer, for the figure
            table[f"{layer}.{name}"]["values"] = {
                kind: [float(f"{x:.4g}") for x in s / s[0]] for kind, s in values.items()
            }
    return table


def summary(s):
    """Return the entropy rank, the rank that holds 90% of the squared norm, and the share of the first 16 values."""
    energy = s**2 / (s**2).sum()
    return {
        "effective_rank": round(float(np.exp(-(energy * np.log(np.maximum(energy, 1e-30))).sum())), 2),
        "rank_of_90_percent": int(np.searchsorted(np.cumsum(energy), 0.9) + 1),
        "first_16": round(float(energy[:16].sum()), 4),
    }


def full_run(bench, seed):
    """Fine-tune all weights once: its measures and its spectrum."""
    tuned = bench.tune(FEATURES, None, seed, bench.a.steps)
    return bench.measure(tuned) | {"spectrum": spectrum(bench, tuned)}


def feature_run(bench, task, seed):
    """Train one task's adapter of rank 16, measure it on every task, and keep its file."""
    tuned = bench.tune((task,), 16, seed, bench.a.matrix_steps, MATRIX_SEQ_LEN)
    if not bench.a.no_ship and seed == 0:
        lora.files.save(SHIPPED / f"{task}.safetensors", tuned, dtype="bfloat16")
    return bench.measure(tuned)


def serving_run(bench, rounds=7):
    """Time swaps, readings of the file, and generation with several adapters; medians of interleaved rounds."""
    prompts = [tasks.chat_tokens(bench.tok, record.prompt).tokens for record in bench.held_out["tone"][:8]]
    prompts = [prompt[:48] for prompt in prompts] * (8 // min(8, len(prompts)))
    base = lora.files.fingerprint(bench.params)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(8):
            adapted = lora.attach(bench.params, seed=seed)
            lora.files.save(Path(folder) / f"a{seed}.safetensors", adapted, base=base)
        bank = lora.AdapterBank(bench.params, folder, budget_bytes=1e9, slots=8)
        names = bank.names()
        batches = {n: bank.batch([names[i % n] if n else None for i in range(8)]) for n in (0, 1, 2, 4, 8)}
        plain = {"base": bank.base, "single": bank.params(names[0])}
        calls = {f"generate_{k}": partial(generation.generate, p, bench.cfg, prompts, 48) for k, p in plain.items()}
        for n, p in batches.items():
            calls[f"generate_mixed_{n}"] = partial(generation.generate, p, bench.cfg, prompts, 48)
        calls["swap"] = lambda: [bank.params(name) for name in names]
        calls["load"] = lambda: [(bank.drop(name), bank.params(name)) for name in names]
        times = {key: [] for key in calls}
        for i in range(rounds + 1):
            for key, call in calls.items():
                start = time.perf_counter()
                call()
                if i:  # the first round compiles
                    times[key].append(time.perf_counter() - start)
    seconds = {key: float(np.median(values)) for key, values in times.items()}
    per_token = {key: round(8 * 48 / s, 1) for key, s in seconds.items() if key.startswith("generate")}
    return {"tokens_per_s": per_token, "swap_us": round(1e6 * seconds["swap"] / 8, 2),
            "load_ms": round(1e3 * seconds["load"] / 8, 3)}  # fmt: skip


def jobs(bench):
    """Return {key: function} of all runs, the cheapest answers first."""
    seeds = range(bench.a.seeds)
    runs = {"base": lambda: bench.measure(bench.params), "serving": partial(serving_run, bench)}
    for seed in seeds:
        for task in FEATURES:
            runs[f"matrix_{task}_{seed}"] = partial(feature_run, bench, task, seed)
    return runs | {"full_0": partial(full_run, bench, 0)}


def intervals(done, a):
    """Return the comparisons that the chapter makes, each with its interval over seeds."""
    seeds = range(a.seeds)

    def over_seeds(value):
        return [round(x, 4) for x in evaluation.mean_interval([value(seed) for seed in seeds])]

    table = {"matrix": {}, "own_minus_best_other": {}, "own_minus_base": {}}
    for task in FEATURES:

        def score(adapter, seed, task=task):
            return done[f"matrix_{adapter}_{seed}"]["scores"][task]["score"]

        table["matrix"][task] = {adapter: over_seeds(partial(score, adapter)) for adapter in FEATURES}
        table["own_minus_best_other"][task] = over_seeds(
            lambda seed, task=task, score=score: (
                score(task, seed) - max(score(other, seed) for other in FEATURES if other != task)
            )
        )
        base = done["base"]["scores"][task]["score"]
        table["own_minus_base"][task] = over_seeds(lambda seed, t=task, s=score, b=base: s(t, seed) - b)
    return table


def verdict(numbers):
    """Return the smallest lead of a task's own adapter, over the others and over the base."""
    return "; ".join(
        _record.told(f"own adapter less {rival}, {task}", found[task])
        for rival in ("best other", "base")
        for found in [numbers["intervals"][f"own_minus_{rival.replace(' ', '_')}"]]
        for task in [min(found, key=lambda task: found[task][1])]
    )


def main():
    """Run what has not been run yet, then record."""
    a = arguments()
    if a.seeds < 2:
        raise SystemExit("--seeds must be at least 2: one run has no spread")
    bench = Bench(a)
    done = _record.finished(jobs(bench), a.folder)
    cpu_s = round(sum(run["cpu_s"] for run in done.values()))
    numbers = {"intervals": intervals(done, a), "runs": done, "cpu_s": cpu_s}
    config = _record.config_of(a) | {
        "seq_len": SEQ_LEN,
        "matrix_seq_len": MATRIX_SEQ_LEN,
        "base": lora.files.fingerprint(bench.params),
    }
    if a.no_ship:
        print(json.dumps(numbers["intervals"], indent=1))
    else:
        print(_record.save("lora", "python -m experiments.lora", config, list(range(a.seeds)), numbers))


if __name__ == "__main__":
    main()
