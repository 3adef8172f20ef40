"""AdapterBank: many adapters for one base, loaded when asked for, kept in memory up to a budget, swapped by reference.

    bank = AdapterBank(params, folder, budget_bytes=50e6, rank=16)
    params = bank.params("proofread")              # the base with that adapter: generate with it
    params = bank.batch(["tone", None, "tone"])    # row by row another one, None the base alone

Either result has the same structure and shapes whatever adapters are in it: nothing is compiled again.
"""

import contextlib
import re
import threading
from collections import Counter, OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import tensor_files
from ..layers import map_matrices, ungroup
from ..weights import Params
from . import files
from .adapter import TARGETS, checked_targets, detach
from .serving import Mixed, Served

SUFFIX = ".safetensors"
NAME = re.compile(r"\w[\w.-]*")


class Entry(NamedTuple):
    """An adapter in memory: its matrices on the device, its scale, the params that use it, and its size."""

    matrices: dict[tuple[str, int], tuple[Any, Any]]
    scale: Any
    params: Params
    n_bytes: int


class AdapterBank:
    """Adapters of one base, from a folder of files that `lora.files.save` wrote.

    budget_bytes: how much memory all cached adapters may take together; the least recently used give way. rank: the
    largest that fits; smaller ones are filled up with zeros, so that all have the same shapes. slots: how many
    different adapters a batch may hold. targets: what adapters may adapt. dtype: in which they are kept.

    Safe to call from several threads; a file is read once however many ask for it at the same time. What a caller
    holds stays valid after its eviction. Counts are in `counts`: hits, misses, evictions.

    Source: BLOG24 (adapters are loaded, cached in memory and swapped) [confirmed]; least recently used [ours].
    Test: tests/lora/test_bank.py::test_a_mixed_batch_equals_each_request_alone,
    tests/lora/test_bank.py::test_swapping_compiles_nothing
    """

    def __init__(self, params: Params, folder, budget_bytes: float, rank: int = 16, slots: int = 8, targets=TARGETS,
                 dtype="bfloat16"):  # fmt: skip
        self.folder, self.budget_bytes, self.rank, self.slots = Path(folder), budget_bytes, rank, slots
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is no folder: save adapters there first, with lora.files.save")
        for name, value in (("budget_bytes", budget_bytes), ("rank", rank), ("slots", slots)):
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        targets = checked_targets(targets)
        self.dtype = tensor_files.float_dtype(dtype)
        base = detach(params)
        self.fingerprint = files.fingerprint(base)
        self.base = jax.tree.map(jnp.asarray, base._replace(layers=ungroup(base.layers)))
        self.shapes = {}
        map_matrices(self.base, lambda name, w, numbers: self._note(name, w, numbers, targets))
        self.counts = Counter(hits=0, misses=0, evictions=0)
        self._zero = self._entry(files.Adapter({}, 1.0, self.fingerprint))
        self._cache: OrderedDict[str, Entry] = OrderedDict()
        self._pins: Counter = Counter()
        self._loading: dict[str, Future] = {}
        self._lock = threading.Lock()

    def _note(self, name, w, numbers, targets):
        if name in targets:
            self.shapes[name, numbers[0]] = w.shape
        return w

    def __repr__(self):
        return f"AdapterBank({len(self.cached())} cached, {self.n_bytes} of {self.budget_bytes:g} bytes)"

    def names(self) -> list[str]:
        """Return the names of all adapters in the folder."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}") if path.name[0] != ".")

    def cached(self) -> list[str]:
        """Return the names of those in memory, the least recently used first."""
        with self._lock:
            return list(self._cache)

    @property
    def n_bytes(self) -> int:
        """Return the bytes of all adapters in memory."""
        with self._lock:
            return self._bytes()

    def _bytes(self):
        return sum(entry.n_bytes for entry in self._cache.values())

    def params(self, name: str | None) -> Params:
        """Return the base with one adapter, or with one of zeros for None: shared arrays, nothing is copied.

        Raises what `get` raises.
        """
        return self._zero.params if name is None else self.get(name).params

    def batch(self, names: list[str | None]) -> Params:
        """Return params for a batch whose row b uses the adapter names[b], or the base alone where that is None.

        Raises ValueError for more different adapters than slots, and what `get` raises.
        """
        wanted = list(dict.fromkeys(name for name in names if name is not None))
        if not names or len(wanted) > self.slots:
            raise ValueError(
                f"a batch of {len(names)} rows with {len(wanted)} different adapters; this bank was made for at least "
                f"one row and at most slots={self.slots} adapters"
            )
        entries = [self._zero, *(self.get(name) for name in wanted)]
        entries += [self._zero] * (self.slots + 1 - len(entries))
        index = jnp.asarray([0 if name is None else 1 + wanted.index(name) for name in names], jnp.int32)
        stacks, scale = _stacked([entry.matrices for entry in entries], [entry.scale for entry in entries])

        def mixed(name, w, numbers):
            pair = stacks.get((name, numbers[0]))
            return w if pair is None else Mixed(w, *pair, scale, index)

        return map_matrices(self.base, mixed)

    def get(self, name: str) -> Entry:
        """Return an adapter, from memory or from its file, as the most recently used.

        Raises FileNotFoundError for an unknown name, and ValueError for a file that cannot be used, an adapter made
        for another base or of other shapes, and one that does not fit the budget beside those that are pinned.
        Whatever is raised, the bank goes on serving the others.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an adapter: letters, digits, '_', '-' and '.' only")
        with self._lock:
            entry = self._cache.get(name)
            if entry is not None:
                self._cache.move_to_end(name)
                self.counts["hits"] += 1
                return entry
            self.counts["misses"] += 1
            future = self._loading.get(name)
            mine = future is None
            if mine:
                future = self._loading[name] = Future()
        return self._load(name, future) if mine else future.result()

    def _load(self, name, future):
        """Read a file outside the lock, so that others are served meanwhile; whoever waits gets the same result."""
        try:
            entry = self._entry(self._checked(name, files.load(self._path(name))))
            with self._lock:
                if self._loading.get(name) is future:  # else dropped meanwhile: what was read may be old
                    self._make_room(name, entry.n_bytes)
                    self._cache[name] = entry
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(entry)
            return entry
        finally:
            with self._lock:
                if self._loading.get(name) is future:
                    del self._loading[name]

    def _path(self, name):
        path = self.folder / f"{name}{SUFFIX}"
        if not path.is_file():
            raise FileNotFoundError(f"no adapter {name!r} in {self.folder}; there are {self.names()}")
        return path

    def _make_room(self, name, n_bytes):
        """Drop the least recently used that is not pinned, until n_bytes more fit; raise before dropping in vain."""
        pinned = sum(entry.n_bytes for key, entry in self._cache.items() if self._pins[key])
        if pinned + n_bytes > self.budget_bytes:
            raise ValueError(
                f"adapter {name!r} needs {n_bytes} bytes, but of the budget of {self.budget_bytes:g} bytes {pinned} "
                "are pinned: raise budget_bytes or unpin others"
            )
        for key in list(self._cache):
            if self._bytes() + n_bytes <= self.budget_bytes:
                return
            if not self._pins[key]:
                del self._cache[key]
                self.counts["evictions"] += 1

    @contextlib.contextmanager
    def pinned(self, name: str):
        """Keep an adapter in memory while the block runs; pins of several callers add up."""
        with self._lock:
            self._pins[name] += 1
        try:
            yield self.get(name)
        finally:
            with self._lock:
                self._pins[name] -= 1

    def drop(self, name: str) -> None:
        """Forget an adapter, so that the next call reads its file again (it was trained anew, say)."""
        with self._lock:
            self._cache.pop(name, None)
            self._loading.pop(name, None)

    def _checked(self, name, adapter: files.Adapter):
        """Return the adapter after comparing it with the base and the bank."""
        if adapter.base != self.fingerprint:
            raise ValueError(
                f"adapter {name!r} was trained on the base {adapter.base}, this bank's is {self.fingerprint}: train it "
                "again on this one"
            )
        if adapter.rank > self.rank:
            raise ValueError(f"adapter {name!r} has rank {adapter.rank}, this bank was made for at most {self.rank}")
        for key, (a, b) in adapter.matrices.items():
            shape = self.shapes.get(key)
            if shape != (b.shape[0], a.shape[1]):
                raise ValueError(
                    f"adapter {name!r} has {key[0]} of layer {key[1]} in shape {(b.shape[0], a.shape[1])}, this bank "
                    f"has {'none' if shape is None else tuple(shape)}"
                )
        return adapter

    def _entry(self, adapter: files.Adapter) -> Entry:
        """Return the adapter on the device, every matrix of the bank's list in the bank's rank."""
        matrices = {}
        for key, (out_dim, in_dim) in self.shapes.items():
            a, b = np.zeros((self.rank, in_dim), self.dtype), np.zeros((out_dim, self.rank), self.dtype)
            if key in adapter.matrices:
                mine_a, mine_b = adapter.matrices[key]
                a[: len(mine_a)], b[:, : mine_b.shape[1]] = mine_a, mine_b
            matrices[key] = (jnp.asarray(a), jnp.asarray(b))
        scale = jnp.float32(adapter.scale)

        def served(name, w, numbers):
            pair = matrices.get((name, numbers[0]))
            return w if pair is None else Served(w, *pair, scale)

        n_bytes = sum(m.nbytes for pair in matrices.values() for m in pair)
        return Entry(matrices, scale, map_matrices(self.base, served), n_bytes)


@jax.jit
def _stacked(matrices: list[dict], scales: list):
    """Return ({key: (A [E, R, in], B [E, out, R])}, scales [E])."""
    return jax.tree.map(lambda *m: jnp.stack(m), *matrices), jnp.stack(scales)
