"""All steps from the shipped model to feature adapters on 3.5 bits, for three seeds: the numbers of chapter 12.

    python -m experiments.pipeline                # call it again to resume; 28 CPU-minutes beside the bench
    NPROC=1 python -m experiments.pipeline --seeds 1 --first-seed 2 --no-ship       # one of several side by side
    python -m experiments.pipeline --seeds 2 --fast --folder runs/pipeline_smoke --bench runs/pipeline_smoke/bench \\
        --no-ship

`python -m afm_ref pipeline` with the seeds 0, 1, 2 and both judges: the reward model, and the utility itself, which
shows what the reward model's errors cost. Intervals are over seeds, of three runs; differences are paired by seed.
A model wrote the demonstrations, a program the other records, a formula the preferences: no person did.
"""

import argparse
from functools import partial
from pathlib import Path

from afm_ref.disk.text_files import read_json
from afm_ref.evaluation import mean_interval
from afm_ref.whole_road import results_table
from afm_ref.whole_road.road import COST, Road
from afm_ref.whole_road.steps import FAST, STEPS, RoadSizes
from afm_ref.whole_road.workshops import JUDGES

from . import _record

MEASURED = [name for name, step in STEPS.items() if step.made is not None]


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--judges", nargs="+", choices=tuple(JUDGES), default=tuple(JUDGES))
    add("--folder", type=Path, default=Path("runs/pipeline_recording"), help="the runs (default: %(default)s)")
    add("--bench", type=Path, default=Path("runs/bench"), help="shared models (default: %(default)s)")
    parser.add_argument("--fast", action="store_true", help="tiny sizes, to see it run")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def run_of(a, judge, seed):
    """Return the run of a judge and a seed, all steps done."""
    run = Road(a.folder / key_of(judge, seed), seed, judge, FAST if a.fast else RoadSizes(), a.bench)
    print(key_of(judge, seed), flush=True)
    run.complete()
    return run


def key_of(judge, seed) -> str:
    """Return the name of a run."""
    return f"{judge.replace(' ', '_')}_{seed}"


def kept(results, answers: bool) -> dict:
    """Return the measures of every step as they are recorded: not prompt by prompt, and answers of one seed alone."""
    left_out = {"by_prompt"} if answers else {"by_prompt", "answers"}
    return {
        name: {key: value for key, value in row.items() if key not in left_out}
        for name, row in results["steps"].items()
    }


def intervals(runs: list[dict]) -> dict:
    """Return {step: {measure: {"mean", "minus_before", "minus_base"}}}, each [mean, low, high] over the seeds' runs."""
    table, before = {}, None
    for name in MEASURED:
        table[name] = {}
        for measure in (*runs[0][name]["utility"], "bits_per_byte"):
            values, first, last = ([value(run, step, measure) for run in runs] for step in (name, "0_base", before))
            if values[0] is not None:
                row = table[name][measure] = {"mean": interval(values), "minus_base": difference(values, first)}
                if before is not None:
                    row["minus_before"] = difference(values, last)
        before = name
    return table


def value(run, step, measure):
    """Return one number of a run's step; None where it was not measured."""
    if step is None:
        return None
    return run[step]["bits_per_byte"] if measure == "bits_per_byte" else run[step]["utility"][measure]


def difference(ours, theirs):
    """Return the interval of the differences, paired."""
    return interval([x - y for x, y in zip(ours, theirs, strict=True)])


def interval(values):
    """Return [mean, low, high] of the 95% interval."""
    return [round(x, 4) for x in mean_interval(values)]


def numbers_of(done, judges, seeds, first) -> dict:
    """Return what is recorded: the runs, and intervals over seeds for each judge, and between the two."""
    runs = {key_of(j, s): kept(done[j, s].results(), answers=s == seeds[0]) for j in judges for s in seeds}
    of = {judge: [runs[key_of(judge, seed)] for seed in seeds] for judge in judges}
    costs = [read_json(done[key].step(name) / COST)["cpu_s"] for key in done for name in STEPS]
    table = {"runs": runs, "prompts": first["prompts"], "cpu_minutes": round(sum(costs) / 60, 1)}
    if len(seeds) > 1:
        table["intervals"] = {judge: intervals(of[judge]) for judge in judges}
    if len(seeds) > 1 and len(judges) > 1:
        table["utility_minus_reward_model"] = {
            step: difference(*([value(run, step, "taught") for run in of[j]] for j in ("utility", "reward model")))
            for step in MEASURED
        }
    return table


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.folder)
    seeds = list(range(a.first_seed, a.first_seed + a.seeds))
    done = {(judge, seed): run_of(a, judge, seed) for judge in a.judges for seed in seeds}
    for key, run in done.items():
        print(*key, "\n" + results_table.table(run.results()))
    if a.no_ship:
        return
    if a.fast or len(seeds) < 2:
        raise SystemExit(
            "a recording needs full sizes and 2 seeds or more: give --no-ship, or --seeds 3 without --fast"
        )
    first = done[a.judges[0], seeds[0]].results()
    config = _record.config_of(a) | {"sizes": {k: v for k, v in first["config"].items() if k not in ("judge", "seed")}}
    numbers = numbers_of(done, a.judges, seeds, first)
    print(_record.save("pipeline", "python -m experiments.pipeline", config, seeds, numbers))


if __name__ == "__main__":
    main()
