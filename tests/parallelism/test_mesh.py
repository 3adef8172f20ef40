"""Meshes, their text, and devices asked for too late."""

import jax
import pytest

from afm_ref.parallelism.mesh import AXES, MeshShape, make_mesh, use_fake_devices


def test_text_and_shape_say_the_same():
    shape = MeshShape.parse(" data=2, model=4")
    assert shape == MeshShape(data=2, model=4) and shape.size == 8 and str(shape) == "data=2,model=4"
    assert MeshShape.parse(str(MeshShape())) == MeshShape()


@pytest.mark.parametrize(
    "text, told",
    [
        ("tensor=2", "'tensor' in 'tensor=2' is no axis"),
        ("data=2,data=4", "stands twice"),
        ("data", "needs a number of devices"),
        ("data=-2", "needs a number of devices"),
        ("data=0", "at least 1"),
        ("", "is no axis"),
    ],
)
def test_wrong_text_is_told(text, told):
    with pytest.raises(ValueError, match=told):
        MeshShape.parse(text)


def test_mesh_has_every_axis_and_neighbours_along_the_last():
    mesh = make_mesh(MeshShape(data=2, model=4))
    assert mesh.axis_names == AXES and mesh.devices.shape == (2, 1, 1, 1, 4)
    assert [device.id for device in mesh.devices.flat] == list(range(8))
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_too_few_devices():
    with pytest.raises(ValueError, match=r"needs 16 devices and there are 8.*use_fake_devices\(16\)"):
        make_mesh(MeshShape(data=16))
    with pytest.raises(ValueError, match="needs 2 devices and there are 1"):
        make_mesh(MeshShape(data=2), jax.devices()[:1])


def test_fake_devices_too_late_or_too_many():
    jax.devices()
    use_fake_devices(8)  # as many as there are: nothing to do
    with pytest.raises(RuntimeError, match=r"already started with 8 device\(s\), too late for 16.*restart the kernel"):
        use_fake_devices(16)
    with pytest.raises(ValueError, match="beyond 256"):
        use_fake_devices(257)
    with pytest.raises(ValueError, match="at least 1"):
        use_fake_devices(0)
