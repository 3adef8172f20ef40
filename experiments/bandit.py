"""MDLOO's three ideas, each by itself, on a bandit whose prompts share features: numbers of chapter 11.

    python -m experiments.bandit                     # call it again to resume; about 5 CPU-minutes
    python -m experiments.bandit --seeds 4 --tuning-seeds 2 --iterations 2 --folder runs/bandit_smoke --no-ship

A prompt is ARMS responses with FEATURES random features each, and the policy is softmax(theta . features): what is
learnt of one prompt holds for others, and what a policy is worth can be summed exactly, on prompts that it has not
learnt from. The true reward is a level of the prompt plus w . features; a judge adds noise. In the "same" prompts, a
share of all, the responses are equally good, up to the noise. An iteration draws PROMPTS new prompts and SAMPLES
responses to each.

Question  what do a leave-one-out baseline, advantages that are not divided, and the mirror step change in the gain (the
          share of what the features allow, on 512 prompts that were not learnt from)?
Arms      baseline {none, leave one out, divided by std} x noise x share of same prompts, at one inner step
          step {none, clip, mirror} x inner steps 1 .. 32 x noise, with leave-one-out advantages
          (the mean of all n as baseline is leave-one-out times 3 / 4, another step size, and so no arm)
Tries     12 a cell: rates, for clip and mirror rates x trust regions; the best mean gain of `tuning-seeds` other seeds
Seeds     200, paired, none of them in the pilot: they draw w, prompts, responses and noise, the same for all arms
Primary   1. leave one out less none, noise 0.3, no same prompts
          2. leave one out less divided by std, noise 0.3, three same prompts in four
          3. mirror less clip, and mirror less none, at 32 inner steps, noise 1, with the settings tuned at 4
Smallest  the sd of a paired difference was 0.05 to 0.15 in a pilot of 20 seeds: 200 see 0.01 to 0.03 with 80% power
          (2.8 sd / sqrt(200)); the four primary intervals are simultaneous, 98.75% each
"""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from afm_ref.rlhf import advantages, mdloo
from afm_ref.teaching.chapters import rlhf as chapter

from . import _record

ARMS, FEATURES, PROMPTS, SAMPLES = 16, 32, 16, 4
HELD_OUT = 512
BASELINES = {
    "none": advantages.none,
    "leave one out": advantages.leave_one_out,
    "divided by std": advantages.standardised,
}
STEPS = ("none", "clip", "mirror")
INNER_STEPS = (1, 2, 4, 8, 16, 32)
TUNED_AT = 4  # inner steps at which the settings are chosen that all numbers of inner steps share
NOISES, SAME = (0.0, 0.3, 1.0), (0.0, 0.75)
RATES = tuple(2.0**i for i in range(-4, 8))
FEW_RATES = RATES[1::2][:4]  # with three trust regions each: as many tries
TRUST = {"none": (0.0,), "clip": (0.05, 0.2, 0.8), "mirror": (0.2, 0.8, 3.2)}  # epsilon, gamma
FIRST_SEED, FIRST_TUNING_SEED = 100, 10_000  # a pilot had the seeds below


class Cell(NamedTuple):
    """One way to learn, in one world."""

    baseline: str = "leave one out"
    step: str = "none"
    inner: int = 1
    noise: float = 0.3
    same: float = 0.0

    @property
    def key(self):
        """Return the cell's name in the recording."""
        return chapter.of_bandit(*self)

    @property
    def tries(self):
        """Return the (rate, trust region) that may be chosen."""
        rates = RATES if self.step == "none" else FEW_RATES
        return [(rate, trust) for rate in rates for trust in TRUST[self.step]]


CELLS = [Cell(baseline=name, noise=noise, same=same) for name in BASELINES for noise in NOISES for same in SAME]
CELLS += [Cell(step=step, inner=n, noise=noise) for step in STEPS for n in INNER_STEPS for noise in NOISES[1:]
          if (step, n) != ("none", 1)]  # fmt: skip


def worlds(seeds):
    """Return (a generator, w: [FEATURES]) of each seed."""
    rngs = [np.random.default_rng((7, seed)) for seed in seeds]
    return rngs, np.stack([_unit(rng.standard_normal(FEATURES)) for rng in rngs])


def _unit(v):
    return v / np.linalg.norm(v)


def prompts(rngs, count, same):
    """Return (features: [S, P, ARMS, FEATURES], level: [S, P], whether responses differ: [S, P]) of new prompts."""
    drawn = [(rng.standard_normal((count, ARMS, FEATURES)), rng.normal(2, 1, count), rng.random(count)) for rng in rngs]
    features, level, chance = (np.stack(of) for of in zip(*drawn))
    return features, level, chance >= same


def softmax(theta, features):
    """Return the policies of each seed: [S, P, ARMS]."""
    scores = np.einsum("sd,spad->spa", theta, features)
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def objective(theta, chosen, features, A, old, step, trust):
    """Return the mean objective over one seed's responses; chosen: [P, n, FEATURES], A and old: [P, n]."""
    A, old = A.reshape(-1), old.reshape(-1)
    scores = jnp.einsum("pad,d->pa", features, theta)
    log_probs = jnp.einsum("pkd,d->pk", chosen, theta) - jax.nn.logsumexp(scores, axis=-1, keepdims=True)
    log_probs = log_probs.reshape(-1)
    if step == "mirror":
        return mdloo.mdloo(log_probs, old, A, trust).mean()
    log_rho = log_probs - old
    return (mdloo.clipped(log_rho, A, trust) if step == "clip" else jnp.exp(log_rho) * A).mean()


@partial(jax.jit, static_argnames=("step", "inner", "trust"))
def climb(theta, chosen, features, A, old, rate, *, trust, step, inner):
    """Return theta [S, FEATURES] after inner steps of plain gradient ascent on the same responses."""
    slope = jax.vmap(jax.grad(partial(objective, step=step, trust=trust)))
    return jax.lax.fori_loop(0, inner, lambda _, t: t + rate * slope(t, chosen, features, A, old), theta)


def learn(cell, rate, trust, seeds, iterations):
    """Return theta of each seed after so many iterations: [S, FEATURES]."""
    rngs, w = worlds(seeds)
    theta = np.zeros((len(seeds), FEATURES))
    for _ in range(iterations):
        features, level, differ = prompts(rngs, PROMPTS, cell.same)
        noise = np.stack([rng.standard_normal((PROMPTS, SAMPLES)) for rng in rngs])
        u = np.stack([rng.random((PROMPTS, SAMPLES)) for rng in rngs])
        policy = softmax(theta, features)
        said = (policy.cumsum(-1)[:, :, None] < u[..., None]).sum(-1).clip(max=ARMS - 1)  # [S, P, n]
        chosen = np.take_along_axis(features, said[..., None], axis=2)
        worth = np.einsum("spkd,sd->spk", chosen, w) * differ[..., None]
        R = level[..., None] + worth + cell.noise * noise
        A = BASELINES[cell.baseline](R.reshape(-1, SAMPLES)).reshape(R.shape)
        old = np.log(np.take_along_axis(policy, said, axis=2))
        # at a rate far too high theta overflows: such a try is worth nothing, and is not chosen
        theta = np.asarray(climb(theta, chosen, features, A, old, rate, trust=trust, step=cell.step, inner=cell.inner))
        theta = np.where(np.isfinite(theta), theta, 0.0)
    return theta


def gains(theta, seeds):
    """Return the share of what the features allow that each policy gains on prompts that differ, held out: [S]."""
    _, w = worlds(seeds)
    features, _, _ = prompts([np.random.default_rng((8, seed)) for seed in seeds], HELD_OUT, 0.0)
    worth = np.einsum("spad,sd->spa", features, w)
    value = (softmax(theta, features) * worth).sum(-1).mean(-1)
    start, best = worth.mean((1, 2)), worth.max(-1).mean(-1)
    return (value - start) / (best - start)


def gains_of(a, cell, rate, trust, first, count):
    """Return the gains of a cell's runs with these settings."""
    seeds = range(first, first + count)
    return gains(learn(cell, rate, trust, seeds, a.iterations), seeds)


def cell_run(a, cell):
    """Return a cell's tries, its chosen settings and its gains."""
    of = partial(gains_of, a, cell)
    tried = {f"{r:g}, {t:g}": float(of(r, t, FIRST_TUNING_SEED, a.tuning_seeds).mean()) for r, t in cell.tries}
    best = max(cell.tries, key=lambda of_try: tried["{:g}, {:g}".format(*of_try)])
    return {"tried": {k: round(x, 4) for k, x in tried.items()}, "rate": best[0], "trust": best[1],
            "gains": of(*best, FIRST_SEED, a.seeds).round(4).tolist()}  # fmt: skip


def shared_run(a, cell, runs):
    """Return a cell's gains with the settings that were chosen at TUNED_AT inner steps."""
    tuned = runs[cell._replace(inner=TUNED_AT).key]
    found = gains_of(a, cell, tuned["rate"], tuned["trust"], FIRST_SEED, a.seeds)
    return {"rate": tuned["rate"], "trust": tuned["trust"], "gains": found.round(4).tolist()}


def verdict(numbers):
    """Return what the primary comparisons say."""
    return "; ".join(_record.told(name, interval) for name, interval in chapter.primary(numbers["runs"]).items())


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, type=int, help="default: %(default)s")
    add("--seeds", default=200)
    add("--tuning-seeds", default=40)
    add("--iterations", default=12)
    parser.add_argument("--folder", type=Path, default=Path("runs/bandit"), help="default: %(default)s")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    runs = _record.finished({cell.key: partial(cell_run, a, cell) for cell in CELLS}, a.folder)
    again = {f"shared: {cell.key}": partial(shared_run, a, cell, runs) for cell in CELLS if cell.noise and not cell.same
             and cell.baseline == "leave one out"}  # fmt: skip
    runs |= _record.finished(again, a.folder)
    for key, run in runs.items():
        print(f"{key:60} rate {run['rate']:<8g} trust {run['trust']:<4g} gain {np.mean(run['gains']):.3f}")
    if not a.no_ship:
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "runs": runs}
        seeds = list(range(a.seeds))
        print(_record.save("bandit", "python -m experiments.bandit", _record.config_of(a), seeds, numbers))


if __name__ == "__main__":
    main()
