"""A small model from scratch, cut from a larger one, and taught by it: the pruning numbers of chapter 5.

    python -m experiments.pruning                       # call it again to resume; about 52 CPU-minutes
    NPROC=1 python -m experiments.pruning --stage search --no-ship                 # the step sizes alone
    NPROC=1 python -m experiments.pruning --seeds 1 --first-seed 2 --no-ship       # side by side, after the search
    python -m experiments.pruning --seeds 2 --parent-steps 4 --mask-steps 3 --steps 4 --search-steps 2 \\
        --folder runs/pruning_smoke --no-ship

Question  is a student cut out of a larger model, and taught by it, better than one trained from scratch?
Arms      from scratch and pruned, each with and without the teacher; sliced by activation without masks; from scratch
          for the FLOPs of student and teacher, and of all

As AFM-on-device was made, at toy size: a parent with three times the FFN width, masks learnt on the same text, the
student cut out of it. Everything is of the seed: parent, masks, batches. All students see the same batches.
  parent      trained from scratch; the teacher, too
  masks       learnt with the parent's weights, from scores of 0 and from scores by activation; what is left just after
              slicing, beside slicing the parent itself by activation, by magnitude and by lot
  search      each arm at the same step sizes, on a seed of its own; the best by accuracy, which
              all arms can be compared by
  main        scratch, pruned, each with and without distillation, and the parent sliced by activation without masks
  more        from scratch for as many steps as the student and the teacher's reading took FLOPs together
  long        the same for parent, masks and student together
Bits per byte cannot compare students with and without a teacher, whose mixed target is not the text's distribution; the
share of held-out tokens guessed right can, and so can bits per byte at each student's best temperature.
"""

import argparse
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np

from afm_ref import transformer
from afm_ref.config import forward_flops_per_token, train_flops_per_token
from afm_ref.data import packing
from afm_ref.evaluation import mean_interval
from afm_ref.pretraining import afm_optimizer, distillation, pruning, warmup_cosine
from afm_ref.pretraining.pruning import criteria

from . import _record
from ._pruning import (
    KEPT,
    PARENT,
    ROWS,
    SEQ_LEN,
    STUDENT,
    WIDTH,
    batches_of,
    by_eps,
    keep_params,
    kept_params,
    masked_bits,
    measured,
    overlap,
    text,
    train,
)

RATES, PARENT_RATE = (0.00075, 0.0015, 0.003, 0.006, 0.012, 0.024, 0.048), 0.006
MASK_RATE, SCORE_SCALE = 0.003, 5.0  # scores move by some 0.015 a step, five times as fast as weights
ANNEALING = (1.0, 0.03)
SEARCH_SEED = 100
STARTS = ("activation", "zero")  # of the scores
SHOWN = (0, "activation")  # the run whose scores are recorded, to three decimals
ARMS = ("scratch", "pruned", "pruned_distilled", "scratch_distilled", "sliced")


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--stage", choices=("search", "all"), default="all")
    add("--parent-steps", type=int, default=2400)
    add("--mask-steps", type=int, default=150)
    add("--steps", type=int, default=600)
    add("--search-steps", type=int, default=200)
    add("--measures", type=int, default=4)
    add("--folder", type=Path, default=Path("runs/pruning"), help="finished runs and models (default: %(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def parent_run(a, seed):
    """Train the parent."""
    params, curve = train(transformer.init(PARENT, seed), PARENT, PARENT_RATE, a.parent_steps, batches_of(seed, 0), 2)
    keep_params(a.folder, f"parent_{seed}", params)
    return curve


def masks_run(a, seed, start):
    """Learn masks from one start, slice, and say what is left; keep the student."""
    parent, batches = kept_params(a.folder, f"parent_{seed}", PARENT), batches_of(seed, 0)
    scores = None
    if start == "activation":
        scores = criteria.starting_scores(by_activation(parent, seed, a))
    optimizer = afm_optimizer(
        MASK_RATE, warmup_cosine(a.mask_steps // 20, a.mask_steps),
        update_scale=lambda path: SCORE_SCALE if path.endswith("scores") else 1.0,
    )  # fmt: skip
    result = pruning.learn_masks(
        pruning.with_masks(parent, KEPT, scores), PARENT, lambda step: batches(a.parent_steps + step), optimizer,
        a.mask_steps, pruning.Annealing(*ANNEALING, a.mask_steps), progress=False,
    )  # fmt: skip
    student, cfg = pruning.slice_ffn(result.params, PARENT, KEPT)
    keep_params(a.folder, f"masked_{start}_{seed}", student)
    mask = pruning.mask_values(result.params)
    learnt = np.round([np.asarray(layer.w_down.scores, np.float64) for layer in result.params.layers], 3)
    return {
        "sliced": measured(student, cfg),
        "masked": round(masked_bits(result.params), 4),
        "loss": np.round(result.history.loss[[0, -1]], 4).tolist(),
        "mask_sum": np.round(mask.sum(-1), 4).tolist(),
        "by_eps": by_eps(learnt),
        "kept_of_activation": overlap(learnt, by_activation(parent, seed, a)),
    } | ({"scores": learnt.tolist()} if (seed, start) == SHOWN else {})


def by_activation(parent, seed, a):
    """Return the scores by activation on one batch of 16 rows that the parent has not trained on yet."""
    batch = packing.batches(text()[0], 16, seed=2 * seed)(a.parent_steps // 4 + 50)
    return criteria.by_activation(parent, batch, PARENT)


def sliced(a, seed, criterion):
    """Return the student cut out of the parent by a criterion, without learning."""
    parent = kept_params(a.folder, f"parent_{seed}", PARENT)
    made = {
        "activation": lambda: by_activation(parent, seed, a),
        "magnitude": lambda: criteria.by_magnitude(parent),
        "lot": lambda: criteria.by_lot(parent, seed),
    }
    return pruning.slice_ffn(pruning.with_masks(parent, KEPT, made[criterion]()), PARENT, KEPT)[0]


def slices_run(a, seed):
    """Measure the parent and what slicing leaves of it by each criterion."""
    parent = measured(kept_params(a.folder, f"parent_{seed}", PARENT), PARENT)
    return {"parent": parent} | {c: measured(sliced(a, seed, c), STUDENT) for c in ("activation", "magnitude", "lot")}


@cache
def taught_batches(folder, seed):
    """Return the student's batches of a seed with the parent's tokens, each made once."""
    teacher = kept_params(folder, f"parent_{seed}", PARENT)
    return lru_cache(maxsize=None)(distillation.taught(batches_of(seed, 1), teacher, PARENT))


DISTILLED = partial(distillation.mixed_target, cfg=STUDENT)


def student_run(a, seed, arm, rate, steps=None, measures=None):
    """Train one student."""
    if arm.startswith("scratch"):
        params = transformer.init(STUDENT, 50 + seed)
    elif arm == "sliced":
        params = sliced(a, seed, "activation")
    else:
        params = kept_params(a.folder, f"masked_{STARTS[0]}_{seed}", STUDENT)
    taught = arm.endswith("distilled")
    batches = taught_batches(a.folder, seed) if taught else batches_of(seed, 1)
    loss = DISTILLED if taught else None
    _, curve = train(params, STUDENT, rate, steps or a.steps, batches, measures or a.measures, loss)
    return {"rate": rate} | curve


def flops(a) -> dict:
    """Return the FLOPs of each stage, a multiply-add counted as two."""
    tokens = SEQ_LEN * ROWS
    student, parent = (train_flops_per_token(cfg, SEQ_LEN) * tokens for cfg in (STUDENT, PARENT))
    return {
        "student_step": student,
        "parent": parent * a.parent_steps,
        "masks": parent * a.mask_steps,
        "student": student * a.steps,
        "teacher": forward_flops_per_token(PARENT, SEQ_LEN) * tokens * a.steps,
    }


EQUAL = {"more": ("student", "teacher"), "long": ("parent", "masks", "student")}  # what the steps shall cost together


def equal_steps(a) -> dict:
    """Return the steps from scratch that cost what other ways cost: {"more": ..., "long": ...}."""
    cost = flops(a)
    return {key: round(sum(cost[part] for part in parts) / cost["student_step"]) for key, parts in EQUAL.items()}


def start_jobs(a, seed, starts=STARTS):
    """Return {key: function} of a seed's parent and masks."""
    jobs = {f"parent_{seed}": partial(parent_run, a, seed), f"slices_{seed}": partial(slices_run, a, seed)}
    return jobs | {f"masks_{start}_{seed}": partial(masks_run, a, seed, start) for start in starts}


def search_jobs(a):
    """Return {key: function} of the search for step sizes, with the seed's own parent and masks."""
    return start_jobs(a, SEARCH_SEED, STARTS[:1]) | {
        f"search_{arm}_{rate:g}": partial(student_run, a, SEARCH_SEED, arm, rate, a.search_steps, measures=1)
        for arm in ARMS[:4]
        for rate in RATES
    }


def chosen_rates(done):
    """Return each arm's step size: the best of its own search; that of the pruned start without masks, too."""
    best = {arm: max(RATES, key=lambda rate: done[f"search_{arm}_{rate:g}"]["accuracy"][-1]) for arm in ARMS[:4]}
    return best | {"sliced": best["pruned"]}


def main_jobs(a, rates):
    """Return {key: function} of the comparison, seed by seed; the longer runs from scratch come last."""
    jobs, seeds = {}, range(a.first_seed, a.first_seed + a.seeds)
    for seed in seeds:
        jobs |= start_jobs(a, seed)
        jobs |= {f"{arm}_{seed}": partial(student_run, a, seed, arm, rates[arm]) for arm in ARMS}
    from_scratch = partial(student_run, a, arm="scratch", rate=rates["scratch"])
    return jobs | {
        f"{key}_{seed}": partial(from_scratch, seed=seed, steps=steps)
        for key, steps in equal_steps(a).items()
        for seed in seeds
    }


def verdict(numbers):
    """Return the lead in accuracy over training from scratch, and over as many FLOPs from scratch, by seed."""
    runs, told = numbers["runs"], []
    seeds = [key.split("_")[-1] for key in runs if key.startswith("long_")]
    for other in ("scratch", "more", "long"):
        ours, theirs = ([runs[f"{arm}_{s}"]["accuracy"][-1] for s in seeds] for arm in ("pruned_distilled", other))
        told.append(_record.told(f"pruned and distilled less {other}", mean_interval(np.subtract(ours, theirs))))
    return "accuracy: " + "; ".join(told)


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.folder)
    runs = _record.finished(search_jobs(a), a.folder)
    rates = chosen_rates(runs)
    if a.stage == "all":
        runs |= _record.finished(main_jobs(a, rates), a.folder)
    for key, found in runs.items():
        numbers = {name: value for name, value in found.items() if name not in ("by_eps", "scores")}
        print(f"{key:28} {found.get('all') or numbers}")
    if not a.no_ship:
        config = _record.config_of(a) | {"student": STUDENT.to_dict(), "parent_d_ff": WIDTH}
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "chosen": rates,
                   "flops": flops(a), "equal_steps": equal_steps(a), "runs": runs}  # fmt: skip
        seeds = list(range(a.first_seed, a.first_seed + a.seeds))
        print(_record.save("pruning", "python -m experiments.pruning", config, seeds, numbers))


if __name__ == "__main__":
    main()
