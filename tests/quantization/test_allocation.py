"""Allocation against all assignments, the bound and simpler methods, at true scale; sizes counted by hand."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import lora, quantization
from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, AFMConfig, layer_parameters, weight_bytes
from afm_ref.containers import group, matrices, replaced
from afm_ref.quantization import allocate, frontier, greedy, lagrangian, lower_bound, sizes, weight_counts
from afm_ref.quantization.bits import storage
from afm_ref.transformer import init


def loss_of(costs, bits):
    return sum(costs[key][b] for key, b in bits.items())


def average(weights, bits):
    return sum(weights[key] * b for key, b in bits.items()) / sum(weights.values())


def synthetic(cfg, seed=0, widths=(2, 4)):
    """Return costs that fall fourfold with every bit, as errors do, of very different sizes."""
    rng = np.random.default_rng(seed)
    return {key: {b: float(c) * 4.0**-b for b in widths} for key in weight_counts(cfg) if (c := rng.lognormal(0, 1.5))}


@st.composite
def small_cases(draw):
    keys = [("wq", i) for i in range(draw(st.integers(1, 5)))]
    widths = st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True)
    cost = st.floats(-1, 10, allow_nan=False)
    costs = {key: {b: draw(cost) for b in draw(widths)} for key in keys}
    weights = {key: draw(st.integers(1, 12)) for key in keys}
    return costs, weights, draw(st.floats(1, 5))


@settings(max_examples=80)
@given(small_cases())
def test_no_assignment_is_better(case):
    """bound <= exact = the best of all assignments <= Lagrangian and greedy, all of them within the budget."""
    costs, weights, budget = case
    every = [dict(zip(costs, bits)) for bits in itertools.product(*costs.values())]
    within = [loss_of(costs, bits) for bits in every if average(weights, bits) <= budget + 1e-9]
    if not within:
        with pytest.raises(ValueError, match="is impossible"):
            allocate(costs, weights, budget)
        return
    found = {method: method(costs, weights, budget) for method in (allocate, greedy, lagrangian)}
    for bits in found.values():
        assert average(weights, bits) <= budget + 1e-9
    exact = loss_of(costs, found[allocate])
    assert exact == pytest.approx(min(within), abs=1e-9)
    assert exact <= min(loss_of(costs, found[greedy]), loss_of(costs, found[lagrangian])) + 1e-9
    assert lower_bound(costs, weights, budget) <= exact + 1e-9


def test_the_simpler_methods_miss_the_optimum_where_they_should():
    """By hand: 3 and 2 weights, 2 or 4 bits, room for 4 bits more than the least 10. Gains a bit: 2 (a), 1.9 (b)."""
    costs = {"a": {2: 12.0, 4: 0.0}, "b": {2: 7.6, 4: 0.0}, "c": {2: 7.2, 4: 0.0}}
    weights = {"a": 3, "b": 2, "c": 2}
    budget = (14 + 8) / 7
    assert allocate(costs, weights, budget) == {"a": 2, "b": 4, "c": 4}  # saves 14.8
    assert greedy(costs, weights, budget) == lagrangian(costs, weights, budget) == {"a": 4, "b": 2, "c": 2}
    tiny = {key: {bits: 1e-45 * cost for bits, cost in of.items()} for key, of in costs.items()}
    assert lagrangian(tiny, weights, budget) == {"a": 4, "b": 2, "c": 2}  # the price is found in any unit
    assert lower_bound(costs, weights, budget) == pytest.approx(26.8 - 12 - 1.9 * 2)  # 2 bits left at b's price
    # 6 bits to spend: b saves 2 a bit, and then a, which saves 1.5 on 6 bits, does not fit any more.
    costs, weights = {"a": {2: 9.0, 4: 0.0}, "b": {2: 4.0, 4: 0.0}}, {"a": 3, "b": 1}
    assert greedy(costs, weights, (8 + 6) / 4) == lagrangian(costs, weights, (8 + 6) / 4) == {"a": 2, "b": 4}
    assert allocate(costs, weights, (8 + 6) / 4) == {"a": 4, "b": 2}


def test_the_frontier_is_that_of_single_allocations_and_falls():
    costs, weights = synthetic(AFM_TINY, widths=(2, 3, 4)), weight_counts(AFM_TINY)
    averages = np.linspace(2, 4, 41)
    points = frontier(costs, weights, averages)
    for asked, point in zip(averages, points):
        assert point.bits == allocate(costs, weights, asked)
        assert point.loss == pytest.approx(loss_of(costs, point.bits))
        assert point.average_bits == pytest.approx(average(weights, point.bits)) and point.average_bits <= asked + 1e-9
    losses = [point.loss for point in points]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[20] > losses[-1]
    for method in (allocate, greedy, lagrangian):  # more than the most is no error
        assert method(costs, weights, 16) == points[-1].bits == dict.fromkeys(costs, 4)


@pytest.mark.parametrize("target", [3.5, 3.7])
def test_averages_are_hit_to_a_hundredth_at_true_scale(target):
    costs, weights = synthetic(AFM_ON_DEVICE), weight_counts(AFM_ON_DEVICE)
    bits = allocate(costs, weights, target)
    assert target - 0.01 <= average(weights, bits) <= target + 1e-9
    exact, bound = loss_of(costs, bits), lower_bound(costs, weights, target)
    assert bound <= exact + 1e-9 and exact <= loss_of(costs, lagrangian(costs, weights, target)) + 1e-9
    # Relaxed, at most one matrix is split between two widths: the optimum lies within one matrix's cost of it.
    assert exact - bound <= max(cost[2] - cost[4] for cost in costs.values())


def test_the_best_within_a_window_by_brute_force():
    """The optimum leaves bits unused; a window asks for more bits, of which the best loss is a higher one."""
    rng = np.random.default_rng(0)
    costs = {i: {b: float(rng.exponential()) * 4.0**-b for b in (2, 3, 4)} for i in range(6)}
    weights = dict(zip(costs, (3, 9, 9, 1, 3, 9)))
    every = [dict(zip(costs, bits)) for bits in itertools.product((2, 3, 4), repeat=6)]
    higher = 0
    for target in np.linspace(2.05, 3.95, 20):
        inside = [loss_of(costs, b) for b in every if target - 0.03 <= average(weights, b) <= target]
        found = allocate(costs, weights, target, within=0.03)
        assert target - 0.03 <= average(weights, found) <= target
        assert loss_of(costs, found) == pytest.approx(min(inside))
        higher += min(inside) > loss_of(costs, allocate(costs, weights, target)) * (1 + 1e-9)
    assert higher > 0
    with pytest.raises(ValueError, match="no assignment comes so near below the average"):
        allocate(costs, weights, 2.01, within=0.001)


def test_bits_fixed_by_hand_are_kept_and_the_rest_is_the_best_beside_them():
    costs, weights = synthetic(AFM_TINY), weight_counts(AFM_TINY)
    free = allocate(costs, weights, 3.0)
    fixed = {next(key for key, b in free.items() if b == was): now for was, now in ((2, 4), (4, 2))}
    rest = {key: cost if key not in fixed else {fixed[key]: cost[fixed[key]]} for key, cost in costs.items()}
    bits = allocate(costs, weights, 3.0, fixed=fixed)
    assert bits == allocate(rest, weights, 3.0) and bits | fixed == bits and average(weights, bits) <= 3.0 + 1e-9


def test_weight_counts_are_the_sizes_of_real_arrays():
    cfg = AFMConfig(vocab_size=9, d_model=12, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=4, d_ff=20)
    assert weight_counts(cfg) == {key: w.size for key, w in matrices(init(cfg, 0)).items()}
    per_layer = layer_parameters(AFM_ON_DEVICE)
    assert sum(weight_counts(AFM_ON_DEVICE).values()) == 26 * (per_layer["attention"] + per_layer["ffn"])


COSTS, WEIGHTS = {"a": {2: 1.0, 4: 0.0}, "b": {2: 1.0, 4: 0.0}}, {"a": 3, "b": 1}


def test_what_cannot_be_allocated_is_refused():
    for costs, weights, average_bits, fixed, message in (
        (COSTS, WEIGHTS, 1.9, None, "average of 1.9 bits is impossible: the fewest bits of all matrices take 2 on"),
        (COSTS, WEIGHTS, 3.0, {"a": 4}, "average of 3.0 bits is impossible: .* take 3.5 on"),
        (COSTS, WEIGHTS, float("nan"), None, "is impossible"),
        (COSTS, WEIGHTS, 4, {"a": 3}, r"a is fixed at 3 bits, but costs know \[2, 4\]"),
        (COSTS, WEIGHTS, 4, {"c": 2}, "fixed names"),
        (COSTS, {"a": 3}, 4, None, "name the same matrices"),
        ({}, {}, 4, None, "at least one"),
        (COSTS, {"a": 3, "b": 0}, 4, None, "b needs a weight"),
        *((COSTS | {"b": bad}, WEIGHTS, 4, None, "b needs a weight and a finite") for bad in ({2: float("inf")}, {})),
    ):
        with pytest.raises(ValueError, match=message):
            allocate(costs, weights, average_bits, fixed=fixed)


CFG = AFMConfig(vocab_size=50, d_model=32, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=48)


def test_sizes_of_a_small_model_by_hand():
    matrices = dict(wq=(32, 32), wk=(16, 32), wv=(16, 32), wo=(32, 32), w_gate=(48, 32), w_up=(48, 32), w_down=(32, 48))
    bits = {(name, i): 2 if (name, i) == ("w_up", 1) else 4 for name in matrices for i in range(2)}
    found = sizes(quantization.quantize(init(CFG, 0), bits))
    weights = 2 * sum(out * n for out, n in matrices.values())
    codes = 4 * weights - 2 * 48 * 32
    tables = sum(out // 16 * 2 ** bits[name, i] * 16 + 16 for name, (out, _) in matrices.items() for i in range(2))
    embedding = 50 * 32 * 8 + 50 * 16 + 16
    gains = 32 * (2 * (2 * 32 + 2 * 16) + 32)
    assert found.projection_bits == pytest.approx(codes / weights, rel=1e-12)
    assert found.stored_bytes * 8 == codes + tables + embedding + gains
    parameters = weights + 50 * 32 + 2 * (2 * 32 + 2 * 16) + 32
    assert found.model_bits == pytest.approx((codes + tables + embedding + gains) / parameters, rel=1e-12)


def test_all_stored_bits_by_hand():
    """Two layers of the matrices above with adapters of rank 3: 16 bits for each of 3 (out + in) entries."""
    matrices = dict(wq=(32, 32), wk=(16, 32), wv=(16, 32), wo=(32, 32), w_gate=(48, 32), w_up=(48, 32), w_down=(32, 48))
    weights = sum(out * n for out, n in matrices.values())
    tables = sum(out // 16 * 16 * 16 + 16 for out, _ in matrices.values())  # and an exponent
    adapters = 16 * 3 * sum(out + n for out, n in matrices.values())
    palettes = quantization.quantize(init(CFG, 0), 4)
    found = [quantization.stored_bits_per_weight(p) for p in (palettes, lora.attach(palettes, rank=3), init(CFG, 0))]
    assert found == pytest.approx([4 + tables / weights, 4 + (tables + adapters) / weights, 32], rel=1e-12)


def test_a_plain_model_counts_its_dtype():
    params = init(CFG, 0)
    found = sizes(params._replace(layers=group(params.layers)))
    assert found.projection_bits == found.model_bits == 32
    assert found.stored_bytes == weight_bytes(CFG, 32, 32) + 2 * (2 * (2 * 32 + 2 * 16) + 32)  # gains: 32 bits, not 16
    assert sizes(lora.attach(params)) == found
    eight = replaced(params, {key: quantization.int8(w) for key, w in matrices(params).items()})
    assert sizes(eight).projection_bits == 8


def test_on_device_numbers():
    """Gigabytes to three digits, and 40 GB/s for 30 tokens/s at 3.7 bits."""
    rows = storage.true_scale()
    assert [row["projection_bits"] for row in rows] == [16, 3.7, 3.5]
    assert [round(row["gigabytes"], 2) for row in rows] == [5.48, 1.35, 1.28]
    assert round(rows[1]["gigabytes_per_s"]) == 40
    assert storage.tokens_per_s(AFM_ON_DEVICE, 3.7, 40.4e9) == pytest.approx(30, rel=0.01)
    assert storage.tokens_per_s(AFM_ON_DEVICE, 16, 40.4e9, embedding_bits=16) == pytest.approx(7.4, rel=0.01)


def test_an_untied_head_reads_one_of_two_matrices():
    """By hand for AFM_TINY: 4 layers of 430,080 weights, 1,856 gains, an embedding of 2048 x 192."""
    read = 4 * 430_080 * 3.5 / 8 + (4 * (2 * 192 + 2 * 32) + 192) * 2 + 2048 * 192
    for cfg in (AFM_TINY, dataclasses.replace(AFM_TINY, tie_embeddings=False)):
        assert storage.weight_bytes_per_token(cfg, 3.5) == pytest.approx(read)
