"""A small model from scratch, cut from a larger one, and taught by it: the pruning numbers of chapter 2.

    python -m experiments.pruning                       # call it again to resume; about 26 CPU-minutes
    NPROC=1 python -m experiments.pruning --stage search --no-ship                 # the step sizes alone
    NPROC=1 python -m experiments.pruning --seeds 1 --first-seed 2 --no-ship       # side by side, after the search
    python -m experiments.pruning --seeds 2 --parent-steps 4 --mask-steps 3 --steps 4 --search-steps 2 \\
        --folder runs/pruning_smoke --no-ship

As AFM-on-device was made, at toy size: a parent with three times the FFN width, masks learnt on the same text, the
student cut out of it. Everything is of the seed: parent, masks, batches. All students see the same batches.
  parent      trained from scratch; the teacher, too
  masks       learnt with the parent's weights, from scores of 0 and from scores by activation; what is left just after
              slicing, beside slicing the parent itself by activation, by magnitude and by lot
  search      from scratch and from the pruned start at the same step sizes, on a seed of its own
  main        scratch, pruned, each with and without distillation, and the parent sliced by activation without masks
  long        from scratch for as many steps as parent, masks and student took FLOPs together
"""

import argparse
from functools import cache, lru_cache, partial
from pathlib import Path

import jax
import numpy as np

from afm_ref import evaluation, transformer
from afm_ref.config import AFMConfig, forward_flops_per_token, train_flops_per_token
from afm_ref.data import mixture, packing
from afm_ref.data.corpora import Document
from afm_ref.losses import next_token
from afm_ref.pretraining import (
    afm_optimizer,
    criteria,
    distillation,
    pruning,
    soft_top_k,
    tiny_optimizer,
    warmup_cosine,
)
from afm_ref.training import fit

from . import _record

WIDTH, KEPT = 1152, 384  # F of the parent and of the student: one third survives, as at Apple
STUDENT = AFMConfig(d_model=128, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=32, d_ff=KEPT, vocab_size=2048)
PARENT = AFMConfig.from_dict(STUDENT.to_dict() | {"d_ff": WIDTH})
SEQ_LEN, ROWS = 128, 4
RATES, PARENT_RATE = (0.003, 0.006, 0.012), 0.006
MASK_RATE, SCORE_SCALE = 0.003, 5.0  # scores move by some 0.015 a step, five times as fast as weights
ANNEALING = (1.0, 0.03)
SEARCH_SEED = 100
STARTS = ("activation", "zero")  # of the scores
ARMS = ("scratch", "pruned", "pruned_distilled", "scratch_distilled", "sliced")
PART_BYTES = {"english": 18_000, "code": 10_000, "everyday": 8_000, "tasks": 4_000}  # the mixture's shares
PARTS = {"topics": "english", "docstrings": "english", "code": "code", "everyday": "everyday", "tasks": "tasks"}


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--stage", choices=("search", "all"), default="all")
    add("--parent-steps", type=int, default=700)
    add("--mask-steps", type=int, default=120)
    add("--steps", type=int, default=400)
    add("--search-steps", type=int, default=200)
    add("--measures", type=int, default=4)
    add("--folder", type=Path, default=Path("runs/pruning"), help="finished runs and models (default: %(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


@cache
def text():
    """Return (training rows, {"english", "rest": held-out rows}); the held-out text is a part of the whole."""
    from afm_ref import assets
    from afm_ref.interop import hugging_face

    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    train, held_out = mixture.pretraining_documents(progress=False)
    chosen = {"english": [], "rest": []}
    for part, limit in PART_BYTES.items():
        size = 0
        for document in held_out:
            if PARTS[document.source] == part and size < limit:
                piece = Document(document.text[:3000], document.source, document.name, document.markers)
                chosen["english" if part == "english" else "rest"].append(piece)
                size += len(piece.text.encode())
    rows = {name: packing.pack_for_evaluation(of, tokenizer, SEQ_LEN) for name, of in chosen.items()}
    return packing.pack(train, tokenizer, SEQ_LEN), rows


LOSSES = {cfg: partial(next_token, cfg=cfg) for cfg in (STUDENT, PARENT)}  # one object each: compiled once


def bits(params, cfg) -> dict:
    """Return held-out bits per byte of the English and of all of the text."""
    nats = {}
    for name, rows in text()[1].items():
        batches = packing.evaluation_batches(rows, 16)
        nats[name] = evaluation.total_loss(params, LOSSES[cfg], batches, progress=False)[0] / np.log(2)
    sizes = {name: rows.text_bytes for name, rows in text()[1].items()}
    found = {"english": nats["english"] / sizes["english"], "all": sum(nats.values()) / sum(sizes.values())}
    return {name: round(float(value), 4) for name, value in found.items()}


def train(params, cfg, rate, steps, batches, a, loss=None, measures=None):
    """Return (trained params, curve): {"steps", "english", "all"} from before the first step on."""
    every = max(1, steps // (measures or a.measures))
    result = fit(
        params, loss or LOSSES[cfg], batches, tiny_optimizer(cfg, rate, steps), steps,
        evaluate=partial(bits, cfg=cfg), evaluate_every=every, progress=False,
    )  # fmt: skip
    found = {name: result.history.evaluation(name)[1].tolist() for name in ("english", "all")}
    return result.params, {"steps": result.history.evaluation("all")[0].tolist()} | found


def batches_of(seed, stage):
    """Return the batches of one stage of a seed: parent and masks, or student."""
    return packing.batches(text()[0], ROWS, seed=2 * seed + stage)


def keep_params(a, name, params):
    """Write the leaves of plain params."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(params)]
    np.savez(a.folder / f"{name}.npz", **{str(i): leaf for i, leaf in enumerate(leaves)})


@lru_cache(maxsize=8)
def kept_params(folder, name, cfg):
    """Return the params that `keep_params` wrote."""
    tree = jax.tree.structure(transformer.init(cfg, 0))
    with np.load(folder / f"{name}.npz") as leaves:
        return jax.tree.unflatten(tree, [leaves[str(i)] for i in range(len(leaves.files))])


def parent_run(a, seed):
    """Train the parent."""
    params, curve = train(
        transformer.init(PARENT, seed), PARENT, PARENT_RATE, a.parent_steps, batches_of(seed, 0), a, measures=2
    )
    keep_params(a, f"parent_{seed}", params)
    return curve


def masks_run(a, seed, start):
    """Learn masks from one start, slice, and say what is left; keep the student."""
    parent, batches = kept_params(a.folder, f"parent_{seed}", PARENT), batches_of(seed, 0)
    scores = None
    if start == "activation":
        scores = criteria.standardised(by_activation(parent, seed, a))
    optimizer = afm_optimizer(
        MASK_RATE, warmup_cosine(a.mask_steps // 20, a.mask_steps),
        update_scale=lambda path: SCORE_SCALE if path.endswith("scores") else 1.0,
    )  # fmt: skip
    result = pruning.learn(
        pruning.with_masks(parent, KEPT, scores), PARENT, lambda step: batches(a.parent_steps + step), optimizer,
        a.mask_steps, pruning.Annealing(*ANNEALING, a.mask_steps), progress=False,
    )  # fmt: skip
    student, cfg = pruning.slice_ffn(result.params, PARENT, KEPT)
    keep_params(a, f"masked_{start}_{seed}", student)
    mask = pruning.masks(result.params)
    learnt = [np.asarray(layer.w_down.scores) for layer in result.params.layers]
    return {
        "sliced": bits(student, cfg),
        "masked": round(masked_bits(result.params), 4),
        "loss": np.round(result.history.loss[[0, -1]], 4).tolist(),
        "mask_sum": np.round(mask.sum(-1), 4).tolist(),
        "by_eps": by_eps(learnt),
        "kept_of_activation": overlap(learnt, by_activation(parent, seed, a)),
    }


def masked_bits(params):
    """Return bits per byte of all held-out text under the soft masks."""
    batches = [batch for rows in text()[1].values() for batch in packing.evaluation_batches(rows, 16)]
    nats, _ = evaluation.total_loss(params, LOSSES[PARENT], batches, progress=False)
    return float(nats / np.log(2) / sum(rows.text_bytes for rows in text()[1].values()))


def by_activation(parent, seed, a):
    """Return the scores by activation on one batch of 16 rows that the parent has not trained on yet."""
    batch = packing.batches(text()[0], 16, seed=2 * seed)(a.parent_steps // 4 + 50)
    return criteria.by_activation(parent, batch, PARENT)


def by_eps(scores):
    """Return how binary these scores' masks are at several eps, and what sum the truncated iteration reaches."""
    scores, found = np.stack(scores).astype(np.float64), {}
    for eps in (1.0, 0.3, 0.1, 0.03, 0.01):
        truncated = soft_top_k.coordinate_descent(scores, KEPT, eps)
        found[f"{eps:g}"] = {
            "undecided": round(pruning.undecided(soft_top_k.soft_top_k(scores, KEPT, eps)), 4),
            "exact": float(soft_top_k.soft_top_k(scores, KEPT, eps).sum(-1).mean() / KEPT),
            "truncated": round(float(truncated.sum(-1).mean() / KEPT), 4),
        }
    return found


def overlap(scores, others):
    """Return the share of the channels kept by `scores` that `others` would keep."""
    pairs = [(soft_top_k.hard_top_k(np.asarray(s), KEPT), soft_top_k.hard_top_k(np.asarray(o), KEPT))
             for s, o in zip(scores, others, strict=True)]  # fmt: skip
    return round(float(np.mean([(s * o).sum() / KEPT for s, o in pairs])), 4)


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
    parent = bits(kept_params(a.folder, f"parent_{seed}", PARENT), PARENT)
    return {"parent": parent} | {c: bits(sliced(a, seed, c), STUDENT) for c in ("activation", "magnitude", "lot")}


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
    _, curve = train(params, STUDENT, rate, steps or a.steps, batches, a, DISTILLED if taught else None, measures)
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


def long_steps(a) -> int:
    """Return the steps from scratch that cost what parent, masks and pruned student cost together."""
    cost = flops(a)
    return round((cost["parent"] + cost["masks"] + cost["student"]) / cost["student_step"])


def start_jobs(a, seed, starts=STARTS):
    """Return {key: function} of a seed's parent and masks."""
    jobs = {f"parent_{seed}": partial(parent_run, a, seed), f"slices_{seed}": partial(slices_run, a, seed)}
    return jobs | {f"masks_{start}_{seed}": partial(masks_run, a, seed, start) for start in starts}


def search_jobs(a):
    """Return {key: function} of the search for step sizes, with the seed's own parent and masks."""
    return start_jobs(a, SEARCH_SEED, STARTS[:1]) | {
        f"search_{arm}_{rate:g}": partial(student_run, a, SEARCH_SEED, arm, rate, a.search_steps, measures=1)
        for arm in ARMS[:2]
        for rate in RATES
    }


def chosen_rates(done):
    """Return each arm's step size: the best of its start, found without distillation."""
    best = {arm: min(RATES, key=lambda rate: done[f"search_{arm}_{rate:g}"]["all"][-1]) for arm in ARMS[:2]}
    return {arm: best["scratch" if arm.startswith("scratch") else "pruned"] for arm in ARMS}


def main_jobs(a, rates):
    """Return {key: function} of the comparison, seed by seed; the long runs come last."""
    jobs, seeds = {}, range(a.first_seed, a.first_seed + a.seeds)
    for seed in seeds:
        jobs |= start_jobs(a, seed)
        jobs |= {f"{arm}_{seed}": partial(student_run, a, seed, arm, rates[arm]) for arm in ARMS}
    long = {f"long_{seed}": partial(student_run, a, seed, "scratch", rates["scratch"], long_steps(a)) for seed in seeds}
    return jobs | long


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    a.folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str((a.folder / "compiled").resolve()))
    runs = _record.finished(search_jobs(a), a.folder)
    rates = chosen_rates(runs)
    if a.stage == "all":
        runs |= _record.finished(main_jobs(a, rates), a.folder)
    for key, found in runs.items():
        print(f"{key:28} {found.get('all') or {k: v for k, v in found.items() if k != 'by_eps'}}")
    if not a.no_ship:
        config = _record.config_of(a) | {"student": STUDENT.to_dict(), "parent_d_ff": WIDTH}
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "chosen": rates,
                   "flops": flops(a), "long_steps": long_steps(a), "runs": runs}  # fmt: skip
        seeds = list(range(a.first_seed, a.first_seed + a.seeds))
        print(_record.save("pruning", "python -m experiments.pruning", config, seeds, numbers))


if __name__ == "__main__":
    main()
