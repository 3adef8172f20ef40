"""Apple's optimizer, term by term, and how its learning rate carries over to other widths: numbers of chapter 3.

    python -m experiments.optimizer                            # call it again to resume; about 25 CPU-minutes
    NPROC=1 python -m experiments.optimizer --stage widths --no-ship              # one of several, side by side
    NPROC=1 python -m experiments.optimizer --stage terms --no-ship
    python -m experiments.optimizer --steps 3 --seeds 2 --widths 32 64 --rates 2 --extensions 0 --documents 60 \\
        --held-out-rows 4 --folder runs/optimizer_smoke --no-ship

Small models of two layers on rows of 128 tokens of the shipped tokenizer's text; what counts is the loss on held-out
rows at the end. A seed draws the weights and the order of the rows, the same for all that is compared.
  widths   the standard parametrisation and muP-simple, rate by rate; a row of rates is made longer until no seed has
           its best rate at the end of it. At the base width both are the same and run once
  terms    Apple's update whole and with one term changed, near its best rate, 4 and 16 times that; Adam and Adafactor,
           each with a row of rates of its own
  stress   one batch of random tokens whose loss counts a thousandfold, after two thirds of the steps
  counts   what counting alone reaches: frequencies of tokens and of pairs in the very rows that a run sees
"""

import argparse
import math
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
import optax

from afm_ref import containers, losses, transformer
from afm_ref.assets import load_tiny
from afm_ref.data import packing, pretraining_text
from afm_ref.evaluation import total_loss
from afm_ref.pretraining import ablations, afm_optimizer, mup_check, mup_scales, warmup_cosine
from afm_ref.pretraining.mup import on_matrices
from afm_ref.training import fit

from . import _record

SEQ_LEN, BATCH_SIZE, BASE_DIM, VOCAB = 128, 4, 32, 2048
TERMS_DIM = 64
PARAMETRISATIONS = ("standard", "mup_simple")
LIMITS_OFF = {"clip_norm": math.inf, "skip_norm": math.inf}
VARIANTS = {  # settings of afm_optimizer
    "whole": {},
    "no block clip": {"update_clip": math.inf},
    "no global clip": {"clip_norm": math.inf},
    "no bias correction": {"rule": ablations.uncorrected},
    "momentum over the gradient": {"rule": ablations.momentum_over_gradient},
    "no momentum": {"b1": 0.0},
    "factored second moment": {"rule": ablations.factored},
    "no weight decay": {"weight_decay": 0.0},
}
STRESSED = {  # without the stress no norm comes near skip_norm: there "no skip" is the whole update, bit for bit
    "whole": {},
    "no skip": {"skip_norm": math.inf},
    "no skip, no global clip": LIMITS_OFF,
    "no limit at all": LIMITS_OFF | {"update_clip": math.inf},
}
TIMES = (1, 4, 16)  # the rates of the terms, in units of Apple's best
TERMS_RATE = 2.0**-5  # Apple's best at TERMS_DIM or just below it; a test holds it against the recording
FIRST = {"mup_simple": 2.0**-8, "standard": 2.0**-8, "adam": 2.0**-9, "adafactor": 2.0**-5}  # lowest rates to begin
# pairs as if seen by frequency before each token: the best of 4, 16, 64, 256 on the 80 training rows after a run's
PAIRS_PRIOR = 16
PUBLISHED_RATES = 4  # in the rows of the published optimizers to begin with


def adam(learning_rate, schedule):
    """Return AdamW; optax counts steps from 0."""
    return optax.adamw(lambda count: learning_rate * schedule(count + 1), weight_decay=0.01)


def adafactor(learning_rate, schedule):
    """Return Adafactor."""
    return optax.adafactor(lambda count: learning_rate * schedule(count + 1), min_dim_size_to_factor=1)


PUBLISHED = {"adam": adam, "adafactor": adafactor}


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--stage", choices=("widths", "terms", "all"), default="all")
    add("--seeds", type=int, default=3)
    add("--steps", type=int, default=100)
    add("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    add("--rates", type=int, default=6, help="rates in a row to begin with, each twice the one before")
    add("--extensions", type=int, default=4, help="how often a row may be made longer")
    add("--documents", type=int, default=4000, help="training documents at most")
    add("--held-out-rows", type=int, default=48)
    add("--folder", type=Path, default=Path("runs/optimizer"), help="finished runs (default: %(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


@cache
def documents():
    """Return (training documents, held-out documents)."""
    return pretraining_text.pretraining_documents(0, progress=False)


@cache
def training_rows(limit: int):
    """Return the first documents in rows."""
    return packing.pack(documents()[0][:limit], load_tiny()[2], SEQ_LEN)


@cache
def held_out_batches(rows: int):
    """Return so many held-out rows, drawn from all of them, as batches."""
    held = packing.pack(documents()[1], load_tiny()[2], SEQ_LEN)
    chosen = np.random.default_rng(0).choice(len(held.tokens), rows, replace=False)
    return [packing.batch_of(held, part) for part in np.array_split(chosen, max(1, rows // 16))]


@cache
def losses_of(cfg):
    """Return (the loss of (batch, how much it counts), the plain loss); the same objects at every call."""

    def weighted(params, batch):
        loss_sum, count = losses.next_token(params, batch[0], cfg)
        return batch[1] * loss_sum, count

    return weighted, partial(losses.next_token, cfg=cfg)


def batches_of(rows, seed, corrupted_step=None):
    """Return step -> (batch, weight 1); at the corrupted step random tokens that count a thousandfold."""
    plain = packing.batches(rows, BATCH_SIZE, seed)

    def batch(step):
        found = plain(step)
        if step != corrupted_step:
            return found, np.float32(1)
        tokens, targets = np.random.default_rng((seed, 9)).integers(0, VOCAB, (2, *found.tokens.shape), np.int32)
        return found._replace(tokens=tokens, targets=targets), np.float32(1000)

    return batch


def run(a, seed, d_model, rate, make=afm_optimizer, scaled=False, corrupted=False):
    """Return the held-out loss of one run at its end, and what the gradients' norms were."""
    cfg = mup_check.width_config(d_model, 2, VOCAB, 32)
    loss, plain = losses_of(cfg)
    schedule = warmup_cosine(max(1, a.steps // 10), a.steps)
    published = make in PUBLISHED.values()
    scale = {} if published else {"update_scale": mup_scales(cfg, BASE_DIM) if scaled else on_matrices(1.0)}
    # the rate lies in the optimizer's state: one program for all rates and seeds
    optimizer = optax.inject_hyperparams(lambda learning_rate: make(learning_rate, schedule, **scale))(
        learning_rate=rate
    )
    params = transformer.init(cfg, seed)
    if not published:  # optax's blocks are whole leaves, of all layers if they are stacked
        params = params._replace(layers=containers.group(params.layers))
    corrupted_step = 2 * a.steps // 3 if corrupted else None
    batches = batches_of(training_rows(a.documents), seed, corrupted_step)
    try:
        result = fit(params, loss, batches, optimizer, a.steps, progress=False)
    except FloatingPointError:
        return {"rate": rate, "loss": None, "diverged": True}
    final = np.divide(*total_loss(result.params, plain, held_out_batches(a.held_out_rows), progress=False))
    norms = np.asarray(result.history.grad_norm)
    return {
        "rate": rate,
        "loss": round(float(final), 5) if np.isfinite(final) else None,
        "diverged": not final < math.log(VOCAB),  # no better than knowing nothing
        "train_loss": np.asarray(result.history.loss, float)[:: max(1, a.steps // 20)].round(3).tolist(),
        "norm_max": round(float(np.nanmax(norms)), 3),
        "norms_above_1": round(float(np.mean(norms > 1)), 3),
    }


def start_run(a, d_model):
    """Return the held-out loss of the first seed's weights before any step."""
    cfg = mup_check.width_config(d_model, 2, VOCAB, 32)
    start, held_out = transformer.init(cfg, 0), held_out_batches(a.held_out_rows)
    params = start._replace(layers=containers.group(start.layers))
    return {"loss": round(float(np.divide(*total_loss(params, losses_of(cfg)[1], held_out, progress=False))), 5)}


def counts_run(a, seed):
    """Return the held-out loss of whoever counts the tokens, and the pairs of tokens, that a seed's run sees."""
    batches, held = batches_of(training_rows(a.documents), seed), held_out_batches(a.held_out_rows)
    before, after = pairs_of(batches(step)[0] for step in range(a.steps))
    held_before, held_after = pairs_of(held)
    alone = np.bincount(after, minlength=VOCAB) + 1.0
    alone /= alone.sum()
    together = np.zeros((VOCAB, VOCAB))
    np.add.at(together, (before, after), 1)
    together = (together + PAIRS_PRIOR * alone) / (together.sum(1, keepdims=True) + PAIRS_PRIOR)
    found = {"loss": alone[held_after], "pairs": together[held_before, held_after]}
    return {name: round(float(-np.log(p).mean()), 5) for name, p in found.items()} | {"tokens": len(after)}


def pairs_of(batches):
    """Return (tokens, the token after each), of the targets that count."""
    kept = [(np.asarray(b.tokens)[b.weights > 0], np.asarray(b.targets)[b.weights > 0]) for b in batches]
    return map(np.concatenate, zip(*kept, strict=True))


def row(a, name, first, job, length):
    """Return {key: result} of a row of rates, made longer until every seed's best rate lies within it."""
    rates, done = [first * 2.0**i for i in range(length)], {}
    for extension in range(a.extensions + 1):
        jobs = {key_of(name, rate, seed): partial(job, a, seed, rate=rate) for rate in rates for seed in range(a.seeds)}
        done = _record.finished(jobs, a.folder)
        best = [min(rates, key=lambda rate, s=seed: loss_of(done[key_of(name, rate, s)])) for seed in range(a.seeds)]
        longer = [rates[0] / 2] * (rates[0] in best) + [rates[-1] * 2] * (rates[-1] in best)
        if not longer or extension == a.extensions:
            return done
        rates = sorted(rates + longer)


def key_of(name, rate, seed):
    """Return the key of one run in the recording."""
    return f"{name}_{math.log2(rate):g}_{seed}"


def loss_of(found):
    """Return the loss of a run, infinity for one that diverged."""
    return math.inf if found["loss"] is None else found["loss"]


def widths(a):
    """Return the runs of both parametrisations at all widths."""
    done = {f"start_{d}": _record.kept(a.folder, f"start_{d}", partial(start_run, a, d)) for d in a.widths}
    done |= {f"counts_{s}": _record.kept(a.folder, f"counts_{s}", partial(counts_run, a, s)) for s in range(a.seeds)}
    for d_model in a.widths:
        for parametrisation in PARAMETRISATIONS:
            if d_model == BASE_DIM and parametrisation == "standard":
                continue
            job = partial(run, d_model=d_model, scaled=parametrisation == "mup_simple")
            done |= row(a, f"{parametrisation}_{d_model}", FIRST[parametrisation], job, a.rates)
    return done


def terms_jobs(a):
    """Return {key: function} of the terms and of the stress."""
    jobs = {}
    for name, change in VARIANTS.items():
        make = partial(afm_optimizer, **change)
        for times in TIMES:
            for seed in range(a.seeds):
                jobs[f"{name}_x{times}_{seed}"] = partial(run, a, seed, TERMS_DIM, times * TERMS_RATE, make)
    for name, change in STRESSED.items():
        make = partial(afm_optimizer, **change)
        for seed in range(a.seeds):
            jobs[f"stress {name}_{seed}"] = partial(run, a, seed, TERMS_DIM, TERMS_RATE, make, corrupted=True)
    return jobs


def terms(a):
    """Return the runs of the terms, of the stress, and of Adam's and Adafactor's rows."""
    done = _record.finished(terms_jobs(a), a.folder)
    for name, make in PUBLISHED.items():
        done |= row(a, name, FIRST[name], partial(run, d_model=TERMS_DIM, make=make), min(a.rates, PUBLISHED_RATES))
    return done


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    runs = {}
    if a.stage in ("widths", "all"):
        runs |= widths(a)
    if a.stage in ("terms", "all"):
        runs |= terms(a)
    for key, found in runs.items():
        print(f"{key:40} {found['loss']}")
    if not a.no_ship:
        fixed = {"seq_len": SEQ_LEN, "batch_size": BATCH_SIZE, "base_dim": BASE_DIM, "terms_dim": TERMS_DIM}
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "runs": runs}
        seeds = list(range(a.seeds))
        print(
            _record.save("optimizer", "python -m experiments.optimizer", _record.config_of(a) | fixed, seeds, numbers)
        )


if __name__ == "__main__":
    main()
