"""Sensitivities against the loss itself, finite differences, loops, and inputs caught on their way."""

import dataclasses

import jax
import numpy as np
import pytest

from afm_ref import losses, ops
from afm_ref.config import AFMConfig
from afm_ref.containers import group, matrices, replaced
from afm_ref.losses import Batch
from afm_ref.quantization import fisher, input_moments, measured_costs, palettize, predicted_costs, quantize
from afm_ref.transformer import Causal, hidden, init

CFG = AFMConfig(vocab_size=30, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=24)
PARAMS = init(CFG, 0)


def batch(seed, rows=3, length=6):
    """Return random tokens: two documents in the first row, padding at the end of the last."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 30, (rows, length + 1)).astype(np.int32)
    documents = np.zeros((rows, length), np.int32)
    documents[0, 3:] = 1
    weights = np.ones((rows, length), np.float32)
    weights[0, 2] = weights[-1, -2:] = 0
    return Batch(tokens[:, :-1], tokens[:, 1:], weights, documents)


BATCHES = [batch(0), batch(1)]


def nats(params, batches=BATCHES):
    """Return the summed loss and its count in float64, by NumPy."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    return np.sum([losses.next_token(params, b, CFG) for b in batches], axis=0, dtype=np.float64)


def test_measured_is_the_loss_of_one_palette_among_plain_matrices(monkeypatch):
    traced = []
    monkeypatch.setattr(
        "afm_ref.quantization.bits.sensitivity.next_token",
        lambda *args, **kwargs: traced.append(1) or losses.next_token(*args, **kwargs),
    )
    two = init(dataclasses.replace(CFG, n_layers=2), 0)
    stacked = two._replace(layers=group(two.layers))
    costs = measured_costs(stacked, CFG, iter(BATCHES), bits=(1, 3), progress=False)
    assert len(traced) == 1  # nothing is compiled twice
    assert list(costs) == list(matrices(two)) and len(costs) == 14
    before, count = nats(two)
    for key in (("wk", 0), ("w_down", 1)):
        for b in (1, 3):
            after, _ = nats(replaced(two, {key: palettize(matrices(two)[key], b).dense()}))
            # float32 sums of some 50 nats are exact to 1e-5 of them
            assert costs[key][b] == pytest.approx((after - before) / count, abs=3e-5)
    assert sum(abs(cost[1]) for cost in costs.values()) > 2 * sum(abs(cost[3]) for cost in costs.values())


def test_fisher_is_the_mean_of_squared_finite_differences():
    found = fisher(PARAMS, CFG, iter(BATCHES), progress=False)
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], b) for b in BATCHES for i in range(3)]
    _, count = nats(PARAMS)
    step = 1e-5
    for key, at in {("wq", 0): (3, 5), ("wv", 0): (7, 0), ("w_down", 0): (15, 23)}.items():
        w = matrices(PARAMS)[key].astype(np.float64)
        assert found[key].shape == w.shape and found[key].dtype == np.float64
        change = np.zeros_like(w)
        change[at] = step
        models = [replaced(PARAMS, {key: w + h}) for h in (change, -change)]
        ends = np.array([[nats(params, [row])[0] for row in rows] for params in models])
        total = (((ends[0] - ends[1]) / (2 * step)) ** 2).sum()
        assert found[key][at] == pytest.approx(total / count, rel=1e-3)  # float32 gradients


def test_predicted_equals_loops_and_falls_with_bits():
    f = {key: np.random.default_rng(1).exponential(size=w.shape) for key, w in matrices(PARAMS).items()}
    found = predicted_costs(PARAMS, f, bits=(2, 3, 4))
    w = matrices(PARAMS)["w_up", 0]
    q, f = palettize(w, 3).dense(), f["w_up", 0]
    by_hand = sum(f[o, i] * (float(w[o, i]) - float(q[o, i])) ** 2 / 2 for o in range(24) for i in range(16))
    assert found["w_up", 0][3] == pytest.approx(by_hand, rel=1e-9)
    for cost in found.values():
        assert cost[2] > 2 * cost[3] > 4 * cost[4] > 0


def test_moments_are_those_of_the_inputs_that_the_forward_pass_sees(monkeypatch):
    diagonal = input_moments(PARAMS, CFG, iter(BATCHES), progress=False)
    full = input_moments(PARAMS, CFG, iter(BATCHES), full=True, progress=False)
    caught = {}
    names = {id(w): key for key, w in matrices(PARAMS).items()}
    linear = ops.linear

    def catch(x, w):
        if id(w) in names:
            caught.setdefault(names[id(w)], []).append(x)
        return linear(x, w)

    monkeypatch.setattr(ops, "linear", catch)
    for b in BATCHES:
        hidden(PARAMS, b.tokens, CFG, attend=Causal(b.documents))
    counted = np.concatenate([b.weights.ravel() for b in BATCHES]) > 0
    assert set(caught) == set(full) == set(diagonal)
    for key, inputs in caught.items():
        x = np.concatenate([x.reshape(-1, x.shape[-1]) for x in inputs])[counted].astype(np.float64)
        np.testing.assert_allclose(full[key], np.einsum("ti,tj->ij", x, x) / len(x), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(diagonal[key], (x**2).mean(axis=0), rtol=1e-3, atol=1e-6)


def test_bad_input_is_refused():
    for method, params, batches, why in (
        (fisher, quantize(PARAMS), BATCHES, "a Palettized cannot be quantized"),
        (measured_costs, PARAMS, [], "nothing to evaluate"),
        (fisher, PARAMS, [], "no token of these batches is a target"),
        (input_moments, PARAMS, [], "no token of these batches is a target"),
    ):
        with pytest.raises(ValueError, match=why):
            method(params, CFG, batches, progress=False)
    with pytest.raises(ValueError, match="every matrix once"):
        predicted_costs(PARAMS, {("wq", 0): np.ones((16, 16))})
