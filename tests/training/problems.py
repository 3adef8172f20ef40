"""Small problems that are trained in milliseconds, shared by the tests here and run as the process that is killed."""

import sys
from functools import partial

import numpy as np

from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.training import fit


def data(seed=0, rows=24, dim=4):
    rng = np.random.default_rng((seed, 0))
    x = rng.standard_normal((rows, dim)).astype(np.float32)
    return x, (x @ np.arange(1, dim + 1) + rng.standard_normal(rows)).astype(np.float32)


def squares(params, batch):
    """Return (sum, count) of half the squared errors of a linear model."""
    x, y = batch
    errors = x @ params["w"] - y
    return 0.5 * (errors**2).sum(), np.float32(len(y))


def noisy_batch(step, seed=0):
    """Return other numbers at every step, a pure function of (seed, step)."""
    rng = np.random.default_rng((seed, step))
    x = rng.standard_normal((8, 4)).astype(np.float32)
    return x, (x @ np.arange(4)).astype(np.float32)


def run(folder, steps, *, lr=0.05, seed=0, dim=4, loss=squares, **options):
    """Fit a linear model with Apple's optimizer, resuming in folder."""
    params = {"w": np.zeros(dim, np.float32), "fixed": np.arange(3)}
    optimizer = afm_optimizer(lr, warmup_cosine(3, 100))
    options = dict(checkpoint_every=1, progress=False) | options
    return fit(params, loss, partial(noisy_batch, seed=seed), optimizer, steps, checkpoint=folder, **options)


def main():
    """Train in the folder and for the steps that the command line names, telling each step: it may be the last."""
    folder, steps = sys.argv[1], int(sys.argv[2])
    run(folder, steps, callback=lambda history: print(len(history), flush=True), callback_every=1)


if __name__ == "__main__":
    main()
