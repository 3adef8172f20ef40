"""The roofline against sums by hand, compiled programs, public step times; the chooser's order and its reasons."""

import math

import pytest

from afm_ref.config import AFM_ON_DEVICE, AFMConfig, parameters, train_flops_per_token
from afm_ref.parallelism.mesh import MeshShape
from afm_ref.parallelism.predicted import roofline, traffic
from afm_ref.parallelism.predicted.chooser import choose, plan_for, shapes
from afm_ref.parallelism.predicted.roofline import V4, V5P, Chip
from afm_ref.parallelism.sharded.plan import Plan

FAST = Chip("no memory wall", 1e15, 1e12, math.inf, 1e9, 1e8, 3, "made up")
SMALL = AFMConfig(d_model=64, n_layers=4, n_heads=6, n_kv_heads=2, head_dim=32, d_ff=128, vocab_size=512)


def test_without_a_memory_wall_compute_is_flops_over_peak():
    """The operations of the roofline add up to the FLOPs that config counts in closed form."""
    for plan in (
        Plan(SMALL, "data=1"),
        Plan(SMALL, "data=4"),
        Plan(SMALL, "model=2,data=2"),
        Plan(SMALL, "data=4,fsdp=2", zero=2, remat=False),
        Plan(SMALL, "model=2,seq=4", sequence="gather"),
    ):
        seconds = roofline.compute_s(plan, 8, 256, FAST)
        flops = train_flops_per_token(SMALL, 256) * 8 * 256
        assert seconds == pytest.approx(flops / (1e15 * plan.shape.size), rel=1e-12)
    once_more = roofline.compute_s(Plan(SMALL, "data=1", remat=True), 8, 256, FAST) - roofline.compute_s(
        Plan(SMALL, "data=1"), 8, 256, FAST
    )
    head = 2 * SMALL.vocab_size * SMALL.d_model  # is not computed again
    forward = train_flops_per_token(SMALL, 256) / 3 - head
    assert once_more == pytest.approx(forward * 8 * 256 / 1e15, rel=1e-12)


def test_large_products_run_at_peak_and_small_ones_at_the_memory():
    slow_memory, plan = FAST._replace(hbm_bandwidth=1e9), Plan(SMALL, "data=1")
    wall = roofline.compute_s(plan, 8, 256, slow_memory)
    faster = roofline.compute_s(plan, 8, 256, slow_memory._replace(flops=1e18))
    assert wall == pytest.approx(faster, rel=1e-3)  # FLOPs do not matter when bytes do
    # On a v5p every product of AFM-on-device runs at peak: what is left are 3 passes over norms, rope, gates, logits,
    # and the optimizer's 28 bytes a weight.
    cfg, tokens = AFM_ON_DEVICE, 2 * 4096
    seconds = roofline.compute_s(Plan(cfg, "data=1024"), 2048, 4096, V5P)
    numbers = 26 * (10 * 3072 + 4 * 3072 + 4 * 1024 + 3 * 8064) + 2 * 49_152
    peak = train_flops_per_token(cfg, 4096) * tokens / 459e12
    moved = 3 * 2 * tokens * numbers + 28 * parameters(cfg)["total"]
    assert seconds == pytest.approx(peak + moved / 2765e9, rel=1e-9)


def test_pure_data_parallel_by_hand():
    """Every term from its definition, with a chip of round numbers."""
    P, n = parameters(SMALL)["total"], 4
    estimate = roofline.step(Plan(SMALL, f"data={n}"), 8, 256, FAST)
    assert estimate.sent_bytes["data"] == 2 * 3 / 4 * (2 * P + 2 * 4)  # bfloat16 gradients, the loss and the count
    assert estimate.communication_s["data"] == estimate.sent_bytes["data"] / (6 * 1e9)  # alone: all six links
    flops = train_flops_per_token(SMALL, 256) * 8 * 256 / n
    assert estimate.step_s == pytest.approx(max(flops / 1e15, estimate.communication_s["data"]))
    assert estimate.mfu == pytest.approx(flops / 1e15 / estimate.step_s)
    assert estimate.memory["weights"] == 6 * P and estimate.memory["optimizer"] == 8 * P
    assert estimate.memory["gradients"] == 2 * 2 * P and estimate.memory["gathered"] == 0


def test_axes_share_what_a_step_sends():
    """A ring over two axes costs what it costs over each in turn, with what the first leaves to sum."""
    for mesh, sequence in (("data=2,fsdp=4,seq=2,model=2", "gather"), ("data=4,pipe=2", None)):
        plan = Plan(SMALL, mesh, sequence=sequence)
        together = sum(traffic.bytes_sent(plan, 8, 256, width=2).values())
        assert sum(traffic.bytes_by_axis(plan, 8, 256, width=2).values()) == pytest.approx(together, rel=1e-12)
    by_axis = traffic.bytes_by_axis(Plan(SMALL, "data=4,seq=2", sequence="gather"), 8, 256, width=2)
    gradients = 2 * parameters(SMALL)["total"] + 2 * 4  # cut in two by seq before data sums them
    assert by_axis["data"] == 2 * 3 / 4 * gradients / 2


def test_slices_cost_what_the_slow_network_takes():
    """Two slices: each chip sums its share of the scattered gradients with its partner, which sends 2 (1/2) of it."""
    one, two = (roofline.step(Plan(SMALL, "data=8"), 8, 256, FAST, slices=slices) for slices in (1, 2))
    share = 2 * parameters(SMALL)["total"] / 4
    assert two.communication_s["data"] - one.communication_s["data"] == pytest.approx(share / 1e8)
    with pytest.raises(ValueError, match="data=1 must be a multiple of 2 slices"):
        roofline.step(Plan(SMALL, "data=1"), 8, 256, FAST, slices=2)


def test_a_pipeline_waits_in_its_bubble():
    estimate = roofline.step(Plan(SMALL, "pipe=4", microbatches=12), 24, 256, FAST)
    assert estimate.bubble == 3 / 12
    assert estimate.step_s == pytest.approx(estimate.compute_s * 1.25 + estimate.exposed_s)
    assert estimate.idle_s == pytest.approx(estimate.step_s - estimate.compute_s - estimate.exposed_s)


def test_every_factorisation_once():
    found = shapes(8)
    assert len(found) == len(set(found)) == math.comb(3 + 4, 4)  # three factors of two into five axes
    assert {shape.size for shape in found} == {8}
    assert len(shapes(12)) == math.comb(2 + 4, 4) * 5


def test_chooser_ranks_by_time_and_refuses_with_reasons():
    candidates = choose(AFM_ON_DEVICE, 16, V4, 64, 4096)
    fit = [c for c in candidates if c.fits]
    assert candidates[: len(fit)] == fit and 0 < len(fit) < len(candidates)
    times = [c.estimate.step_s for c in fit]
    assert all(b > a * 0.98 for a, b in zip(times, times[1:]))  # within the 1% that counts as equal, ordered
    alone = next(c for c in candidates if c.shape == MeshShape(data=16))
    assert not alone.fits and alone.reasons[0].startswith("needs ") and "of 30.4" in alone.reasons[0]
    heads = next(c for c in candidates if c.shape == MeshShape(model=16))
    assert heads.estimate is None and "n_kv_heads 8 cannot be cut over model=16" in heads.reasons[0]
    assert all("compute" in " ".join(c.reasons) for c in fit)
    assert plan_for(SMALL, MeshShape(data=2, pipe=2), 12).microbatches == 6  # 8, 4 a stage, do not divide 6 rows
    assert plan_for(SMALL, MeshShape(data=8, pipe=2), 4).microbatches == 1  # and is refused for its rows
    with pytest.raises(ValueError, match="give at least 1"):
        choose(AFM_ON_DEVICE, 0, V4, 64, 4096)
