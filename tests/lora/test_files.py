"""Adapter files: what is written comes back, every damage is refused, and no other base is mistaken for this one."""

import dataclasses
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import lora
from afm_ref.lora import files
from afm_ref.lora.adapter import adapters
from tests.lora.models import base_params, random_adapter, stacked


@pytest.fixture
def saved(tmp_path):
    """(path, params) of an adapter that was written."""
    params = random_adapter(base_params(), rank=2, alpha=3)
    files.save(tmp_path / "one.safetensors", params, dtype="float32")
    return tmp_path / "one.safetensors", params


def rewritten(path, change):
    """Write the file again with its header changed, the checksum made to fit: only the checks behind it can refuse."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    change(entries, body)
    about = entries.pop("__metadata__")
    about.pop("crc32", None)
    about["crc32"] = files._checksum(about, entries, bytes(body))
    header = json.dumps({"__metadata__": about} | entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(body))


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


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data):
    with pytest.raises(ValueError):
        files._decode(data)


def first(entries):
    return next(name for name in entries if name != "__metadata__")


def put_nan(entries, body):
    body[:4] = np.float32(np.nan).tobytes()


DAMAGES = [
    (put_nan, "NaN or infinite values"),
    (lambda e, b: e["__metadata__"].update(scale="-1"), "scale '-1'"),
    (lambda e, b: e["__metadata__"].update(scale="nan"), "scale 'nan'"),
    (lambda e, b: e["__metadata__"].update(format="pt"), "no adapter file of format"),
    (lambda e, b: e.pop(first(e)), "no A and B that fit together"),
    (lambda e, b: e.update({"layers.0.embed.a": e.pop(first(e))}), "no part of an adapter"),
    (lambda e, b: e[first(e)].update(dtype="I8"), "cannot be read"),
    (lambda e, b: e[first(e)].update(shape=[3, 3]), "cannot be read"),
    (lambda e, b: e[first(e)].update(data_offsets=[0]), "cannot be read"),
    (lambda e, b: e[first(e)].update(shape=[20]), "where a matrix is expected"),
    (lambda e, b: [e.pop(name) for name in list(e) if name != "__metadata__"], "holds no adapter"),
]


@pytest.mark.parametrize("change, why", DAMAGES, ids=[why for _, why in DAMAGES])
def test_what_the_checksum_cannot_see_is_refused(saved, change, why):
    path, _ = saved
    rewritten(path, change)
    with pytest.raises(ValueError, match=why):
        files.load(path)


def test_rewriting_alone_is_accepted(saved):
    path, _ = saved
    rewritten(path, lambda entries, body: None)
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
