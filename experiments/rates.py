"""Which learning rate is best, at which width, under which rule, on bytes: the numbers of chapter 3.

    python -m experiments.rates                       # call it again to resume; about 90 CPU-minutes
    NPROC=1 python -m experiments.rates --share 0 2   # every second run only, and no recording: two side by side
    python -m experiments.rates --steps 3 --seeds 2 --widths 32 64 --rates 2 --held-out-rows 4 \\
        --folder runs/rates_smoke --models runs/rates_smoke --no-ship

Question  does muP-simple keep the best rate from width 32 to width 256, where the standard parametrisation does not?
Models    two layers on bytes: a vocabulary of 256 costs little, and a run of 200 steps of 8 rows of 128 bytes ends
          below the loss of one who counts pairs of bytes (the bigram line; plots have it and the unigram line)
Arms      {standard, muP-simple} x widths {32, 64, 128, 256} x the rates 2^-9, 2^-7 .. 2^-1 (at width 32, the base,
          both are the same); at width 64 Apple's rule without the block clip, and Adam. Rates are a factor 4 apart:
          in a pilot of seeds 50 and 51 two runs at rates a factor 2 apart differed by .02 by chance and by no more by
          the rate, so that a parabola of three of them had no vertex to speak of
Seeds     5, paired: a seed draws the weights and the rows
Measured  the loss of 256 held-out rows at the end. A seed's best rate: the vertex of the parabola through its lowest
          loss and the neighbours, in log2; a row at whose end it lies is run further
Primary   doublings of the best rate for each doubling of the width, a least-squares slope a seed. Kept: the 95%
          t-interval over seeds lies within -0.25 and 0.25 (muP-simple predicts 0)
Smallest  the slope's sd over seeds was .09 in the recording before; five seeds give a half-width of 1.24 sd = .12.
          From the pilot's noise: a vertex is off by about .3 doublings, a slope by .13, the mean of five by .06
Others    Adam, and Apple's without the block clip, less Apple's, each at its best rate and at 4 times that. And what a
          broken batch costs, of random bytes that count a thousandfold, after two thirds of the steps at rate 2^-5:
          Apple's limits taken away one after the other, less the whole
"""

import math
from functools import cache, partial

import jax
import numpy as np
import optax

from afm_ref import containers, evaluation, losses, transformer
from afm_ref.data import pretraining_text
from afm_ref.pretraining import afm_optimizer, mup_check, mup_scales, warmup_cosine
from afm_ref.pretraining.mup import on_matrices
from afm_ref.teaching.chapters import optimizer as chapter
from afm_ref.training import fit

from . import _record

SEQ_LEN, BATCH_SIZE, VOCAB = 128, 8, 256
PARTS = ("topics", "docstrings", "code")
ROWS = [("standard", width) for width in (32, 64, 128, 256)] + [("mup_simple", width) for width in (64, 128, 256)]
ROWS += [("adam", 64), ("no block clip", 64)]
RATES = tuple(2.0**log2 for log2 in (-9, -7, -5, -3, -1))
CHANGED = {  # settings of afm_optimizer
    "no block clip": {"update_clip": math.inf},
    "whole": {},
    "no skip": {"skip_norm": math.inf},
    "no skip, no global clip": {"skip_norm": math.inf, "clip_norm": math.inf},
    "no limit at all": {"skip_norm": math.inf, "clip_norm": math.inf, "update_clip": math.inf},
}
STRESSED = ("whole", "no skip", "no skip, no global clip", "no limit at all")


def arguments(line=None):
    """Return the command line's options."""
    parser, add = _record.options("rates", __doc__)
    add("--seeds", type=int, default=5)
    add("--first-seed", type=int, default=0)
    add("--steps", type=int, default=200)
    add("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    add("--rates", type=int, default=5, help="rates in a row, each four times the one before (default: %(default)s)")
    add("--held-out-rows", type=int, default=256)
    return parser.parse_args(line)


@cache
def rows():
    """Return (training, held-out) bytes of the real text in rows of SEQ_LEN + 1; each begins with the last's last."""
    sides = pretraining_text.pretraining_documents(0, progress=False)
    joined = ("\n\n".join(d.text for d in side if d.source in PARTS).encode() for side in sides)
    flat = (np.frombuffer(text, np.uint8).astype(np.int32) for text in joined)
    return tuple(np.lib.stride_tricks.sliding_window_view(x, SEQ_LEN + 1)[::SEQ_LEN] for x in flat)


def batch_of(chosen):
    """Return rows [B, T + 1] as a batch in which every byte counts."""
    return losses.Batch(chosen[:, :-1], chosen[:, 1:], np.ones(chosen[:, 1:].shape, np.float32))


def batches(seed, broken_step=None):
    """Return step -> (batch of rows that the seed draws, how much its loss counts).

    At the broken step: random bytes that count a thousandfold.
    """
    train, _ = rows()

    def batch(step):
        rng = np.random.default_rng((seed, step))
        if step == broken_step:
            return batch_of(rng.integers(0, VOCAB, (BATCH_SIZE, SEQ_LEN + 1), np.int32)), np.float32(1000)
        return batch_of(train[rng.choice(len(train), BATCH_SIZE, replace=False)]), np.float32(1)

    return batch


def held_out(count):
    """Return so many held-out rows as one batch."""
    _, held = rows()
    return batch_of(held[np.random.default_rng(0).choice(len(held), count, replace=False)])


def optimizer_of(rule, cfg, schedule):
    """Return rate -> optimizer of one rule."""
    if rule == "adam":
        return lambda learning_rate: optax.adamw(lambda count: learning_rate * schedule(count + 1), weight_decay=0.01)
    scale = mup_scales(cfg, chapter.BASE_DIM) if rule == "mup_simple" else on_matrices(1.0)
    more = CHANGED.get(rule, {})
    return lambda learning_rate: afm_optimizer(learning_rate, schedule, update_scale=scale, **more)


def run(a, rule, width, rate, seed, broken_step=None):
    """Return the held-out loss of one run at its end."""
    cfg, loss, counted = model(width)
    schedule = warmup_cosine(max(1, a.steps // 10), a.steps)
    # the rate lies in the optimizer's state: one program for all rates and seeds
    optimizer = optax.inject_hyperparams(optimizer_of(rule, cfg, schedule))(learning_rate=rate)
    params = transformer.init(cfg, seed)
    if rule != "adam":
        params = params._replace(layers=containers.group(params.layers))
    try:
        result = fit(params, counted, batches(seed, broken_step), optimizer, a.steps, progress=False)
    except FloatingPointError:
        return {"rate": rate, "loss": None}
    final = np.divide(*evaluation.total_loss(result.params, loss, [held_out(a.held_out_rows)], progress=False))
    curve = np.asarray(result.history.loss, float)[:: max(1, a.steps // 20)].round(3).tolist()
    return {"rate": rate, "loss": round(float(final), 5) if np.isfinite(final) else None, "train_loss": curve}


@cache
def model(width):
    """Return (config, loss of a batch, that of (batch, how much it counts)); the same objects at every call."""
    cfg = mup_check.width_config(width, 2, VOCAB, 32)

    def counted(params, batch):
        loss_sum, count = losses.next_token(params, batch[0], cfg)
        return batch[1] * loss_sum, count

    return cfg, partial(losses.next_token, cfg=cfg), counted


def lines_run(a):
    """Return the held-out loss of one who has counted the bytes of all training text, and the pairs of bytes."""
    train, _ = rows()
    pairs = np.full((VOCAB, VOCAB), 1 / VOCAB)
    np.add.at(pairs, (train[:, :-1], train[:, 1:]), 1)
    alone, held = pairs.sum(0) / pairs.sum(), held_out(a.held_out_rows)
    together = pairs / pairs.sum(1, keepdims=True)
    found = {"unigram": alone[held.targets], "bigram": together[held.tokens, held.targets]}
    return {name: round(float(-np.log(p).mean()), 5) for name, p in found.items()}


def jobs(a):
    """Return {key: function} of all runs, seed by seed."""
    found = {"lines": partial(lines_run, a)}
    for seed in range(a.first_seed, a.first_seed + a.seeds):
        for rule, width in ROWS:
            if width in a.widths:
                for rate in RATES[: a.rates]:
                    found[f"{rule}_{width}_{math.log2(rate):g}_{seed}"] = partial(run, a, rule, width, rate, seed)
        for rule in STRESSED:
            broken = partial(run, a, rule, chapter.STRESS_DIM, chapter.STRESS_RATE, seed, broken_step=2 * a.steps // 3)
            found[f"stress {rule}_{seed}"] = broken
    return found


def verdict(numbers):
    """Return by how many doublings the best rate moves, and whether that is kept."""
    sweeps = chapter.recorded_sweeps(numbers["runs"])
    found = {name: chapter.shift_per_doubling(sweep) for name, sweep in sweeps.items()}
    return "; ".join(
        f"{name} {of.mean:+.2f} [{of.low:+.2f}, {of.high:+.2f}] doublings for one of the width: "
        + ("kept" if of.low > -chapter.KEPT and of.high < chapter.KEPT else "not kept")
        for name, of in found.items()
    )


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.models)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    runs = _record.finished(jobs(a), a.folder, tuple(a.share))
    for key, found in runs.items():
        print(f"{key:32} {found.get('loss', found)}")
    _record.ship("rates", a, a.seeds, runs)


if __name__ == "__main__":
    main()
