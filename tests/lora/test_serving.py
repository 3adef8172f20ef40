"""Adapter files: all damage refused, no base mistaken. The bank: each adapter alone, nothing compiled twice."""

import dataclasses
import functools
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref import generation, lora
from afm_ref.containers import Remat, map_matrices, ungrouped
from afm_ref.disk import tensor_files
from afm_ref.lora import AdapterBank, files
from afm_ref.lora.adapter import adapters
from afm_ref.transformer import forward
from tests.lora import models
from tests.lora.models import base_params, random_adapter, run, stacked, tokens


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


CFG = dataclasses.replace(models.CFG, n_layers=2)
NAMES = ("long", "short", "tone")  # ranks 3, 2 and 1, of other scales and targets
SETTINGS = {
    "long": dict(rank=3, alpha=5),
    "short": dict(rank=2, alpha=2, targets=lora.ATTENTION, layers=[1]),
    "tone": dict(rank=1, alpha=0.7),
}


@pytest.fixture
def folder(tmp_path):
    """A folder with three adapters, in float32 so that serving can be compared to the last digits."""
    for seed, name in enumerate(NAMES):
        files.save(path(tmp_path, name), random_adapter(base_params(CFG), seed, **SETTINGS[name]), dtype="float32")
    return tmp_path


def path(folder, name):
    return folder / f"{name}.safetensors"


def bank_of(folder, budget_bytes=1e9, base=None, **settings):
    settings = dict(rank=3, slots=3, dtype="float32") | settings
    return AdapterBank(base or base_params(CFG), folder, budget_bytes, **settings)


def alone(folder, name):
    """Return the params of an adapter without the bank, in NumPy."""
    return base_params(CFG) if name is None else files.put(base_params(CFG), files.load(path(folder, name)))


def test_one_adapter_equals_the_adapter_itself(folder):
    """And the container of the base, and an adapter that it has, do not matter."""
    bank = bank_of(folder, base=lora.attach(base_params(CFG)._replace(layers=Remat(base_params(CFG).layers)), rank=1))
    assert bank.fingerprint == files.fingerprint(base_params(CFG))
    mine = {id(leaf) for leaf in jax.tree.leaves(bank.base)}
    for name in (*NAMES, None):
        got, wanted = run(bank.params(name), tokens(), CFG), forward(alone(folder, name), tokens(), CFG)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        assert mine <= {id(leaf) for leaf in jax.tree.leaves(bank.params(name))}  # nothing of the base is copied
    assert np.abs(run(bank.params("tone"), tokens(), CFG) - run(bank.params(None), tokens(), CFG)).max() > 0.05
    assert bank.params("long") is bank.params("long")


def test_a_mixed_batch_equals_each_request_alone(folder):
    bank, batch = bank_of(folder), tokens(shape=(6, 7))
    rows = ["tone", None, "long", "short", "tone", "long"]
    got = run(bank.batch(rows), batch, CFG)
    for i, name in enumerate(rows):
        wanted = forward(alone(folder, name), batch[i : i + 1], CFG)
        np.testing.assert_allclose(got[i : i + 1], wanted, rtol=1e-4, atol=1e-5, err_msg=f"row {i}, {name}")


def test_generation_takes_a_mixed_batch(folder):
    batch, rows = tokens(shape=(3, 5)), ["tone", None, "long"]
    together = generation.generate(bank_of(folder).batch(rows), CFG, batch, 6)
    for name, row, got in zip(rows, batch, together):
        for _ in range(6):  # greedily, in NumPy
            row = np.append(row, forward(alone(folder, name), row[None], CFG)[0, -1].argmax())
        assert got.tolist() == row[5:].tolist()


def test_swapping_compiles_nothing(folder):
    bank, batch, compiled = bank_of(folder), tokens(shape=(3, 7)), []
    step = jax.jit(lambda params, batch: compiled.append(1) or forward(params, batch, CFG))
    for name in (*NAMES, None, "long"):
        step(bank.params(name), batch)
    assert len(compiled) == 1
    for rows in (["long"] * 3, ["tone", "short", "long"], [None] * 3):
        step(bank.batch(rows), batch)
    assert len(compiled) == 2  # one program for single adapters, one for mixed ones


def test_sixteen_bits_halve_the_memory(folder):
    wide, thin = bank_of(folder), bank_of(folder, dtype="bfloat16")
    exact, rounded = (forward(jax.tree.map(np.asarray, b.params("long")), tokens(), CFG) for b in (wide, thin))
    assert thin.n_bytes * 2 == wide.n_bytes == 4 * lora.costs.adapter_parameters(CFG, 3)
    assert 0 < np.abs(rounded - exact).max() < 0.05


def test_files_are_read_when_asked_for_and_not_before(folder):
    (folder / ".tone.safetensors.123.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("no adapter")
    bank = bank_of(folder)
    assert bank.names() == sorted(NAMES) and bank.cached() == [] and bank.n_bytes == 0
    bank.params("tone")
    assert bank.cached() == ["tone"] and bank.counts == dict(hits=0, misses=1, evictions=0)
    path(folder, "tone").unlink()  # cached: the file is not needed
    bank.params("tone")
    assert bank.counts["hits"] == 1
    bank.drop("tone")
    with pytest.raises(FileNotFoundError, match=r"no adapter 'tone'.*there are \['long', 'short'\]"):
        bank.params("tone")


@pytest.mark.parametrize("room", [1, 2])
def test_the_least_recently_used_give_way(folder, room):
    """Of random requests, as many are hits as in the standard library's cache of that size."""
    one = bank_of(folder).adapter_bytes
    bank = bank_of(folder, budget_bytes=one * room + one // 2)
    standard = functools.lru_cache(room)(lambda name: name)
    for i in np.random.default_rng(room).integers(0, 3, 40):
        bank.params(NAMES[i])
        standard(NAMES[i])
        assert bank.cached()[-1] == NAMES[i] and bank.n_bytes <= one * room
    counted = standard.cache_info()
    assert bank.counts["hits"] == counted.hits > 5
    assert bank.counts["evictions"] == counted.misses - counted.currsize


def test_an_adapter_of_another_base_is_not_served(folder):
    files.save(path(folder, "stranger"), random_adapter(base_params(CFG, seed=1), rank=2))
    bank = bank_of(folder)
    with pytest.raises(ValueError, match=r"'stranger' was trained on the base \w+, this bank's is \w+"):
        bank.params("stranger")
    assert bank.cached() == []


def test_what_does_not_fit_is_refused(folder):
    bank = bank_of(folder, slots=2)
    with pytest.raises(ValueError, match="'long' has rank 3, this bank was made for at most 2"):
        bank_of(folder, rank=2).params("long")
    for rows in (list(NAMES), []):
        with pytest.raises(ValueError, match="at least one row and at most slots=2 adapters"):
            bank.batch(rows)
    for name in ("../long", "", ".hidden", "a/b"):
        with pytest.raises(FileNotFoundError, match="no adapter"):
            bank.params(name)
    for settings, error, why in (
        (dict(folder=folder / "absent"), FileNotFoundError, "is no folder"),
        (dict(budget_bytes=bank.adapter_bytes - 1), ValueError, "one adapter takes"),
        (dict(rank=0), ValueError, "rank must be at least 1"),
    ):
        with pytest.raises(error, match=why):
            bank_of(**{"folder": folder} | settings)


def test_a_damaged_file_is_refused_and_not_remembered(folder, monkeypatch):
    """Written over while it is read: the first part of the new file, the rest of the old one. Or cut short."""
    old = path(folder, "tone").read_bytes()
    files.save(path(folder, "tone"), random_adapter(base_params(CFG), 7, **SETTINGS["tone"]), dtype="float32")
    new = path(folder, "tone").read_bytes()
    assert len(old) == len(new) and old != new
    bank = bank_of(folder)
    held = bank.params("long")
    for data in (new[:-9], *(new[:at] + old[at:] for at in (len(old) // 2, len(old) - 400, len(old) - 100))):
        monkeypatch.setattr("pathlib.Path.read_bytes", lambda self, data=data: data)
        with pytest.raises(ValueError, match=r"header|cut short|changed after it was written"):
            bank.batch(["long", "tone"])
        assert bank.cached() == ["long"] and bank.params("long") is held  # the others are served on
    monkeypatch.undo()
    bank.params("tone")  # the new one, also after another takes its place, until it is dropped
    path(folder, "tone").write_bytes(old)
    replaced = [bank.params("tone"), bank.drop("tone"), bank.params("tone")]
    assert np.any(replaced[0].layers[0].wq.a != replaced[2].layers[0].wq.a)
