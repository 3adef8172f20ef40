"""All steps from pre-training's model to feature adapters on 3.5 bits: the numbers of chapter 12.

    python -m experiments.pipeline                       # call it again to resume; about 60 CPU-minutes
    NPROC=1 python -m experiments.pipeline --share 0 2   # every second run only, and no recording: two side by side
    python -m experiments.pipeline --seeds 2 --fast --folder runs/pipeline_smoke --models runs/pipeline_smoke/models \\
        --no-ship

Question  what does each step from a text predictor to an assistant on a phone bring, on prompts that were held out?
Arms      `python -m afm_ref pipeline`, step by step, by two judges: the reward model of annotators' preferences, and
          the true utility, which shows what the reward model's errors cost
Seeds     3, paired: a seed draws the data of each step, annotators, samples and orders; both judges share its student
          and its reward model
Measured  the true utility of 128 held-out prompts a task x 4 samples after every step; bits per byte of English that no
          step is about; bytes; the likeliest answers to six prompts, of the first seed
Primary   by the reward model, the end of post-training (4_mdloo) less fine-tuning (1_sft): 95% t-interval over seeds
Smallest  4.30 sd / sqrt(3) = 2.5 sd; the gain's sd over seeds was .008 by a reward model of 5,000 prompts
          (experiments.judges): .02 can be seen
A program wrote the records, a formula the preferences: no person did.
"""

from functools import partial

from afm_ref.disk.text_files import read_json
from afm_ref.lora import files
from afm_ref.teaching.chapters import whole_road as chapter
from afm_ref.whole_road.measuring import shown
from afm_ref.whole_road.road import COST, Road
from afm_ref.whole_road.steps import FAST, RoadSizes
from afm_ref.whole_road.workshops import JUDGES

from . import _record


def arguments(line=None):
    """Return the command line's options."""
    parser, add = _record.options("pipeline", __doc__)
    add("--seeds", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help="tiny sizes, to see it run")
    return parser.parse_args(line)


def road(a, judge, seed):
    """Return a road; those of a seed share their student and reward model."""
    folder = a.models / f"{judge.replace(' ', '_')}_{seed}"
    return Road(folder, seed, judge, FAST if a.fast else RoadSizes(), a.models / f"bench_{seed}")


def run(a, judge, seed):
    """Return the measures of every step of one road, and what each cost."""
    walked = road(a, judge, seed)
    steps = walked.complete(progress=False)["steps"]
    for name, row in steps.items():
        row["cost_s"] = read_json(walked.step(name) / COST)["cpu_s"]
        row.pop("by_prompt", None)
        if seed:
            row.pop("answers", None)
    return {"steps": steps}


def prompts_run(a):
    """Return the prompts whose answers are kept."""
    of = shown(road(a, "utility", 0).bench)
    return {"prompts": [{"task": r.task, "prompt": r.prompt, "reference": r.reference} for r in of]}


def jobs(a):
    """Return {key: function} of all runs: a seed's two judges by one share, for they share its models."""
    found = {"prompts": partial(prompts_run, a)}
    return found | {f"{judge}_{seed}": partial(run, a, judge, seed) for judge in JUDGES for seed in range(a.seeds)}


def verdict(numbers):
    """Return the gain of post-training after fine-tuning by both judges, and what the small weights keep."""
    told = {}
    for judge in JUDGES:
        for last, first in (("4_mdloo", "1_sft"), ("7_features", "4_mdloo")):
            name = f"{last} less {first} by the {judge}"
            told[name] = chapter.change(numbers["runs"], judge, last, first)
    return "; ".join(_record.told(*of) for of in told.items())


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.models)
    runs = _record.finished(jobs(a), a.folder, tuple(a.share))
    for key, found in runs.items():
        steps = found.get("steps", {})
        print(key, {name: round(row["utility"]["all"], 3) for name, row in steps.items() if "utility" in row})
        print("    seconds", {name: round(row["cost_s"]) for name, row in steps.items()})
    if not a.no_ship and tuple(a.share) == (0, 1):
        base = files.fingerprint(road(a, "utility", 0).bench.instruct)
        _record.ship("pipeline", a, a.seeds, runs, base, settings=vars(RoadSizes()))


if __name__ == "__main__":
    main()
