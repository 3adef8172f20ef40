"""The bank against a model of a cache under a budget, in random orders of calls."""

import contextlib
import functools
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from afm_ref.config import AFMConfig
from afm_ref.lora import AdapterBank, files
from afm_ref.lora.costs import adapter_parameters
from tests.lora.models import base_params, random_adapter

SMALL = AFMConfig(d_model=4, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=2, d_ff=3, vocab_size=5)
NAMES = ("a", "b", "c", "d", "e")


class LruModel:
    """What a cache of equal items must do, as a list: the least recently used first."""

    def __init__(self, room):
        self.room, self.order, self.pins, self.broken, self.hits, self.misses, self.evictions = (
            room,
            [],
            [],
            set(),
            0,
            0,
            0,
        )

    def get(self, name):
        """Return "hit", "loaded", "broken" or "full"."""
        if name in self.order:
            self.order.remove(name)
            self.order.append(name)
            self.hits += 1
            return "hit"
        self.misses += 1
        if name in self.broken:
            return "broken"
        pinned = [other for other in self.order if other in self.pins]
        if len(pinned) + 1 > self.room:
            return "full"
        while len(self.order) + 1 > self.room:
            self.order.remove(next(other for other in self.order if other not in self.pins))
            self.evictions += 1
        self.order.append(name)
        return "loaded"


@functools.cache
def good_files():
    """Return {name: bytes of an adapter's file}."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter"
        found = {}
        for seed, name in enumerate(NAMES):
            files.save(path, random_adapter(base_params(SMALL), seed, rank=1), dtype="float32")
            found[name] = path.read_bytes()
            path.unlink()
        return found


class BankMachine(RuleBasedStateMachine):
    """Calls get, pin, unpin, drop, and damages files, in any order; compares with the model after each."""

    @initialize(room=st.integers(1, 4))
    def start(self, room):
        self.stack = contextlib.ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.good = good_files()
        for name, data in self.good.items():
            self.path(name).write_bytes(data)
        one = 4 * adapter_parameters(SMALL, 1)
        self.bank = AdapterBank(base_params(SMALL), self.folder, one * room + one // 2, rank=1, dtype="float32")
        self.model, self.held = LruModel(room), []

    def path(self, name):
        return self.folder / f"{name}.safetensors"

    def compared(self, name, ask):
        expected = self.model.get(name)
        if expected in ("hit", "loaded"):
            entry = ask()
            wanted = files._decode(self.good[name]).matrices["wq", 0][1]
            assert (entry.matrices["wq", 0][1] == wanted).all()  # it is the adapter that was asked for
        else:
            with pytest.raises(ValueError, match={"broken": "cut short", "full": "are pinned"}[expected]):
                ask()
        return expected

    @rule(name=st.sampled_from(NAMES))
    def get(self, name):
        self.compared(name, lambda: self.bank.get(name))

    @rule(name=st.sampled_from(NAMES))
    def pin(self, name):
        pin = self.bank.pinned(name)
        if self.compared(name, pin.__enter__) in ("hit", "loaded"):
            self.model.pins.append(name)
            self.held.append((name, pin))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def unpin(self, data):
        name, pin = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        pin.__exit__(None, None, None)
        self.model.pins.remove(name)

    @rule(name=st.sampled_from(NAMES))
    def drop(self, name):
        self.bank.drop(name)
        if name in self.model.order:
            self.model.order.remove(name)

    @rule(name=st.sampled_from(NAMES))
    def damage(self, name):
        self.path(name).write_bytes(self.good[name][:-5])
        self.model.broken.add(name)

    @rule(name=st.sampled_from(NAMES))
    def mend(self, name):
        self.path(name).write_bytes(self.good[name])
        self.model.broken.discard(name)

    @invariant()
    def agrees(self):
        if not hasattr(self, "bank"):
            return
        assert self.bank.cached() == self.model.order
        assert self.bank.n_bytes <= self.bank.budget_bytes
        model = self.model
        assert self.bank.counts == dict(hits=model.hits, misses=model.misses, evictions=model.evictions)

    def teardown(self):
        if hasattr(self, "stack"):
            self.stack.close()


class TestBank(BankMachine.TestCase):
    """The machine as a test."""

    settings = settings(max_examples=15, stateful_step_count=30)
