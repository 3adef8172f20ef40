"""What few bits cost and what an adapter gives back: the numbers of chapter 9.

    OPENBLAS_NUM_THREADS=1 nice -n 5 python -m experiments.quantization   # call it again to resume; 21 CPU-minutes
    python -m experiments.quantization --seeds 2 --steps 3 --feature-steps 4 --held-out 6 --text-rows 10 \\
        --folder runs/quantization_smoke --no-ship

All of it on the shipped model, its pre-training text held out, and held-out records of three tasks. Palettes are used
as dense arrays of the same values, so that one compiled program serves all widths:
  sensitivity   what each matrix alone costs at 2 and 4 bits, measured and predicted, on training text
  frontier      the loss against the average bits: exact, greedy and Lagrangian choices of the bits
  bits          16, 4, 3.7, 3.5 and 2 bits as they come out of palettization
  recovered     the same after training an adapter of rank 4, 16 or 32; once more from B = 0; and, as the control,
                an adapter of rank 16 on the 16-bit model, which shows what is training and not recovery
  feature       an adapter for each task on the 3.5-bit base, from the recovery adapter and from zero, and on 16 bits
  alternatives  palettes and uniform grids, nearest and with errors compensated, at equal counted bits
  kv_cache      keys and values in 8 bits
  merged        the recovery adapter merged into the weights and these palettized again, against keeping it beside
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref import evaluation, lora

from . import _record
from ._quantization import (
    AVERAGES,
    FEATURE_SEQ_LEN,
    FEATURES,
    FROM_ZERO,
    RANK,
    RANKS,
    SEQ_LEN,
    STARTS,
    Bench,
    alternatives_run,
    bits_run,
    feature_run,
    frontier_run,
    kv_cache_run,
    merged_run,
    recovered_run,
    sensitivity_run,
)


def arguments():
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--steps", type=int, default=30, help="of recovery (default: %(default)s)")
    add("--batch-size", type=int, default=2, help=f"rows of {SEQ_LEN} tokens, of recovery (default: %(default)s)")
    add("--learning-rate", type=float, default=0.004, help="peak, of recovery (default: %(default)s)")
    add("--weight", type=float, default=0.9, help="the teacher's share of recovery's loss (default: %(default)s)")
    add("--feature-steps", type=int, default=32, help="of a feature adapter (default: %(default)s)")
    add("--feature-batch-size", type=int, default=4, help="conversations (default: %(default)s)")
    add("--feature-learning-rate", type=float, default=0.006, help="peak (default: %(default)s)")
    add("--records", type=int, default=1000, help="training records a task (default: %(default)s)")
    add("--held-out", type=int, default=50, help="held-out records a task (default: %(default)s)")
    add("--text-rows", type=int, default=30, help="held-out rows of each part of the text (default: %(default)s)")
    add("--sensitivity-rows", type=int, default=32, help="rows of training text (default: %(default)s)")
    add("--folder", type=Path, default=Path("runs/quantization"), help="finished runs are there (default: %(default)s)")
    add("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args()


def jobs(bench):
    """Return {key: function} of all runs, the cheapest answers first."""
    runs = {"sensitivity": partial(sensitivity_run, bench)}
    runs |= {f"bits_{name}": partial(bits_run, bench, name) for name in AVERAGES}
    runs |= {"kv_cache": partial(kv_cache_run, bench), "frontier": partial(frontier_run, bench)}
    runs |= {"alternatives": partial(alternatives_run, bench)}
    for seed in range(bench.a.seeds):
        for rank in sorted(RANKS, key=lambda rank: rank != RANK):
            for name in (name for name in AVERAGES if name != "16"):
                runs[f"recovered_{name}_{rank}_{seed}"] = partial(recovered_run, bench, name, rank, seed)
        for name in FROM_ZERO:
            runs[f"from_zero_{name}_{seed}"] = partial(recovered_run, bench, name, RANK, seed, "zero")
        runs[f"merged_{seed}"] = partial(merged_run, bench, seed)
        for task in FEATURES:
            for start in STARTS:
                runs[f"feature_{start}_{task}_{seed}"] = partial(feature_run, bench, task, start, seed)
    return runs


class Runs:
    """What came out, and intervals over it; differences are paired, by seed or by piece of text."""

    def __init__(self, done, seeds):
        self.done, self.seeds = done, seeds

    def value(self, key, measure):
        """Return one number of a run: bits per byte, or the mean over tasks of nats or of scores."""
        run = self.done[key]
        if measure == "mean_nats":
            return float(np.mean(list(run["nats"].values())))
        if measure == "mean_score":
            return float(np.mean([row["score"] for row in run["scores"].values()]))
        return run[measure]

    def over_seeds(self, key, measure, minus=None):
        """Return the interval over seeds of the runs that key names, minus those that `minus` names."""
        values = [self.value(key.format(seed), measure) for seed in self.seeds]
        if minus is not None:
            values = [x - self.value(minus.format(seed), measure) for x, seed in zip(values, self.seeds)]
        return rounded_interval(values)

    def over_text(self, key, minus="bits_16"):
        """Return the interval, over pieces of the held-out text, of the difference in bits per byte."""
        return rounded_interval(np.subtract(self.done[key]["by_batch"], self.done[minus]["by_batch"]))

    def features(self, start, what):
        """Return a feature's numbers after each start, averaged over tasks: [seeds] or [seeds, evaluations]."""
        keys = [[f"feature_{start}_{task}_{seed}" for task in FEATURES] for seed in self.seeds]
        return np.mean([[self.done[key][what] for key in row] for row in keys], axis=1)


def rounded_interval(values):
    """Return [mean, low, high] of the 95% interval."""
    return [round(x, 5) for x in evaluation.mean_interval(values)]


def intervals(done, seeds):
    """Return the comparisons that the chapter makes, each with its interval."""
    runs = Runs(done, seeds)
    few = [name for name in AVERAGES if name != "16"]
    table = {"without_minus_16_over_text": {name: runs.over_text(f"bits_{name}") for name in few}}
    for measure, ranks in (("bits_per_byte", RANKS), ("mean_nats", RANKS), ("mean_score", (RANK,))):
        part = table[measure] = {name: {"without": runs.value(f"bits_{name}", measure)} for name in AVERAGES}
        for name in few:
            for rank in ranks:
                key = f"recovered_{name}_{rank}_{{}}"
                part[name][str(rank)] = runs.over_seeds(key, measure)
                part[name][f"{rank}_minus_16"] = runs.over_seeds(key, measure, "bits_16")
            key = f"recovered_{name}_{RANK}_{{}}"
            part[name][f"{RANK}_minus_control"] = runs.over_seeds(key, measure, "from_zero_16_{}")
        for name in FROM_ZERO:
            part[name]["from_zero"] = runs.over_seeds(f"from_zero_{name}_{{}}", measure)
    return table | {"features": feature_intervals(runs), "merged": merged_intervals(done, seeds)}


def feature_intervals(runs):
    """Return each start's nats along the way and its score, and what starting from recovery changes."""
    steps = runs.done[f"feature_zero_{FEATURES[0]}_{runs.seeds[0]}"]["steps"]
    table = {}
    for start in STARTS:
        nats = runs.features(start, "nats")
        table[start] = {
            "nats": {str(step): rounded_interval(nats[:, i]) for i, step in enumerate(steps)},
            "score": rounded_interval(runs.features(start, "score")),
        }
    for other in ("zero", "16_bits"):
        nats, score = (runs.features("recovery", what) - runs.features(other, what) for what in ("nats", "score"))
        table[f"recovery_minus_{other}"] = {"nats": rounded_interval(nats[:, -1]), "score": rounded_interval(score)}
    return table


def merged_intervals(done, seeds):
    """Return what merging and palettizing again costs, against the adapter kept beside."""
    merged = [done[f"merged_{seed}"] for seed in seeds]
    costs = [run["palettized_again"]["bits_per_byte"] - run["beside"]["bits_per_byte"] for run in merged]
    return {
        "palettized_again_minus_beside": rounded_interval(costs),
        "kl_nats_per_token": rounded_interval([run["kl_nats_per_token"] for run in merged]),
    }


def main():
    """Run what has not been run yet, then record."""
    a = arguments()
    if a.seeds < 2:
        raise SystemExit("--seeds must be at least 2: one run has no spread")
    _record.keep_compiled(a.folder)  # few structures, many runs
    bench = Bench(a)
    done = _record.finished(jobs(bench), a.folder)
    cpu_s = round(sum(run["cpu_s"] for run in done.values()))
    numbers = {"intervals": intervals(done, range(a.seeds)), "runs": done, "cpu_s": cpu_s}
    config = _record.config_of(a) | {
        "seq_len": SEQ_LEN,
        "feature_seq_len": FEATURE_SEQ_LEN,
        "base": lora.files.fingerprint(bench.params),
    }
    if a.no_ship:
        print(json.dumps(numbers["intervals"], indent=1))
    else:
        print(_record.save("quantization", "python -m experiments.quantization", config, list(range(a.seeds)), numbers))


if __name__ == "__main__":
    main()
