"""The bank: what it serves equals each adapter alone, nothing is compiled twice, threads get no wrong answer."""

import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from afm_ref import generation, lora
from afm_ref.lora import AdapterBank, files
from afm_ref.transformer import forward
from tests.lora import models
from tests.lora.models import base_params, random_adapter, run, stacked, tokens

CFG = dataclasses.replace(models.CFG, n_layers=2)
ONE = dataclasses.replace(models.CFG, n_layers=1)  # where programs are compiled for one test alone
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


def bank_of(folder, budget_bytes=1e9, cfg=CFG, **settings):
    settings = dict(rank=3, slots=3, dtype="float32") | settings
    return AdapterBank(base_params(cfg), folder, budget_bytes, **settings)


@pytest.fixture
def bank_of_one_layer(tmp_path):
    for seed, name in enumerate(("long", "tone")):
        files.save(path(tmp_path, name), random_adapter(base_params(ONE), seed, **SETTINGS[name]), dtype="float32")
    return bank_of(tmp_path, cfg=ONE)


def alone(folder, name):
    """Return the params of an adapter without the bank, in NumPy."""
    return base_params(CFG) if name is None else files.put(base_params(CFG), files.load(path(folder, name)))


def test_served_alone_equals_the_adapter_itself(folder):
    bank = bank_of(folder)
    for name in (*NAMES, None):
        got, wanted = run(bank.params(name), tokens(), CFG), forward(alone(folder, name), tokens(), CFG)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(run(bank.params("tone"), tokens(), CFG) - run(bank.params(None), tokens(), CFG)).max() > 0.05


def test_a_mixed_batch_equals_each_request_alone(folder):
    bank, batch = bank_of(folder), tokens(shape=(6, 7))
    rows = ["tone", None, "long", "short", "tone", "long"]
    got = run(bank.batch(rows), batch, CFG)
    for i, name in enumerate(rows):
        wanted = forward(alone(folder, name), batch[i : i + 1], CFG)
        np.testing.assert_allclose(got[i : i + 1], wanted, rtol=1e-4, atol=1e-5, err_msg=f"row {i}, {name}")


def test_generation_takes_both(bank_of_one_layer):
    bank, batch = bank_of_one_layer, tokens(shape=(3, 5))
    rows = ["tone", None, "long"]
    together = generation.generate(bank.batch(rows), ONE, batch, 6)
    for name, row, got in zip(rows, batch, together):
        (one,) = generation.generate(bank.params(name), ONE, row[None], 6)
        assert got.tolist() == one.tolist()


def test_swapping_compiles_nothing(folder):
    bank, compiled = bank_of(folder), []

    @jax.jit
    def step(params, batch):
        compiled.append(1)
        return forward(params._replace(layers=params.layers[:1]), batch, ONE)  # all are its arguments

    batch = tokens(shape=(3, 7))
    for name in (*NAMES, None, "long"):
        step(bank.params(name), batch)
    assert len(compiled) == 1
    for rows in (["long"] * 3, ["tone", "short", "long"], [None] * 3):
        step(bank.batch(rows), batch)
    assert len(compiled) == 2  # one program for single adapters, one for mixed ones


def test_swapping_copies_nothing_of_the_base(folder):
    bank = bank_of(folder)
    mine = {id(leaf) for leaf in jax.tree.leaves(bank.base)}
    for params in (bank.params("long"), bank.batch(["tone", "long"])):
        assert mine <= {id(leaf) for leaf in jax.tree.leaves(params)}
    assert bank.params("long") is bank.params("long")


def test_the_container_of_the_base_does_not_matter(folder):
    bank = AdapterBank(stacked(lora.attach(base_params(CFG), rank=1)), folder, 1e9, rank=3, dtype="float32")
    assert bank.fingerprint == bank_of(folder).fingerprint
    got, wanted = (run(b.params("short"), tokens(), CFG) for b in (bank, bank_of(folder)))
    np.testing.assert_array_equal(got, wanted)


def test_sixteen_bits_halve_the_memory(folder):
    wide, thin = bank_of(folder), bank_of(folder, dtype="bfloat16")
    for bank in (wide, thin):
        bank.get("long")
    assert thin.n_bytes * 2 == wide.n_bytes == 4 * lora.costs.adapter_parameters(CFG, 3)
    rounded, exact = (np.asarray(run(b.params("long"), tokens(), CFG)) for b in (thin, wide))
    assert 0 < np.abs(rounded - exact).max() < 0.05


def test_files_are_read_when_asked_for_and_not_before(folder):
    bank = bank_of(folder)
    assert bank.names() == sorted(NAMES) and bank.cached() == [] and bank.n_bytes == 0
    bank.get("tone")
    assert bank.cached() == ["tone"] and bank.counts == dict(hits=0, misses=1, evictions=0)
    path(folder, "tone").unlink()  # cached: the file is not needed
    bank.get("tone")
    assert bank.counts["hits"] == 1
    bank.drop("tone")
    with pytest.raises(FileNotFoundError, match=r"no adapter 'tone'.*there are \['long', 'short'\]"):
        bank.get("tone")


def test_an_adapter_of_another_base_is_refused(folder):
    other = base_params(CFG)._replace(final_norm=base_params(CFG).final_norm * 1.001)
    files.save(path(folder, "stranger"), random_adapter(other, rank=2))
    bank = bank_of(folder)
    with pytest.raises(ValueError, match=r"'stranger' was trained on the base \w+, this bank's is \w+"):
        bank.params("stranger")
    assert bank.cached() == []


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(ValueError, match="'long' has rank 3, this bank was made for at most 2"):
        bank_of(folder, rank=2).get("long")
    with pytest.raises(ValueError, match=r"'long' has w_down of layer 0 .* has none"):
        bank_of(folder, targets=lora.ATTENTION).get("long")
    bank_of(folder, targets=lora.ATTENTION).get("short")
    with pytest.raises(ValueError, match="at most slots=2 adapters"):
        bank_of(folder, slots=2).batch(list(NAMES))
    with pytest.raises(ValueError, match="at least one row"):
        bank_of(folder).batch([])
    for name in ("../long", "", ".hidden", "a/b"):
        with pytest.raises(ValueError, match="is no name of an adapter"):
            bank_of(folder).get(name)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        bank_of(folder / "absent")
    for name in ("budget_bytes", "rank", "slots"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            bank_of(folder, **{name: 0})


def nan(folder, name):
    params = random_adapter(base_params(CFG), rank=2)
    params.layers[0].wq.a[0, 0] = 1e30
    files.save(path(folder, name), params, dtype="float32")
    data = path(folder, name).read_bytes().replace(np.float32(1e30).tobytes(), np.float32(np.nan).tobytes())
    path(folder, name).write_bytes(data)


def cut(folder, name):
    path(folder, name).write_bytes(path(folder, name).read_bytes()[:-9])


@pytest.mark.parametrize("damage, why", [(nan, "checksum|NaN"), (cut, "cut short")])
def test_a_bad_file_is_refused_and_the_bank_keeps_serving(folder, damage, why):
    bank = bank_of(folder)
    before = run(bank.params("long"), tokens(), CFG)
    good = path(folder, "tone").read_bytes()
    damage(folder, "tone")
    for _ in range(2):  # the failure is not remembered
        with pytest.raises(ValueError, match=why):
            bank.batch(["long", "tone"])
    np.testing.assert_array_equal(run(bank.params("long"), tokens(), CFG), before)
    path(folder, "tone").write_bytes(good)
    bank.batch(["long", "tone"])
    assert bank.cached() == ["long", "tone"]


def test_a_file_that_is_written_over_while_it_is_read_is_refused(folder, monkeypatch):
    """We see the first part of the new file and the rest of the old one; both are whole by themselves."""
    old = path(folder, "tone").read_bytes()
    files.save(path(folder, "tone"), random_adapter(base_params(CFG), 7, **SETTINGS["tone"]), dtype="float32")
    new = path(folder, "tone").read_bytes()
    assert len(old) == len(new) and old != new
    bank = bank_of(folder)
    for at in (len(old) // 2, len(old) - 400, len(old) - 100):
        monkeypatch.setattr("pathlib.Path.read_bytes", lambda self, at=at: new[:at] + old[at:])
        with pytest.raises(ValueError, match=r"header|changed after it was written"):
            bank.get("tone")
    monkeypatch.undo()
    bank.get("tone")


def test_pins_hold_and_a_full_bank_says_so(folder):
    one = bank_of(folder).get("long").n_bytes
    bank = bank_of(folder, budget_bytes=2 * one)
    with bank.pinned("long"), bank.pinned("long"):
        bank.get("short")
        bank.get("tone")  # evicts short, though long was used before it
        assert bank.cached() == ["long", "tone"]
        with bank.pinned("tone"), pytest.raises(ValueError, match=r"'short' needs .* are pinned"):
            bank.get("short")
        assert bank.cached() == ["long", "tone"]
    bank.get("short")
    assert bank.cached() == ["tone", "short"]
    with pytest.raises(ValueError, match="raise budget_bytes"):
        bank_of(folder, budget_bytes=one - 1).get("long")


def test_what_a_caller_holds_survives_its_eviction(folder):
    one = bank_of(folder).get("long").n_bytes
    bank = bank_of(folder, budget_bytes=one)
    held = bank.params("long")
    before = run(held, tokens(), CFG)
    bank.params("tone")
    assert bank.cached() == ["tone"] and bank.counts["evictions"] == 1
    np.testing.assert_array_equal(run(held, tokens(), CFG), before)


def test_a_file_is_read_once_however_many_ask_for_it(folder, monkeypatch):
    bank, reads, gate = bank_of(folder), [], threading.Event()
    real = files.load

    def slow(path):
        reads.append(path)
        assert gate.wait(10)
        return real(path)

    monkeypatch.setattr(files, "load", slow)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(bank.get, "tone") for _ in range(6)]
        while bank.counts["misses"] < 6:
            time.sleep(0.01)
        gate.set()
        entries = [future.result(10) for future in futures]
    assert len(reads) == 1 and all(entry is entries[0] for entry in entries)


def test_others_are_served_while_a_file_is_read(folder, monkeypatch):
    bank, gate = bank_of(folder), threading.Event()
    bank.get("long")
    real = files.load
    monkeypatch.setattr(files, "load", lambda path: (gate.wait(10), real(path))[1])
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(bank.get, "tone")
        pool.submit(bank.get, "long").result(5)
        assert not slow.done()
        gate.set()
        slow.result(10)


def test_concurrent_swaps_give_no_wrong_answer(folder):
    """Six threads ask for adapters in their own order, with room for two: all logits are those of the adapter asked."""
    wanted = {name: np.asarray(run(bank_of(folder).params(name), tokens(), CFG)) for name in NAMES}
    one = bank_of(folder).get("long").n_bytes
    bank = bank_of(folder, budget_bytes=2 * one)

    def asks(seed):
        rng = np.random.default_rng(seed)
        for _ in range(15):
            name = NAMES[rng.integers(len(NAMES))]
            if seed == 0:  # one pin at a time always leaves room
                with bank.pinned(name) as entry:
                    params = entry.params
            else:
                params = bank.params(name)
            np.testing.assert_array_equal(run(params, tokens(), CFG), wanted[name])
            assert bank.n_bytes <= bank.budget_bytes
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(asks, range(6)))
    assert bank.counts["evictions"] > 3 and bank.counts["hits"] + bank.counts["misses"] == 90


def test_a_replaced_file_is_used_after_a_drop(folder):
    bank = bank_of(folder)
    old = run(bank.params("tone"), tokens(), CFG)
    new = random_adapter(base_params(CFG), 7, **SETTINGS["tone"])
    files.save(path(folder, "tone"), new, dtype="float32")
    np.testing.assert_array_equal(run(bank.params("tone"), tokens(), CFG), old)
    bank.drop("tone")
    wanted = forward(new, tokens(), CFG)
    np.testing.assert_allclose(run(bank.params("tone"), tokens(), CFG), wanted, rtol=1e-4, atol=1e-5)


def test_a_drop_while_a_file_is_read_keeps_its_old_content_out(folder, monkeypatch):
    bank, started, gate, real = bank_of(folder), threading.Event(), threading.Event(), files.load

    def slow(path):
        adapter = real(path)
        started.set()
        gate.wait(10)
        return adapter

    monkeypatch.setattr(files, "load", slow)
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(bank.get, "tone")
        started.wait(10)
        files.save(path(folder, "tone"), random_adapter(base_params(CFG), 7, **SETTINGS["tone"]), dtype="float32")
        bank.drop("tone")
        gate.set()
        old = before.result(10)
    assert bank.cached() == []
    assert not np.array_equal(bank.get("tone").matrices["wq", 0][1], old.matrices["wq", 0][1])


def test_unfinished_files_are_no_adapters(folder):
    (folder / f".tone.safetensors.{os.getpid()}.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("no adapter")
    assert bank_of(folder).names() == sorted(NAMES)
    assert "0 cached" in repr(bank_of(folder))


def test_a_mixed_step_is_differentiable_in_nothing_but_runs_under_grad(bank_of_one_layer):
    """Serving weights are trees of JAX: they go through transformations like any other."""
    bank, batch = bank_of_one_layer, tokens(shape=(2, 5))
    value = lambda x, p: (forward(p._replace(embed=x), batch, ONE) ** 2).sum()  # noqa: E731
    params = bank.batch(["tone", "long"])
    slope = jax.jit(jax.grad(value))(params.embed, params)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0
