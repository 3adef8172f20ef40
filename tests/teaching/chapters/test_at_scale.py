"""The chooser's figure shows the estimate of the mesh that is picked, and says why another cannot be."""

import pytest

from afm_ref.config import AFM_ON_DEVICE
from afm_ref.parallelism.mesh import MeshShape
from afm_ref.parallelism.predicted import chooser, roofline
from afm_ref.teaching.chapters import at_scale


def test_the_picked_mesh_is_the_one_taken_apart():
    fig = at_scale.landscape("v5p", 64, 128, 8, 2)
    left, time, memory = fig.axes
    plan = chooser.plan_for(AFM_ON_DEVICE, MeshShape(data=4, fsdp=8, model=2), 128)
    estimate = roofline.step(plan, 128, 4096, roofline.V5P)
    assert left.get_title().startswith("data=4,fsdp=8,model=2:") and left.get_title().endswith(", fits")
    assert time.patches[0].get_height() == estimate.compute_s
    traffic = sum(bar.get_height() for bar in time.patches[1:])
    assert traffic == pytest.approx(sum(estimate.communication_s.values()))
    stacked = sum(bar.get_height() for bar in memory.patches)
    assert stacked == pytest.approx(estimate.memory_bytes / 2**30)
    (star,) = [line for line in left.lines if line.get_marker() == "*"]
    assert star.get_xdata()[0] == estimate.memory_bytes / 2**30 and star.get_ydata()[0] == estimate.step_s


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="fsdp 512 x model 1 does not divide 64 chips"):
        at_scale.landscape("v5p", 64, 128, 512, 1)
    with pytest.raises(ValueError, match="batch of 64 sequences cannot be cut"):
        at_scale.landscape("v5p", 512, 64, 1, 1)
    fig = at_scale.landscape("v4", 64, 128, 1, 1)
    assert fig.axes[0].get_title().endswith("does NOT fit")
