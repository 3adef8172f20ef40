"""An adapter as one sealed file: A and B in 16 bits, and in its header the fingerprint of
its base.
"""

import hashlib
import os
from typing import Any, NamedTuple

import jax
import numpy as np

from ..containers import map_matrices, ungrouped
from ..disk import tensor_files
from ..disk.text_files import naming
from ..weights import Params
from .adapter import TARGETS, LoRA, adapters, detach

FORMAT = "afm_ref.lora.1"
DTYPES = ("float16", "bfloat16", "float32")


class Adapter(NamedTuple):
    """What a file holds: matrices by (name, number of the layer), their scale, and the
    base's fingerprint.
    """

    matrices: dict[tuple[str, int], tuple[Any, Any]]  # (A [R, in], B [out, R])
    scale: float
    base: str

    @property
    def rank(self) -> int:
        """Return R, the same in all matrices."""
        return next(iter(self.matrices.values()))[0].shape[0]

    @property
    def n_bytes(self) -> int:
        """Return the bytes of all matrices."""
        return sum(m.nbytes for pair in self.matrices.values() for m in pair)


def fingerprint(params: Params) -> str:
    """Return a text that tells this base from any other: a hash of all its weights without
    adapters.

    Floats are hashed as float32, so that one file gives one fingerprint in whatever dtype
    it was loaded; containers of layers do not matter either.
    """
    base = ungrouped(detach(params))
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(base):
        array = np.asarray(leaf)
        if not np.issubdtype(array.dtype, np.integer):
            array = array.astype(np.float32)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def save(
    path: str | os.PathLike,
    params: Params,
    dtype: str = "bfloat16",
    base: str | None = None,
) -> None:
    """Write the adapters of params into one file, in 16 bits by default; the base is not
    written, only its fingerprint.

    No adapter, several ranks or scales, and values that are not finite, or too large for
    the dtype, raise ValueError and nothing is written. An older file of that name is
    replaced in one step. base: the fingerprint of the base, where it is known already.

    Source: BLOG24 (adapter values in 16 bits) [confirmed].
    Test: tests/lora/test_serving.py::test_what_is_saved_is_loaded
    """
    if str(dtype) not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    loras = adapters(ungrouped(params))
    if not loras:
        raise ValueError("these params have no adapter: lora.attach makes one")
    kinds = {(w.rank, w.scale) for w in loras.values()}
    if len(kinds) > 1:
        raise ValueError(
            f"all matrices must share one rank and one scale, found (rank, scale) {sorted(kinds)}"
        )
    [(_, scale)] = kinds
    tensors = {}
    for (name, layer), w in loras.items():
        for letter in "ab":
            key, m = f"layers.{layer}.{name}.{letter}", np.asarray(getattr(w, letter))
            tensors[key] = tensor_files.cast(m, dtype, key)
    about = {
        "format": FORMAT,
        "scale": repr(float(scale)),
        "base": base or fingerprint(params),
    }
    tensor_files.save(path, tensors, about)


def load(path: str | os.PathLike) -> Adapter:
    """Return the adapter in a file; ValueError that names the file for anything that cannot
    be used as it is.

    Refused are: a file cut short or changed after it was written (by its checksum), another
    format, matrices that do not fit together, NaN and infinity.
    """
    tensors, about = tensor_files.load(path, FORMAT)
    with naming(path):
        scale = _scale(about.get("scale", "nan"))
        return Adapter(_matrices(tensors), scale, str(about.get("base")))


def put(params: Params, adapter: Adapter) -> Params:
    """Return the base params with an adapter that was loaded beside its matrices, layers as
    a tuple.

    Raises ValueError for an adapter made for another base, or of other shapes.
    """
    found = fingerprint(params)
    if adapter.base != found:
        raise ValueError(
            f"the adapter was trained on the base {adapter.base}, this base is {found}: train it again on this one"
        )
    params = ungrouped(params)

    def beside(name, w, numbers):
        pair = adapter.matrices.get((name, numbers[0]))
        return w if pair is None else LoRA(w, *pair, adapter.scale)

    return map_matrices(params, beside)


def _matrices(tensors):
    """Return {(name, layer): (A, B)} of a file's tensors, after comparing their shapes."""
    pairs: dict = {}
    for name, m in tensors.items():
        match name.split("."):
            case ["layers", number, matrix, ("a" | "b") as letter] if (
                number.isdecimal() and matrix in TARGETS
            ):
                pairs.setdefault((matrix, int(number)), {})[letter] = _checked(name, m)
            case _:
                raise ValueError(f"holds {name!r}, which is no part of an adapter")
    for (name, layer), pair in pairs.items():
        if len(pair) < 2 or pair["a"].shape[0] != pair["b"].shape[1]:
            raise ValueError(
                f"has no A and B that fit together for {name} of layer {layer}"
            )
    if not pairs or len({pair["a"].shape[0] for pair in pairs.values()}) > 1:
        raise ValueError("holds no adapter, or one of several ranks")
    return {key: (pair["a"], pair["b"]) for key, pair in sorted(pairs.items())}


def _checked(name, m):
    if m.ndim != 2 or 0 in m.shape:
        raise ValueError(f"holds {name} of shape {m.shape}, where a matrix is expected")
    if m.dtype.name not in DTYPES:
        raise ValueError(
            f"holds {name} in a form that cannot be read, {m.dtype}: give one of {DTYPES}"
        )
    return tensor_files.cast(m, m.dtype, name)


def _scale(text):
    scale = float(text)
    if not 0 < scale < float("inf"):
        raise ValueError(f"has the scale {text!r}, where a positive number is expected")
    return scale
