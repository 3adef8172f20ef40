"""A policy whose every response can be listed: a real transformer, four tokens, at most two of them, one ends early."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from afm_ref.data.tasks import Rendered
from afm_ref.post_training.rows import pad, response_log_probs, take
from afm_ref.rlhf import Experience
from tests.post_training.models import CFG, params64

V, END = 4, 1
SMALL = dataclasses.replace(CFG, vocab_size=V)
PROMPT = [3, 2, 0]
SAID = [y for first in range(V) for y in ([(first,)] if first == END else itertools.product([first], range(V)))]  # 13
ROWS = pad([Rendered(np.array([*PROMPT, *y], np.int32), len(PROMPT)) for y in SAID], length=6)
PREVIOUS, PRESENT, REFERENCE = (params64(seed, SMALL) for seed in (0, 1, 2))
REWARD = np.random.default_rng(3).standard_normal(len(SAID))


def experience(advantages, old=PREVIOUS, returns=None, numbers=None, reference=REFERENCE):
    """Return all responses, or those of these numbers, with their advantages, as if sampled from `old`."""
    rows = ROWS if numbers is None else take(ROWS, numbers)
    log_probs = (response_log_probs(model, rows, SMALL) for model in (old, reference))
    return Experience(rows, *log_probs, np.asarray(advantages), returns)


@functools.cache
def _compiled(function):
    quickly = {"xla_backend_optimization_level": 0}  # to compile takes longer than to run
    return jax.jit(jax.grad(function), compiler_options=quickly)


def gradient(function, params=PRESENT, *arguments):
    """Return the gradient of function(params, ...) as one vector, in float64."""
    with jax.enable_x64(True):
        return np.asarray(ravel_pytree(_compiled(function)(*jax.tree.map(jnp.asarray, (params, *arguments))))[0])


@functools.cache
def weighted(loss, **options):
    """Return (params, batch, weights) -> sum_i w_i loss(params, row i of the batch): an expectation over a list."""

    def of_one(params, row):
        total, count = loss(params, jax.tree.map(lambda leaf: leaf[None], row), SMALL, **options)
        return total / count

    return lambda params, batch, weights: weights @ jax.vmap(of_one, (None, 0))(params, batch)
