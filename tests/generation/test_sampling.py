"""Filters against brute force in NumPy, draws against their closed-form distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.generation.sampling import check_sampling, draw, filtered, row_keys

filters = jax.jit(filtered, static_argnums=2)


def brute_force(values, temperature, top_k, top_p):
    """Return the set of tokens that may be drawn and their probabilities, by definition and in float64."""
    scores = np.array(values, np.float64) / temperature
    allowed = list(range(len(values)))
    if top_k is not None:
        allowed = [i for i in allowed if sum(scores[j] > scores[i] for j in allowed) < top_k]

    def probability(i):
        return np.exp(scores[i]) / sum(np.exp(scores[j]) for j in allowed)

    if top_p is not None:
        nucleus, total = [], 0.0
        for i in sorted(allowed, key=lambda i: -scores[i]):
            if total >= top_p:
                break
            nucleus.append(i)
            total += probability(i)
        allowed = [i for i in allowed if scores[i] >= scores[nucleus[-1]]]
    return allowed, np.array([probability(i) if i in allowed else 0.0 for i in range(len(values))])


@pytest.mark.parametrize(
    "V, top_k, nucleus",
    [(1, 3, True), (12, None, False), (12, 1, False), (12, 14, True), (12, None, True), (7, 3, True)],
)
def test_filters_equal_brute_force(V, top_k, nucleus):
    """40 rows of logits at a time, each with a temperature and a top_p of its own."""
    rng = np.random.default_rng((V, top_k or 0, nucleus))
    # Quarters: distinct values stay distinct and ties stay ties in float32, and sums of probabilities keep a distance
    rows, temperatures = rng.integers(-20, 21, (40, V)) / 4, rng.choice([0.5, 1.0, 2.0], 40)
    rows[:10] = rng.integers(-2, 3, (10, V)) / 4  # with more ties
    top_p = np.append(rng.uniform(0.01, 0.99, 39), 1e-12)  # the last keeps the most likely token
    for i, (row, temperature) in enumerate(zip(rows, temperatures)):
        _, probabilities = brute_force(row, temperature, top_k, None)
        if np.abs(np.cumsum(np.sort(probabilities)[::-1]) - top_p[i]).min() < 1e-5:  # rounding would decide
            top_p[i] = 1.0
    column = np.float32(top_p[:, None]) if nucleus else None
    got = np.asarray(filters(np.float32(rows), np.float32(temperatures[:, None]), top_k, column))
    for row, temperature, p, scores in zip(rows, temperatures, top_p, got):
        allowed, probabilities = brute_force(row, temperature, top_k, p if nucleus else None)
        assert np.flatnonzero(np.isfinite(scores)).tolist() == allowed
        e = np.exp(scores - scores.max())
        np.testing.assert_allclose(e / e.sum(), probabilities, atol=1e-5)


def chi_square(counts, probabilities):
    expected = probabilities * counts.sum()
    used = expected > 0
    assert counts[~used].sum() == 0
    return float(((counts - expected)[used] ** 2 / expected[used]).sum()), int(used.sum()) - 1


def chi_square_limit(degrees):
    """Return roughly the 1 - 1e-4 quantile (Wilson and Hilferty)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.72 * np.sqrt(2 / (9 * degrees))) ** 3


@pytest.mark.parametrize("top_k, top_p", [(None, None), (5, 0.8)])
def test_draws_follow_the_softmax(top_k, top_p):
    B, values = 20_000, [0.0, 1.0, 2.0, -1.0, 0.5, 1.5, 2.5]
    scores = filters(np.float32([values]), 1.3, top_k, top_p)
    tokens = np.asarray(draw(np.repeat(np.asarray(scores), B, 0), row_keys(5, B), np.zeros(B, np.int32)))
    _, probabilities = brute_force(values, 1.3, top_k, top_p)
    statistic, degrees = chi_square(np.bincount(tokens, minlength=len(values)), probabilities)
    assert statistic < chi_square_limit(degrees)


def test_draws_follow_the_softmax_over_many_blocks_of_tokens():
    """150 tokens in three blocks, the last not full; a third of them at probability 0."""
    B, V = 40_000, 150
    values = np.random.default_rng(8).normal(size=V).astype(np.float32)
    values[::3] = -np.inf
    tokens = np.asarray(draw(np.repeat(values[None], B, 0), row_keys(6, B), np.zeros(B, np.int32)))
    probabilities = np.exp(values) / np.exp(values).sum()
    statistic, degrees = chi_square(np.bincount(tokens, minlength=V), probabilities)
    assert statistic < chi_square_limit(degrees)


@pytest.mark.parametrize("u, end", [(0.0, 0), (np.nextafter(np.float32(1), np.float32(0)), -1)])
def test_a_filtered_token_is_never_drawn(monkeypatch, u, end):
    """The least and the largest u draw the first and the last token that is left, however the sums are rounded.

    In the second half of the rows the first block has nearly all: what is left for the last one is mostly rounding.
    """
    monkeypatch.setattr(jax.random, "uniform", lambda key: jnp.float32(u))
    rows = np.random.default_rng(9).normal(size=(800, 300)).astype(np.float32)
    rows[400:, :64] += 8
    rows = np.asarray(filtered(rows, 1.0, top_k=90))
    tokens = np.asarray(draw(rows, row_keys(0, 800), np.zeros(800, np.int32)))
    assert np.isfinite(rows[np.arange(800), tokens]).all()
    assert tokens[:400].tolist() == [np.flatnonzero(np.isfinite(row))[end] for row in rows[:400]]


def test_draws_of_a_row_at_successive_positions_are_independent():
    """A chi-square over pairs of neighbours: the position must enter the random stream."""
    n, V = 20_000, 3
    keys = jnp.repeat(row_keys(5, 1), n)
    tokens = np.asarray(draw(np.zeros((n, V), np.float32), keys, np.arange(n, dtype=np.int32)))
    pairs = np.bincount(V * tokens[:-1] + tokens[1:], minlength=V * V)
    statistic, degrees = chi_square(pairs, np.full(V * V, 1 / (V * V)))
    assert statistic < chi_square_limit(degrees)


def test_settings_without_sense_are_named():
    numbers = dict(temperature=[-0.1, np.nan, np.inf], top_k=[0], top_p=[0.0, 1.01, np.nan])
    kinds = dict(temperature=["hot"], top_k=[2.5, True])
    bad = [(error, *item) for error, of in ((ValueError, numbers), (TypeError, kinds)) for item in of.items()]
    for error, name, value in ((error, name, value) for error, name, values in bad for value in values):
        with pytest.raises(error, match=f"{name} .* and finite" if value == np.inf else name):
            check_sampling(**{"temperature": 1.0, name: value})
