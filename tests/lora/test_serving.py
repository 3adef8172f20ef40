"""The bank: what it serves equals each adapter alone, nothing is compiled twice, a cache like any other's."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from afm_ref import generation, lora
from afm_ref.containers import Remat
from afm_ref.lora import AdapterBank, files
from afm_ref.transformer import forward
from tests.lora import models
from tests.lora.models import base_params, random_adapter, run, tokens

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


def test_an_adapter_of_another_base_is_refused(folder):
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
