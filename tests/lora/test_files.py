"""Adapter files: what is written comes back, every damage is refused, and no other base is mistaken for this one."""

import dataclasses
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref import lora
from afm_ref.containers import map_matrices, ungrouped
from afm_ref.disk import tensor_files
from afm_ref.lora import files
from afm_ref.lora.adapter import adapters
from tests.lora.models import base_params, random_adapter, stacked


@pytest.fixture
def saved(tmp_path):
    """(path, params) of an adapter that was written."""
    params = random_adapter(base_params(), rank=2, alpha=3)
    files.save(tmp_path / "one.safetensors", params, dtype="float32")
    return tmp_path / "one.safetensors", params


@pytest.mark.parametrize("dtype, rounding", [("float32", 0), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
@pytest.mark.parametrize("container", [lambda p: p, stacked])
def test_what_is_saved_is_loaded(tmp_path, dtype, rounding, container):
    base = base_params()
    path = tmp_path / "folder" / "one.safetensors"
    files.save(path, random_adapter(container(base), rank=2, alpha=3, layers=range(3)), dtype=dtype)
    adapter = files.load(path)
    assert (adapter.rank, adapter.scale, adapter.base) == (2, 1.5, files.fingerprint(base))
    wanted = adapters(ungrouped(random_adapter(container(base), rank=2, alpha=3)))
    assert adapter.matrices.keys() == wanted.keys() and len(wanted) == 21
    atol = 1e-7 if dtype == "float16" else 0
    for key, pair in adapter.matrices.items():
        for got, want in zip(pair, (wanted[key].a, wanted[key].b)):
            np.testing.assert_allclose(got.astype(np.float32), want, rtol=rounding, atol=atol)
            assert got.dtype.name == dtype
    assert load_file(path).keys() == {f"layers.{i}.{name}.{letter}" for name, i in wanted for letter in "ab"}
    assert [p.name for p in path.parent.iterdir()] == ["one.safetensors"]
    assert adapter.n_bytes == path.stat().st_size - 8 - struct.unpack("<Q", path.read_bytes()[:8])[0]


def test_it_is_put_beside_its_base_alone(saved):
    (path, params), base = saved, base_params()
    adapter = files.load(path)
    for key, w in adapters(files.put(stacked(base), adapter)).items():
        assert np.array_equal(w.b, adapters(params)[key].b) and w.scale == 1.5
    with pytest.raises(ValueError, match=r"trained on the base \w+, this base is \w+"):
        files.put(base._replace(final_norm=base.final_norm * 2), adapter)


def test_fingerprint_tells_bases_apart():
    base = base_params()
    mine = files.fingerprint(base)
    assert mine == files.fingerprint(stacked(base)) == files.fingerprint(lora.attach(base, rank=2))
    assert mine == files.fingerprint(jax.tree.map(lambda m: np.asarray(m, np.float64), base))
    assert mine == files.fingerprint(jax.tree.map(jnp.asarray, base))
    others = [base._replace(layers=base.layers[::-1])]
    for name in ("embed", "final_norm"):
        changed = np.array(getattr(base, name))
        changed.flat[-1] = np.nextafter(changed.flat[-1], 9, dtype=np.float32)  # a single last bit
        others.append(base._replace(**{name: changed}))
    for other in others:
        assert files.fingerprint(other) != mine


A = "layers.0.w_down.a"
DAMAGES = [
    (lambda t, about: t.update({A: t[A] * np.nan}), "NaN or infinite values"),
    (lambda t, about: about.update(scale="-1"), "scale '-1'"),
    (lambda t, about: about.update(scale="nan"), "scale 'nan'"),
    (lambda t, about: about.update(format="pt"), "is of the format 'pt'"),
    (lambda t, about: t.pop(A), "no A and B that fit together"),
    (lambda t, about: t.update({A: t[A].T}), "no A and B that fit together"),
    (lambda t, about: t.update({"layers.0.embed.a": t.pop(A)}), "no part of an adapter"),
    (lambda t, about: t.update({A: t[A].astype(np.int8)}), "cannot be read"),
    (lambda t, about: t.update({A: t[A].ravel()}), "where a matrix is expected"),
    (lambda t, about: t.clear(), "holds no adapter"),
]


@pytest.mark.parametrize("change, why", DAMAGES, ids=[why for _, why in DAMAGES])
def test_what_the_checksum_cannot_see_is_refused(saved, change, why):
    path, _ = saved
    tensors, about = tensor_files.load(path, files.FORMAT)
    change(tensors, about)
    tensor_files.save(path, tensors, about)
    with pytest.raises(ValueError, match=rf"one\.safetensors: .*{why}"):
        files.load(path)


def test_what_cannot_be_stored_leaves_the_old_file(saved):
    path, params = saved
    whole = path.read_bytes()
    huge = map_matrices(params, lambda name, w, numbers: dataclasses.replace(w, a=1e7 * w.a))
    mixed = lora.attach(lora.attach(base_params(), targets="wq", rank=2), targets="wo", rank=3)
    for unfit, dtype, why in (
        (huge, "float16", "too large for float16"),
        (base_params(), "float32", "no adapter"),
        (params, "int8", "dtype must be one of"),
        (mixed, "float32", "share one rank and one scale"),
    ):
        with pytest.raises(ValueError, match=why):
            files.save(path, unfit, dtype)
    assert path.read_bytes() == whole and [p.name for p in path.parent.iterdir()] == ["one.safetensors"]
