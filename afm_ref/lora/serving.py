"""Many adapters for one base: loaded when asked for, kept in memory up to a budget, swapped
by reference.

    bank = AdapterBank(params, folder, budget_bytes=50e6, rank=16)
    params = bank.params("proofread")              # the base with that adapter: generate with it
    params = bank.batch(["tone", None, "tone"])    # row by row another one, None the base alone

What differs between adapters are values, never shapes or settings (a bank multiplies each B
by its adapter's scale): one compiled program serves all of them. Where that scale is no
power of two, B in 16 bits is rounded once more.
"""

from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import ops
from ..containers import map_matrices, replaced, ungrouped
from ..disk import tensor_files
from ..weights import Params, weight
from . import files
from .adapter import LoRA, adapters, detach, in_dtype

SUFFIX = ".safetensors"


@weight
class Mixed:
    """A weight with several adapters, of which each row of the batch uses the one that its
    index names.

        y_bt = W0 x_bt + B_e (A_e x_bt),   e = index_b

    Of E slots the first is all zeros: the base alone. The base is multiplied once for the
    whole batch; the thin matrices of a row are gathered, and all rows multiplied as a batch
    of small products.

    Source: Chen et al. 2023 (Punica), section 4 [standard].
    Test: tests/lora/test_serving.py::test_a_mixed_batch_equals_each_request_alone
    """

    base: Any
    a: Any  # [E, R, in]
    b: Any  # [E, out, R]
    index: Any  # [B] int32

    def apply(self, x):
        """Return W x for x: [B, ..., in], whose first axis is that of index."""
        # [B, R, in], [B, out, R]
        a, b = (in_dtype(m[self.index], x.dtype) for m in (self.a, self.b))
        rows = x.reshape(x.shape[0], -1, x.shape[-1])  # [B, T, in]
        y = jnp.einsum("btr,bor->bto", jnp.einsum("bti,bri->btr", rows, a), b)
        return ops.linear(x, self.base) + y.reshape(*x.shape[:-1], b.shape[1])


class AdapterBank:
    """Adapters of one base, from a folder of files that `lora.files.save` wrote.

    budget_bytes: how much memory all cached adapters may take together; the least recently
    used give way. What a caller holds stays valid. rank: the largest that fits; smaller
    ones are filled up with zeros. slots: how many different adapters a batch may hold.
    dtype: in which they are kept. counts: hits, misses, evictions.

    Source: BLOG24 (adapters are loaded, cached in memory and swapped) [confirmed]; least
        recently used [ours].
    Test: tests/lora/test_serving.py::test_the_least_recently_used_give_way,
        tests/lora/test_serving.py::test_swapping_compiles_nothing
    """

    def __init__(
        self,
        params: Params,
        folder,
        budget_bytes: float,
        rank: int = 16,
        slots: int = 8,
        dtype="bfloat16",
    ):
        for name, value in (("rank", rank), ("slots", slots)):
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        self.folder, self.rank, self.slots = Path(folder), rank, slots
        self.dtype, self.budget_bytes = tensor_files.float_dtype(dtype), budget_bytes
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{self.folder} is no folder: save adapters there first, with lora.files.save"
            )
        base = detach(params)
        self.fingerprint = files.fingerprint(base)
        self.base = jax.tree.map(jnp.asarray, ungrouped(base))
        self._without = self._beside({}, 1.0)
        self.adapter_bytes = sum(
            w.a.nbytes + w.b.nbytes for w in adapters(self._without).values()
        )
        if self.adapter_bytes > budget_bytes:  # all take the same bytes
            raise ValueError(
                f"one adapter takes {self.adapter_bytes} bytes, budget_bytes is {budget_bytes:g}"
            )
        self.counts = Counter(hits=0, misses=0, evictions=0)
        # the least recently used first
        self._cache: OrderedDict[str, Params] = OrderedDict()

    def names(self) -> list[str]:
        """Return the names of all adapters in the folder."""
        return sorted(path.stem for path in self.folder.glob(f"[!.]*{SUFFIX}"))

    def cached(self) -> list[str]:
        """Return the names of those in memory, the least recently used first."""
        return list(self._cache)

    @property
    def n_bytes(self) -> int:
        """Return the bytes of all adapters in memory."""
        return len(self._cache) * self.adapter_bytes

    def params(self, name: str | None) -> Params:
        """Return the base with one adapter, from memory or from its file, or the base alone
        for None.

        Raises FileNotFoundError for an unknown name, and ValueError for a file that cannot
        be used and for an adapter of another base or a higher rank; the others are served
        on.
        """
        if name is None:
            return self._without
        if name in self._cache:
            self.counts["hits"] += 1
            self._cache.move_to_end(name)
            return self._cache[name]
        self.counts["misses"] += 1
        params = self._read(name)
        while self.n_bytes + self.adapter_bytes > self.budget_bytes:
            self._cache.popitem(last=False)
            self.counts["evictions"] += 1
        self._cache[name] = params
        return params

    def batch(self, names: list[str | None]) -> Params:
        """Return params for a batch whose row b uses the adapter names[b], or the base
        alone where that is None.

        Raises ValueError for more different adapters than slots, and what `params` raises.
        """
        wanted = list(dict.fromkeys([None, *names]))
        if not names or len(wanted) > 1 + self.slots:
            raise ValueError(
                f"a batch of {len(names)} rows with {len(wanted) - 1} different adapters; this bank was made for at "
                f"least one row and at most slots={self.slots} adapters"
            )
        index = jnp.asarray([wanted.index(name) for name in names], jnp.int32)
        loras = [adapters(self.params(name)) for name in wanted]
        loras += [loras[0]] * (1 + self.slots - len(loras))
        stacks = _stacked([{key: (w.a, w.b) for key, w in one.items()} for one in loras])
        return replaced(
            self.base,
            {key: Mixed(w.base, *stacks[key], index) for key, w in loras[0].items()},
        )

    def drop(self, name: str) -> None:
        """Forget an adapter, so that the next call reads its file again (it was trained
        anew, say).
        """
        self._cache.pop(name, None)

    def _read(self, name):
        if name not in self.names():
            raise FileNotFoundError(
                f"no adapter {name!r} in {self.folder}; there are {self.names()}"
            )
        adapter = files.load(self.folder / f"{name}{SUFFIX}")
        if adapter.base != self.fingerprint:
            raise ValueError(
                f"adapter {name!r} was trained on the base {adapter.base}, this bank's is {self.fingerprint}: train it "
                "again on this one"
            )
        if adapter.rank > self.rank:
            raise ValueError(
                f"adapter {name!r} has rank {adapter.rank}, this bank was made for at most {self.rank}"
            )
        return self._beside(adapter.matrices, adapter.scale)

    def _beside(self, pairs, scale):
        """Return the base with these {key: (A, B)} in the bank's rank, zeros where there
        are none.
        """

        def beside(name, w, numbers):
            out_dim, in_dim = w.shape
            nothing = np.zeros((0, in_dim)), np.zeros((out_dim, 0))
            a, b = pairs.get((name, numbers[0]), nothing)
            more = 0, self.rank - len(a)
            a = np.pad(a, (more, (0, 0)))
            b = np.pad(scale * np.asarray(b, np.float32), ((0, 0), more))
            both = jax.device_put((a.astype(self.dtype), b.astype(self.dtype)))
            return LoRA(w, *both, 1.0)

        return map_matrices(self.base, beside)


@jax.jit
def _stacked(pairs: list[dict]):
    """Return {key: (A [E, R, in], B [E, out, R])}."""
    return jax.tree.map(lambda *m: jnp.stack(m), *pairs)
