"""REINFORCE, RLOO, PPO, GRPO, DPO and MDLOO at equal samples: the numbers of chapter 11.

    python -m experiments.rlhf                       # call it again to resume; about 80 CPU-minutes
    NPROC=1 python -m experiments.rlhf --stage search --algorithms rloo ppo --no-ship        # one of several
    NPROC=1 python -m experiments.rlhf --seeds 1 --first-seed 2 --no-ship       # side by side
    python -m experiments.rlhf --seeds 2 --iterations 2 --search-iterations 1 --sft-steps 3 --backbone-steps 3 \\
        --backbone-records 20 --records 8 --preference-records 8 --reward-steps 3 --held-out 4 \\
        --folder runs/rlhf_smoke --no-ship

On chapter 10's bench: its student (SFT on hybrid data) is the start and the reference, its reward model the proxy, its
latent utility the truth. All draw 64 responses an iteration and take 2 steps on them.
  search      each algorithm with the same step sizes, on a seed of its own, the utility the reward; the best by
              utility - beta KL at the end on the prompts that it learns on is the one that it keeps
  main        each algorithm with that step size, the reward from the reward model and from the utility itself
  base        the shipped model, before any of it
  beta, gamma MDLOO by the reward model with a weaker and a stronger pull to the reference, and to the previous iterate
"""

import argparse
import dataclasses
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref.lora import files
from afm_ref.teaching.chapters.rlhf import ALGORITHMS as COMPARED
from afm_ref.whole_road import online_rl
from afm_ref.whole_road.bench import TAUGHT, Bench, BenchSizes

from . import _record

RATES = (3e-5, 1e-4, 3e-4, 1e-3)
SEARCH_SEED = 100
SHOWN = ("utility", "proxy", "kl", "held_out_utility")
BETAS, GAMMAS = (0.0, 0.2), (0.1, 2.0)  # beside those of `online_rl.SETTINGS`


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--stage", choices=("search", "all"), default="all")
    add("--algorithms", nargs="+", choices=COMPARED, default=list(COMPARED))
    add("--iterations", type=int, default=online_rl.ITERATIONS)
    add("--search-iterations", type=int, default=12)
    for name in ("held_out", "sft_steps", "records", "backbone_records", "backbone_steps", "preference_records"):
        add(f"--{name.replace('_', '-')}", type=int, default=getattr(BenchSizes, name))
    add("--reward-steps", type=int, default=BenchSizes.reward_steps)
    add("--folder", type=Path, default=Path("runs/rlhf"), help="finished runs and models (default: %(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def bench_of(a):
    """Return the bench of the command line's sizes; its own `iterations` are those of the committee's member."""
    sizes = {name: value for name, value in vars(a).items() if name in BenchSizes.__dataclass_fields__}
    return Bench(BenchSizes(**sizes | {"iterations": BenchSizes.iterations}), a.folder / "bench")


def run(bench, seed, algorithm, judge, rate, iterations, measures=5, **changes):
    """Return the curve of one run, measured so many times after its start, and what each of its iterations saw."""
    settings, every = dataclasses.replace(online_rl.SETTINGS, **changes), max(1, iterations // measures)
    outcome = online_rl.learn(
        bench, seed, algorithm, judge, rate, iterations, settings, measure_every=every, progress=False
    )
    seen = ("reward", "kl_previous", "ratio_max")
    by_iteration = {name: [round(x, 4) for x in outcome.history.evaluation(name)[1].tolist()] for name in seen}
    return {"rate": rate} | online_rl.curve(outcome.history) | {"iterations": by_iteration}


def base_run(bench, seed):
    """Return the utility of the shipped model, before any of it, on the prompts of a seed and on the held-out ones."""
    records = {"utility": bench.records(online_rl.PROMPTS, seed=80 + seed, only=TAUGHT)}
    records["held_out_utility"] = [record for record in bench.held_out if record.task in TAUGHT]
    return {name: float(np.mean(bench.judged(of, bench.sample(bench.base, of, 1, 81)))) for name, of in records.items()}


def search_jobs(bench, a):
    """Return {key: function} of the search for step sizes."""
    return {
        f"search_{algorithm}_{rate:g}": partial(
            run, bench, SEARCH_SEED, algorithm, "utility", rate, a.search_iterations, measures=1
        )
        for algorithm in a.algorithms
        for rate in RATES
    }


def chosen_rates(done, algorithms=COMPARED):
    """Return each algorithm's step size: that of the highest utility - beta KL at the end of its search."""

    def objective(algorithm, rate):
        found = done[f"search_{algorithm}_{rate:g}"]
        return found["utility"][-1] - online_rl.SETTINGS.beta * found["kl"][-1]

    return {algorithm: max(RATES, key=partial(objective, algorithm)) for algorithm in algorithms}


def main_jobs(bench, a, rates):
    """Return {key: function} of the comparison and the grid, seed by seed."""
    jobs = {}
    for seed in range(a.first_seed, a.first_seed + a.seeds):
        jobs[f"base_{seed}"] = partial(base_run, bench, seed)
        for judge in online_rl.JUDGES:
            for algorithm in a.algorithms:
                jobs[f"{judge}_{algorithm}_{seed}"] = partial(
                    run, bench, seed, algorithm, judge, rates[algorithm], a.iterations
                )
        mdloo = partial(run, bench, seed, "mdloo", "reward model", rates.get("mdloo"), a.iterations)
        jobs |= {f"beta_{beta}_{seed}": partial(mdloo, beta=beta) for beta in BETAS}
        jobs |= {f"gamma_{gamma}_{seed}": partial(mdloo, gamma=gamma) for gamma in GAMMAS}
    return jobs


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    (a.folder / "bench").mkdir(parents=True, exist_ok=True)
    # all runs of an algorithm train by the same programs: compile each once
    _record.keep_compiled(a.folder)
    bench = bench_of(a)
    runs = _record.finished(search_jobs(bench, a), a.folder)
    rates = chosen_rates(runs, a.algorithms)
    if a.stage == "all":
        runs |= _record.finished(main_jobs(bench, a, rates), a.folder)
    for key, found in runs.items():
        if "samples" in found:
            ends = "  ".join(f"{name} {found[name][0]:.3f} -> {found[name][-1]:.3f}" for name in SHOWN)
            print(f"{key:32} {ends}")
    if not a.no_ship:
        config = _record.config_of(a) | {"base": files.fingerprint(bench.base), "settings": str(online_rl.SETTINGS)}
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "chosen": rates, "runs": runs}
        seeds = list(range(a.first_seed, a.first_seed + a.seeds))
        print(_record.save("rlhf", "python -m experiments.rlhf", config, seeds, numbers))


if __name__ == "__main__":
    main()
