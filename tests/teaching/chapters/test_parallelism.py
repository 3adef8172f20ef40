"""Pictures show the objects that they are given."""

import jax
import numpy as np
import pytest

from afm_ref import transformer
from afm_ref.config import AFM_ON_DEVICE, AFMConfig
from afm_ref.containers import group
from afm_ref.parallelism.compiled.collectives import Collective
from afm_ref.parallelism.mesh import MeshShape
from afm_ref.parallelism.predicted import chooser, roofline
from afm_ref.parallelism.sharded.plan import Plan
from afm_ref.parallelism.sharded.strategies import NextToken
from afm_ref.parallelism.simulator import pipeline_schedules, ring_collectives
from afm_ref.parallelism.simulator.cluster import Cluster, einsum
from afm_ref.teaching import figures
from afm_ref.teaching.chapters import at_scale, parallelism, parallelism_drawing


def rectangles(ax):
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in ax.patches]


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_a_tensor_is_drawn_as_it_lies():
    fig, ax = figures.subplots()
    x = Cluster(data=2, model=2).place(np.zeros((4, 4)), "TD", data="T", model="D")
    parallelism_drawing.tensor(ax, x)
    boxes = rectangles(ax)
    assert len(boxes) == 8 and texts(ax) == ["0", "1", "2", "3", "data 0", "data 1"]
    assert ax.get_title() == "[T/data, D/model]"
    for device, (outline, piece) in enumerate(zip(boxes[::2], boxes[1::2])):
        assert np.subtract(piece, outline) == pytest.approx([device % 2 / 2, device // 2 / 2, -0.5, -0.5])
        assert piece[2:] == (0.5, 0.5)
    assert figures.png(fig)


def test_summands_are_hatched():
    cluster = Cluster(a=2)
    x, w = (cluster.place(np.zeros((2, 4)), axes, a="D") for axes in ("TD", "FD"))
    for tensor, hatches in ((x, {None}), (einsum("TD,FD->TF", x, w), {None, "////"})):
        _, ax = figures.subplots()
        parallelism_drawing.tensor(ax, tensor)
        assert {p.get_hatch() for p in ax.patches} == hatches


def test_equal_parts_have_equal_colours():
    for layout, equal in ((dict(b="T"), [[0, 2], [1, 3]]), (dict(a="T"), [[0, 1], [2, 3]]), ({}, [[0, 1, 2, 3]])):
        _, ax = figures.subplots()
        parallelism_drawing.tensor(ax, Cluster(a=2, b=2).place(np.zeros((4, 4)), "TD", **layout))
        colors = [p.get_facecolor() for p in ax.patches[1::2]]
        found = [[i for i, color in enumerate(colors) if color == one] for one in dict.fromkeys(colors)]
        assert found == equal


def test_in_the_bubble_a_stage_works_on_zeros_or_on_the_last_microbatch_again():
    cfg = AFMConfig(d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8, vocab_size=8)
    (stack,) = group(transformer.init(cfg, seed=0).layers)
    assert parallelism.stage_work(stack, 2, 3) == [{1: 1, 2: 1, 3: 2}, {0: 1, 1: 1, 2: 1, 3: 1}]


def test_visitors_are_kept_by_the_backward_pass_of_all_layers_or_of_one():
    cfg = AFMConfig(d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8, vocab_size=8)
    for remat, kept in ((False, [True, True]), (True, [False, True])):
        plan = Plan(cfg, "seq=4", sequence="ring", remat=remat)
        loss = NextToken(plan)
        assert parallelism.visitors(loss, plan, 3, 8) == [False, False]
        backward = jax.grad(lambda w, b, loss=loss: loss(w, b)[0])
        assert parallelism.visitors(backward, plan, 3, 8) == kept


def test_bars_are_as_long_as_what_they_stand_for():
    cfg = AFMConfig(d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8, vocab_size=8)
    found = Collective("all-gather", 500, 1000, 2, 3), Collective("all-reduce", 1000, 1000, 2, 4)
    (ax,) = parallelism.bytes_figure({"FSDP": {"plan": Plan(cfg, "fsdp=2"), "found": found}}).axes
    assert [p.get_width() for p in ax.patches] == [4.0, 1.5]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["FSDP\nfsdp=2: 2 devices"]
    one = roofline.step(chooser.plan_for(AFM_ON_DEVICE, MeshShape(data=64, pipe=2), 1024), 1024, 4096, roofline.V5P)
    left, right = parallelism.steps_figure({"data=64,pipe=2": one}).axes
    assert sum(p.get_width() for p in left.patches) == pytest.approx(one.step_s)
    assert sum(p.get_width() for p in right.patches) == pytest.approx(one.memory_bytes / 2**30)


def test_a_ring_step_shows_what_is_held():
    trace = ring_collectives.all_reduce([np.full(3, i) for i in range(3)])
    _, ax = figures.subplots()
    parallelism_drawing.ring_step(ax, trace, 1)
    assert sorted(texts(ax)) == sorted(["0", "1", "2", "0+1", "1+2", "0+2"])
    assert sum(p.get_edgecolor()[:3] == pytest.approx((0.902, 0.624, 0.0), abs=0.01) for p in ax.patches) == 3
    _, ax = figures.subplots()
    parallelism_drawing.ring_step(ax, trace, 4)
    assert texts(ax) == ["0+1+2"] * 9


def test_a_timeline_has_a_bar_for_every_job():
    timeline = pipeline_schedules.one_f_one_b(3, 4)
    fig, ax = figures.subplots()
    parallelism_drawing.timeline(ax, timeline)
    bars = {(round(p.get_x(), 6), round(p.get_y() + 0.4), round(p.get_width(), 6)) for p in ax.patches}
    assert {(job.start_s, job.stage, job.end_s - job.start_s) for job in timeline.jobs} <= bars
    assert len(texts(ax)) == 24 and "25%" not in ax.get_title() and "33%" in ax.get_title()
    assert figures.png(fig)


@pytest.mark.parametrize("name", parallelism.COLLECTIVES)
def test_the_ring_stepper_draws_every_step(name):
    for step in (0, 2, 10):  # the start, one on the way, and beyond the last
        ax = parallelism.ring_figure(name, 3, step).axes[0]
        assert ax.get_title().startswith(name) and len(texts(ax)) >= 3
    assert parallelism.ring_figure(name, 2, 0).axes[0].get_ylabel() == "device"


def test_the_mesh_figure_shows_the_estimate():
    top, bottom = parallelism.mesh_figure(64, 2, 2, 2, 2, 1024).axes
    plan = chooser.plan_for(AFM_ON_DEVICE, MeshShape(64, 2, 2, 2, 2), 1024)
    estimate = roofline.step(plan, 1024, 4096, roofline.V5P)
    assert sum(p.get_width() for p in top.patches) == pytest.approx(estimate.step_s)
    assert sum(p.get_width() for p in bottom.patches) == pytest.approx(estimate.memory_bytes / 2**30)
    assert all(p.get_width() > 0 for p in top.patches) and "1024 chips" in top.get_title(loc="left")


def test_the_picked_mesh_is_the_one_taken_apart():
    left, time, memory = at_scale.landscape("v5p", 64, 128, 8, 2).axes
    plan = chooser.plan_for(AFM_ON_DEVICE, MeshShape(data=4, fsdp=8, model=2), 128)
    estimate = roofline.step(plan, 128, 4096, roofline.V5P)
    assert left.get_title().startswith("data=4,fsdp=8,model=2:") and left.get_title().endswith(", fits")
    compute, *traffic = (bar.get_height() for bar in time.patches)
    assert compute == estimate.compute_s and sum(traffic) == pytest.approx(sum(estimate.communication_s.values()))
    gigabytes = estimate.memory_bytes / 2**30
    assert sum(bar.get_height() for bar in memory.patches) == pytest.approx(gigabytes)
    (star,) = [line for line in left.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (gigabytes, estimate.step_s)
    assert at_scale.landscape("v4", 64, 128, 1, 1).axes[0].get_title().endswith("does NOT fit")
