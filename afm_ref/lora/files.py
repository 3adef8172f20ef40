"""An adapter as one file: A and B in 16 bits, and in its header the fingerprint of the base that it was made for.

The file is a safetensors file. It is read in one piece and its checksum compared, so that what was cut short, or
written over while it was read, is refused instead of used.
"""

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from .. import atomic
from ..layers import map_matrices, ungrouped
from ..weights import Params
from .adapter import TARGETS, LoRA, adapters, detach

FORMAT = "afm_ref.lora.1"
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
KINDS = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}
MOST_HEADER_BYTES = 1 << 24


class Adapter(NamedTuple):
    """What a file holds: matrices by (name, number of the layer), their scale, and the base's fingerprint."""

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
    """Return a text that tells this base from any other: a hash of all its weights without adapters.

    Floats are hashed as float32, so that one file gives one fingerprint in whatever dtype it was loaded; containers
    of layers do not matter either.

    Source: our own [ours].
    Test: tests/lora/test_files.py::test_fingerprint_tells_bases_apart
    """
    base = ungrouped(detach(params))
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(base):
        array = np.asarray(leaf)
        array = array if np.issubdtype(array.dtype, np.integer) else array.astype(np.float32)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def adapter_of(params: Params, base: str | None = None) -> Adapter:
    """Return the adapters of params as one `Adapter`; base is the fingerprint if it is known already.

    Raises ValueError if there is none, or if ranks or scales differ.
    """
    loras = adapters(ungrouped(params))
    if not loras:
        raise ValueError("these params have no adapter: lora.attach makes one")
    kinds = {(w.rank, w.scale) for w in loras.values()}
    if len(kinds) > 1:
        raise ValueError(f"all matrices must share one rank and one scale, found (rank, scale) {sorted(kinds)}")
    matrices = {key: (np.asarray(w.a), np.asarray(w.b)) for key, w in loras.items()}
    return Adapter(matrices, next(iter(loras.values())).scale, fingerprint(params) if base is None else base)


def save(path: str | os.PathLike, params: Params, dtype: str = "bfloat16", base: str | None = None) -> None:
    """Write the adapters of params into one file, in 16 bits by default; the base is not written, only its fingerprint.

    Values that are not finite, or too large for the dtype, raise ValueError and nothing is written. An older file of
    that name is replaced in one step. base: the fingerprint of the base, where it is known already.

    Source: BLOG24 (adapter values in 16 bits) [confirmed]; the file [ours].
    Test: tests/lora/test_files.py::test_what_is_saved_is_loaded
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {sorted(DTYPES)}, got {dtype!r}")
    adapter = adapter_of(params, base)
    tensors = {}
    for (name, layer), pair in adapter.matrices.items():
        for letter, m in zip("ab", pair):
            tensors[f"layers.{layer}.{name}.{letter}"] = _cast(m, DTYPES[dtype], f"layers.{layer}.{name}.{letter}")
    atomic.write(path, _encode(tensors, adapter.scale, adapter.base))


def load(path: str | os.PathLike) -> Adapter:
    """Return the adapter in a file; ValueError that names the file for anything that cannot be used as it is.

    Refused are: a file cut short or changed after it was written (by its checksum), another format, matrices that do
    not fit together, NaN and infinity.

    Source: the safetensors format [standard]; checksum and header [ours].
    Test: tests/lora/test_files.py::test_every_damage_is_refused
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        return _decode(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def put(params: Params, adapter: Adapter) -> Params:
    """Return the base params with an adapter that was loaded beside its matrices, layers as a tuple.

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


def _encode(tensors, scale, base):
    """Return the bytes of a safetensors file, 8-byte aligned, with a checksum of everything in its header."""
    names = {np.dtype(dtype): kind for kind, dtype in KINDS.items()}
    entries, pieces, at = {}, [], 0
    for name, m in sorted(tensors.items()):
        pieces.append(m.tobytes())
        entries[name] = {
            "dtype": names[m.dtype],
            "shape": list(m.shape),
            "data_offsets": [at, at + m.nbytes],
        }
        at += m.nbytes
    data = b"".join(pieces)
    about = {"format": FORMAT, "scale": repr(float(scale)), "base": base}
    header = json.dumps({"__metadata__": about | {"crc32": _checksum(about, entries, data)}} | entries).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def _decode(data: bytes) -> Adapter:
    entries, body = _header(data)
    about = entries.pop("__metadata__", {})
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"is no adapter file of format {FORMAT}; PEFT's folders are read by interop.peft")
    if about.pop("crc32", None) != _checksum(about, entries, body):
        raise ValueError("is cut short, or was changed after it was written: its checksum differs; copy it again")
    pairs: dict = {}
    for name, entry in entries.items():
        match name.split("."):
            case ["layers", number, matrix, ("a" | "b") as letter] if number.isdecimal() and matrix in TARGETS:
                pairs.setdefault((matrix, int(number)), {})[letter] = _tensor(name, entry, body)
            case _:
                raise ValueError(f"holds {name!r}, which is no part of an adapter")
    scale = float(about.get("scale", "nan"))
    if not 0 < scale < float("inf"):
        raise ValueError(f"has the scale {about.get('scale')!r}, where a positive number is expected")
    return Adapter(_matched(pairs), scale, str(about.get("base")))


def _checksum(about, entries, body):
    return str(zlib.crc32(body, zlib.crc32(json.dumps([about, entries], sort_keys=True).encode())))


def _header(data):
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else MOST_HEADER_BYTES + 1
    if length > min(MOST_HEADER_BYTES, len(data) - 8):
        raise ValueError("is cut short or no safetensors file: copy it again")
    try:
        entries = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        raise ValueError("has no readable header: copy it again") from None
    if not isinstance(entries, dict):
        raise ValueError("has no readable header: copy it again")
    return entries, memoryview(data)[8 + length :]


def _tensor(name, entry, body):
    try:
        dtype, shape, (start, end) = np.dtype(KINDS[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        m = np.frombuffer(body[start:end], dtype).reshape(shape)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"holds {name} in a form that cannot be read: {entry!r}") from None
    if m.ndim != 2 or 0 in m.shape:
        raise ValueError(f"holds {name} of shape {m.shape}, where a matrix is expected")
    if not np.isfinite(m.astype(np.float32)).all():
        raise ValueError(f"holds NaN or infinite values in {name}: the training that made it went wrong")
    return m


def _matched(pairs):
    """Return {key: (A, B)} after comparing their shapes."""
    matrices = {}
    for (name, layer), pair in sorted(pairs.items()):
        if len(pair) < 2 or pair["a"].shape[0] != pair["b"].shape[1]:
            raise ValueError(f"has no A and B that fit together for {name} of layer {layer}")
        matrices[name, layer] = (pair["a"], pair["b"])
    if not matrices or len({a.shape[0] for a, _ in matrices.values()}) > 1:
        raise ValueError("holds no adapter, or one of several ranks")
    return matrices


def _cast(m, dtype, name):
    with np.errstate(over="ignore"):
        out = np.ascontiguousarray(m, dtype=dtype)
    if not np.isfinite(out.astype(np.float32)).all():
        raise ValueError(f"{name} holds values that are not finite, or too large for {np.dtype(dtype).name}")
    return out
