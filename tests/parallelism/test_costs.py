"""The roofline against sums by hand, compiled programs, public step times; the chooser's order and its reasons."""

import dataclasses
import math

import pytest

from afm_ref import assets
from afm_ref.config import AFM_ON_DEVICE, AFMConfig, parameters, train_flops_per_token
from afm_ref.parallelism import costs, traffic
from afm_ref.parallelism.chooser import choose, pareto, shapes
from afm_ref.parallelism.costs import V4, V5P, Chip
from afm_ref.parallelism.mesh import MeshShape
from afm_ref.parallelism.plan import Plan

FAST = Chip("no memory wall", 1e15, 1e12, math.inf, 1e9, 1e8, 3, "made up")
SMALL = AFMConfig(d_model=64, n_layers=4, n_heads=6, n_kv_heads=2, head_dim=32, d_ff=128, vocab_size=512)


def test_without_a_memory_wall_compute_is_flops_over_peak():
    """The operations of the roofline add up to the FLOPs that config counts in closed form."""
    for shape in (MeshShape(), MeshShape(data=4, fsdp=2), MeshShape(model=2, seq=4), MeshShape(data=2, model=2)):
        seconds = costs.compute_s(SMALL, shape, 8, 256, FAST, remat=False)
        assert seconds == pytest.approx(train_flops_per_token(SMALL, 256) * 8 * 256 / (1e15 * shape.size), rel=1e-12)
    once_more = costs.compute_s(SMALL, MeshShape(), 8, 256, FAST) - costs.compute_s(
        SMALL, MeshShape(), 8, 256, FAST, remat=False
    )
    head = 2 * SMALL.vocab_size * SMALL.d_model  # is not computed again
    forward = train_flops_per_token(SMALL, 256) / 3 - head
    assert once_more == pytest.approx(forward * 8 * 256 / 1e15, rel=1e-12)


def test_large_products_run_at_peak_and_small_ones_at_the_memory():
    slow_memory = dataclasses.replace(FAST, hbm_bandwidth=1e9)
    wall = costs.compute_s(SMALL, MeshShape(), 8, 256, slow_memory, remat=False)
    faster = costs.compute_s(SMALL, MeshShape(), 8, 256, dataclasses.replace(slow_memory, flops=1e18), remat=False)
    assert wall == pytest.approx(faster, rel=1e-3)  # FLOPs do not matter when bytes do
    # On a v5p every product of AFM-on-device runs at peak: what is left are 3 passes over norms, rope, gates, logits.
    cfg, tokens = AFM_ON_DEVICE, 2 * 4096
    seconds = costs.compute_s(cfg, MeshShape(data=1024), 2048, 4096, V5P, remat=False)
    numbers = 26 * (10 * 3072 + 4 * 3072 + 4 * 1024 + 3 * 8064) + 2 * 49_152
    peak = train_flops_per_token(cfg, 4096) * tokens / 459e12
    assert seconds == pytest.approx(peak + 3 * 2 * tokens * numbers / 2765e9, rel=1e-9)


def test_pure_data_parallel_by_hand():
    """Every term from its definition, with a chip of round numbers."""
    P, n = parameters(SMALL)["total"], 4
    estimate = costs.step(SMALL, MeshShape(data=n), 8, 256, FAST, remat=False)
    assert estimate.sent_bytes["data"] == 2 * 3 / 4 * 2 * P  # all-reduce of bfloat16 gradients
    assert estimate.communication_s["data"] == estimate.sent_bytes["data"] / (6 * 1e9)  # alone: all six links
    flops = train_flops_per_token(SMALL, 256) * 8 * 256 / n
    assert estimate.step_s == pytest.approx(max(flops / 1e15, estimate.communication_s["data"]))
    assert estimate.mfu == pytest.approx(flops / 1e15 / estimate.step_s)
    assert estimate.memory["weights"] == 6 * P and estimate.memory["optimizer"] == 8 * P
    assert estimate.memory["gradients"] == 2 * P and estimate.memory["gathered"] == 0


def test_the_stages_of_zero():
    P, shape = parameters(SMALL)["total"], MeshShape(fsdp=4)
    by_stage = {zero: costs.step(SMALL, shape, 8, 256, FAST, zero=zero) for zero in (1, 2, 3)}
    held = {
        zero: [e.memory[part] / P for part in ("weights", "gradients", "optimizer")] for zero, e in by_stage.items()
    }
    assert held == {1: [6, 2, 2], 2: [6, 0.5, 2], 3: [1.5, 0.5, 2]}
    sent = {zero: e.sent_bytes["fsdp"] / (3 / 4 * 2 * P) for zero, e in by_stage.items()}
    assert sent == {1: 2, 2: 2, 3: 3}  # 3 (n-1)/n against data parallel's 2 (n-1)/n


def test_traffic_equals_the_compiled_programs():
    """Gathers to 1e-4 (the gains, which no axis cuts, are left out there); sums with the tied embedding's twice."""
    numbers = assets.recording("at_scale")["numbers"]
    P, E = (parameters(AFM_ON_DEVICE)[part] for part in ("total", "embedding"))
    for n in (8, 64, 512):
        fsdp = costs.sent_bytes(AFM_ON_DEVICE, MeshShape(fsdp=n), 2 * n, 4096)["fsdp"]
        gathers = numbers[f"cpu {n} fsdp"]["measured"]["collectives"]["all-gather"]["bytes_sent"]
        assert gathers == pytest.approx(fsdp * 2 / 3, rel=1e-4)
        data = costs.sent_bytes(AFM_ON_DEVICE, MeshShape(data=n), 2 * n, 4096)["data"]
        sums = numbers[f"cpu {n} data"]["measured"]["collectives"]["all-reduce"]["bytes_sent"]
        assert sums == pytest.approx(data * (P + E) / P, rel=1e-4)


@pytest.mark.parametrize("mesh", ["data=8", "fsdp=8", "model=2", "seq=4", "fsdp=4,model=2", "data=2,fsdp=2,model=2"])
def test_traffic_equals_that_of_the_explicit_strategies(mesh):
    """`traffic` counts to the byte what the shard_map programs send. The gap is what is small there: gains, loss,
    and the embedding, which they gather once and we count as often as the layers (5% of this tiny model)."""
    plan = Plan(SMALL, mesh, sequence="gather" if "seq" in mesh else None)
    ours = costs.sent_bytes(SMALL, plan.shape, 8, 256, remat=plan.remat)
    assert 2 * sum(ours.values()) == pytest.approx(sum(traffic.bytes_sent(plan, 8, 256).values()), rel=0.05)


def test_slices_cost_what_the_slow_network_takes():
    """Two slices: each chip sums its share of the scattered gradients with its partner, which sends 2 (1/2) of it."""
    one, two = (costs.step(SMALL, MeshShape(data=8), 8, 256, FAST, slices=slices) for slices in (1, 2))
    share = 2 * parameters(SMALL)["total"] / 4
    assert two.communication_s["data"] - one.communication_s["data"] == pytest.approx(share / 1e8)


def test_a_pipeline_waits_in_its_bubble():
    estimate = costs.step(SMALL, MeshShape(pipe=4), 16, 256, FAST, microbatches=12)
    assert estimate.bubble == 3 / 12
    busy = max(estimate.compute_s, 0) + estimate.exposed_s
    assert estimate.step_s == pytest.approx(busy * 1.25)


def test_public_step_times_are_above_the_roofline_and_below_twice_it():
    """AXLearn's 3B model on v5p, 2048 sequences of 4096 tokens: 512, 1024 and 2048 chips (facts.md section 4)."""
    for chips, public_s in ((512, 1.48), (1024, 0.80), (2048, 0.47)):
        predicted = costs.step(AFM_ON_DEVICE, MeshShape(data=chips), 2048, 4096, V5P).step_s
        assert 1 < public_s / predicted < 2


def test_misfits_are_named():
    with pytest.raises(ValueError, match="model=4 does not divide 2 key/value heads"):
        costs.step(SMALL, MeshShape(model=4), 8, 256, V5P)
    with pytest.raises(ValueError, match="2 slices do not divide data=1"):
        costs.step(SMALL, MeshShape(), 8, 256, V5P, slices=2)
    assert costs.misfits(SMALL, MeshShape(), 8, 256) == []
    said = costs.misfits(SMALL, MeshShape(data=3, fsdp=3, pipe=3, seq=3, model=3), 8, 256)
    assert len(said) == 7 and "data x fsdp = 9 does not divide the batch of 8 sequences" in said


def test_every_factorisation_once():
    found = shapes(8)
    assert len(found) == len(set(found)) == math.comb(3 + 4, 4)  # three factors of two into five axes
    assert {shape.size for shape in found} == {8}
    assert len(shapes(12)) == math.comb(2 + 4, 4) * 5


def test_chooser_ranks_by_time_and_refuses_with_reasons():
    choices = choose(AFM_ON_DEVICE, 16, V4, 64, 4096)
    fit = [c for c in choices if c.fits]
    assert choices[: len(fit)] == fit and 0 < len(fit) < len(choices)
    times = [c.estimate.step_s for c in fit]
    assert all(b > a * 0.98 for a, b in zip(times, times[1:]))  # within the 1% that counts as equal, ordered
    alone = next(c for c in choices if c.shape == MeshShape(data=16))
    assert not alone.fits and alone.reasons[0].startswith("needs ") and "of 30.4" in alone.reasons[0]
    heads = next(c for c in choices if c.shape == MeshShape(model=16))
    assert heads.estimate is None and "8 key/value heads" in heads.reasons[0]
    assert all("compute" in " ".join(c.reasons) for c in fit)
    best = pareto(choices)
    assert best[0].estimate.step_s == min(times)
    assert best[-1].estimate.memory_bytes == min(c.estimate.memory_bytes for c in fit)
    with pytest.raises(ValueError, match="give at least 1"):
        choose(AFM_ON_DEVICE, 0, V4, 64, 4096)
