"""Hybrid data, reward models and the teaching committee: the numbers of chapter 10.

    python -m experiments.post_training              # call it again to resume; about 80 CPU-minutes
    NPROC=1 python -m experiments.post_training --seeds 1 --first-seed 2 --no-ship    # one of several side by side
    python -m experiments.post_training --seeds 2 --sft-steps 3 --backbone-steps 3 --backbone-records 20 \\
        --records 8 --preference-records 8 --reward-steps 3 --held-out 4 --best-of 4 --committee-records 6 \\
        --member-steps 2 --refresh-steps 2 --iterations 1 --rounds 2 --folder runs/post_training_smoke --no-ship

Three tasks (summaries, questions, sums) with a latent utility that is computed; simulated annotators who see it with
noise; all measured on held-out prompts, on the shipped model:
  base        the shipped model, before any of it
  hybrid      fine-tuning on demonstrations alone, with evolved records, with sampled solutions, and with both
  reward      reward models with soft or hard labels, with and without the grades: pairs, calibration, the best of n
  committee   three rounds of SFT, rejection sampling, DPO, IPO and MDLOO with a refreshed reward model, on summaries
              and questions; then its choice per prompt against one teacher and each member, all drawing as many
              samples; once more with the utility itself as the reward, which shows what the reward model's errors cost
A model wrote the demonstrations, a program the other records, a formula the preferences: no person did.
"""

import argparse
from functools import partial
from pathlib import Path

from afm_ref.lora import files
from afm_ref.whole_road.bench import MAIN, VARIANTS, Bench
from afm_ref.whole_road.workshops import JUDGES

from . import _record
from ._post_training import PARTS, base_run, committee_run, hybrid_run, reward_run


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--held-out", type=int, default=60, help="held-out prompts a task (default: %(default)s)")
    add("--held-out-seed", type=int, default=10_000)
    add("--learning-rate", type=float, default=0.003, help="peak, of SFT from the base (default: %(default)s)")
    add("--sft-steps", type=int, default=120)
    add("--records", type=int, default=200, help="records a task to be solved (default: %(default)s)")
    add("--backbone-records", type=int, default=2500, help="a task (default: %(default)s)")
    add("--backbone-steps", type=int, default=1000)
    add("--preference-records", type=int, default=450, help="a task (default: %(default)s)")
    add("--reward-steps", type=int, default=600)
    add("--reward-rate", type=float, default=0.001)
    add("--reward-batch", type=int, default=6, help="prompts (default: %(default)s)")
    add("--best-of", type=int, default=12, help="samples a held-out prompt (default: %(default)s)")
    add("--rounds", type=int, default=3)
    add("--committee-records", type=int, default=100, help="prompts a task (default: %(default)s)")
    add("--newest", type=int, default=400, help="preferences that DPO and IPO learn from (default: %(default)s)")
    add("--member-steps", type=int, default=30)
    add("--member-rate", type=float, default=0.0005, help="of SFT members and the student (default: %(default)s)")
    add("--preference-rate", type=float, default=0.0003, help="of DPO and IPO (default: %(default)s)")
    add("--online-rate", type=float, default=0.0003, help="of MDLOO (default: %(default)s)")
    add("--iterations", type=int, default=10, help="of MDLOO (default: %(default)s)")
    add("--beta", type=float, default=0.05)
    add("--gamma", type=float, default=0.5)
    add("--refresh-steps", type=int, default=40)
    add("--refresh-rate", type=float, default=0.0002)
    add("--folder", type=Path, default=Path("runs/post_training"), help="finished runs (default: %(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def jobs(bench):
    """Return {key: function} of all runs, seed by seed."""
    runs = {"base": partial(base_run, bench)}
    for seed in range(bench.sizes.first_seed, bench.sizes.first_seed + bench.sizes.seeds):
        runs |= {f"hybrid_{part}_{seed}": partial(hybrid_run, bench, part, seed) for part in PARTS}
        variants = sorted(VARIANTS, key=lambda variant: variant == MAIN)  # the one that the committee goes on with
        runs |= {f"reward_{variant}_{seed}": partial(reward_run, bench, variant, seed) for variant in variants}
        runs |= {f"committee_{judge}_{seed}": partial(committee_run, bench, judge, seed) for judge in JUDGES}
    return runs


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    # every round trains by the same programs: compile each once
    _record.keep_compiled(a.folder)
    bench = Bench(a, a.folder)
    runs = _record.finished(jobs(bench), a.folder)
    seeds = list(range(a.first_seed, a.first_seed + a.seeds))
    numbers = {"cpu_minutes": round(sum(run["cpu_s"] for run in runs.values()) / 60, 1), "runs": runs}
    for key, run in runs.items():
        print(f"{key:40} {summary(run)}")
    if not a.no_ship:
        config = _record.config_of(a) | {"base": files.fingerprint(bench.base)}
        print(_record.save("post_training", "python -m experiments.post_training", config, seeds, numbers))


def summary(run):
    """Return the one number of a run that says the most."""
    if "rounds" in run:
        last = run["rounds"][-1]["utility"]
        return f"utility of the student {last['start']['taught']:.3f} -> {last['student']['taught']:.3f}"
    return f"accuracy {run['accuracy']['all']:.3f}" if "accuracy" in run else f"utility {run['utility']['all']:.3f}"


if __name__ == "__main__":
    main()
