"""Adapter files: what is written comes back, every damage is refused, and no other base is mistaken for this one."""

import dataclasses
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref import lora
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
    wanted = adapters(random_adapter(container(base), rank=2, alpha=3))
    assert len(adapter.matrices) == 21
    for (name, layer), (a, b) in adapter.matrices.items():
        mine = wanted[name, layer] if container is not stacked else wanted[name, 0]
        mine_a, mine_b = (mine.a, mine.b) if container is not stacked else (mine.a[layer], mine.b[layer])
        np.testing.assert_allclose(a.astype(np.float32), mine_a, rtol=rounding, atol=1e-7 if dtype == "float16" else 0)
        np.testing.assert_allclose(b.astype(np.float32), mine_b, rtol=rounding, atol=1e-7 if dtype == "float16" else 0)
        assert a.dtype.name == b.dtype.name == dtype
    assert [p.name for p in path.parent.iterdir()] == ["one.safetensors"]
    assert adapter.n_bytes == path.stat().st_size - 8 - struct.unpack("<Q", path.read_bytes()[:8])[0]


def test_safetensors_reads_it_too(saved):
    from safetensors.numpy import load_file

    path, params = saved
    tensors = load_file(path)
    assert np.array_equal(tensors["layers.1.w_up.a"], params.layers[1].w_up.a)


def test_it_is_put_beside_its_base_alone(saved):
    path, params = saved
    base = base_params()
    adapter = files.load(path)
    again = files.put(stacked(base), adapter)
    for key, w in adapters(again).items():
        assert np.array_equal(w.b, adapters(params)[key].b) and w.scale == 1.5
    other = base._replace(final_norm=base.final_norm * 2)
    with pytest.raises(ValueError, match=r"trained on the base \w+, this base is \w+"):
        files.put(other, adapter)


def test_fingerprint_tells_bases_apart():
    base = base_params()
    mine = files.fingerprint(base)
    assert mine == files.fingerprint(stacked(base)) == files.fingerprint(lora.attach(base, rank=2))
    assert mine == files.fingerprint(jax.tree.map(lambda m: np.asarray(m, np.float64), base))
    assert mine == files.fingerprint(jax.tree.map(jnp.asarray, base))
    for name in ("embed", "final_norm"):
        changed = np.array(getattr(base, name))
        changed.ravel()[-1] = np.nextafter(changed.ravel()[-1], 9, dtype=np.float32)  # a single last bit
        assert files.fingerprint(base._replace(**{name: changed})) != mine
    layers = list(base.layers)
    layers[0], layers[1] = layers[1], layers[0]
    assert files.fingerprint(base._replace(layers=tuple(layers))) != mine


def test_every_damage_is_refused(saved):
    """Cut off anywhere, or a bit changed anywhere: always a ValueError that names the file."""
    path, _ = saved
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cuts = [0, 7, 8, 100, len(whole) - 1, *rng.integers(0, len(whole), 40)]
    flips = [0, 8, 9, *rng.integers(0, len(whole), 80)]
    damaged = [whole[:cut] for cut in cuts]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in flips]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"one.safetensors"):
            files.load(path)
    path.write_bytes(whole)
    files.load(path)


def poisoned(m):
    m = m.copy()
    m[0, 0] = np.nan
    return m


A = "layers.0.w_down.a"
DAMAGES = [
    (lambda t, about: t.update({A: poisoned(t[A])}), "NaN or infinite values"),
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
    huge = params._replace(
        layers=(params.layers[0]._replace(wq=dataclasses.replace(params.layers[0].wq, a=np.full((2, 12), 1e6))),)
    )
    with pytest.raises(ValueError, match="too large for float16"):
        files.save(path, huge, dtype="float16")
    with pytest.raises(ValueError, match="no adapter"):
        files.save(path, base_params())
    with pytest.raises(ValueError, match="dtype must be one of"):
        files.save(path, params, dtype="int8")
    mixed = lora.attach(lora.attach(base_params(), targets="wq", rank=2), targets="wo", rank=3)
    with pytest.raises(ValueError, match="share one rank and one scale"):
        files.save(path, mixed)
    assert path.read_bytes() == whole and [p.name for p in path.parent.iterdir()] == ["one.safetensors"]
