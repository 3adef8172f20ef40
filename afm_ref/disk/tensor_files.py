"""Files of tensors in the safetensors format: whole or not at all, and read with every
check we can make.

save(path, tensors, {"format": "ours.1"})  # sealed: its header has a checksum of the rest
tensors, about = load(path, "ours.1")      # what was cut short or changed is a ValueError
tensors = read(path, shapes, "float32")    # other people's: names, shapes, no NaN
"""

import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401 - comes with JAX, and teaches NumPy the name "bfloat16"
import numpy as np

from . import atomic
from .text_files import naming

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
OTHERS = {"BOOL": "bool"} | {
    f"{k[0].upper()}{n}": f"{k}{n}" for k in ("int", "uint") for n in (8, 16, 32, 64)
}
KINDS = {kind: np.dtype(name) for kind, name in (FLOATS | OTHERS).items()}
KIND_OF = {dtype: kind for kind, dtype in KINDS.items()}
PYTORCH = {"format": "pt"}  # what its readers want to find in a header


# Writing


def entries(tensors: Mapping[str, tuple[np.dtype, tuple]]) -> dict[str, dict]:
    """Return a header's entries of tensors {name: (dtype, shape)}; the widest come first:
    all are aligned.
    """
    found, start = {}, 0
    for name, (dtype, shape) in sorted(
        tensors.items(), key=lambda each: (-each[1][0].itemsize, each[0])
    ):
        if dtype not in KIND_OF:
            raise ValueError(f"{name} is {dtype}, which no safetensors file of ours holds")
        end = start + dtype.itemsize * math.prod(shape)
        found[name] = {
            "dtype": KIND_OF[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
        start = end
    return found


def header(index: Mapping[str, dict], about: Mapping[str, str]) -> bytes:
    """Return all bytes in front of the tensors, of their `entries` and the file's own
    metadata.
    """
    text = json.dumps({"__metadata__": about} | index).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def bytes_of(array: np.ndarray) -> memoryview:
    """Return the bytes of an array, which must be contiguous for them to be its own."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def write(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    about: Mapping[str, str],
    sealed: bool = False,
) -> None:
    """Write a file where it stands, for callers that move it into place; see `save`."""
    index = entries({name: (array.dtype, array.shape) for name, array in tensors.items()})
    data = [bytes_of(tensors[name]) for name in index]
    if sealed:
        about = about | {"crc32": _checksum(about, index, data)}
    with open(path, "wb") as file:
        file.writelines([header(index, about), *data])


def save(path, tensors: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write a sealed file, whole or not at all: `load` compares the checksum in its header."""
    with atomic.replacing(path) as [new]:
        write(new, tensors, about, sealed=True)


def _checksum(about, index, data: Iterable) -> str:
    found = zlib.crc32(json.dumps([about, index], sort_keys=True).encode())
    for part in data:
        found = zlib.crc32(part, found)
    return str(found)


# Reading what `save` wrote


def load(path, format: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return (tensors, metadata) of a sealed file whose metadata name this format; see
    `decode`.
    """
    with naming(path):
        tensors, about = decode(Path(path).read_bytes())
        if about.get("format") != format:
            raise ValueError(
                f"is of the format {about.get('format')!r}, expected {format!r}"
            )
    return tensors, about


def decode(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return (tensors, metadata) of the bytes of a sealed file; ValueError where they were
    cut short or changed.

    They are one reading, so a file that is written over meanwhile fails its checksum.
    """
    from safetensors import SafetensorError, deserialize

    length = int.from_bytes(data[:8], "little")
    try:
        index = json.loads(data[8 : 8 + length])
        about = index.pop("__metadata__", {})
        written = about.pop("crc32", None)
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise ValueError(
            "is cut short, or has no readable header: copy or make it again"
        ) from None
    if written is None:
        raise ValueError(
            "has no checksum of ours; files of other projects are read by afm_ref.interop"
        )
    if written != _checksum(about, index, [memoryview(data)[8 + length :]]):
        raise ValueError(
            "is cut short, or was changed after it was written (its checksum differs): copy or make it again"
        )
    try:
        found = deserialize(data)
        return {
            name: np.frombuffer(t["data"], KINDS[t["dtype"]]).reshape(t["shape"])
            for name, t in found
        }, about
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"holds tensors that cannot be read ({error})") from None


# Reading other people's


def read(path: Path, shapes: Mapping[str, tuple], dtype) -> dict[str, np.ndarray]:
    """Return the tensors named in shapes from one file, as finite floats of that dtype.

    ValueError names the file and the tensor: for a file that is cut short or no safetensors
    file, for a missing or extra tensor, a wrong shape or dtype, a NaN or an infinity.
    """
    where = locate(path)
    check(where, shapes, {}, path)
    return values(where, dtype)


def locate(path: Path) -> dict[str, tuple[Path, str, tuple]]:
    """Return {tensor name: (file, dtype, shape)} of one file, without its values."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return {
            name: (path, s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()
        }


def opened(path: Path):
    """Return a file as safetensors opens it, its header checked; ValueError for what is
    none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is cut short or no safetensors file ({error}): compare its size with the source and fetch it again"
        ) from None


def check(
    where: Mapping[str, tuple], required: Mapping, optional: Mapping, source: Path
) -> None:
    """Raise ValueError unless the located tensors are the required ones, and perhaps
    optional ones, as floats.
    """
    extra = sorted(where.keys() - required.keys() - optional.keys())
    missing = sorted(required.keys() - where.keys())
    biases = [name for name in extra if name.endswith(".bias")]
    if biases:
        raise ValueError(
            f"{source} holds biases, which this model does not have: {first(biases)}"
        )
    if missing:
        raise ValueError(
            f"{source}: tensors are missing: {first(missing)}"
            + (f"; unexpected: {first(extra)}" if extra else "")
        )
    if extra:
        raise ValueError(
            f"{source} holds tensors that this model does not have: {first(extra)}"
        )
    for name, (path, kind, shape) in where.items():
        if shape != (wanted := (required | optional)[name]):
            raise ValueError(f"{path}: {name} has shape {shape}, expected {wanted}")
        if kind not in FLOATS:
            raise ValueError(
                f"{path}: {name} holds {kind} values; weights must be one of {sorted(FLOATS)}"
            )


def first(names: list[str]) -> str:
    """Return the first three of these names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def values(where: Mapping[str, tuple], dtype) -> dict[str, np.ndarray]:
    """Return the located tensors as finite floats of that dtype, one of them in memory
    twice at a time.
    """
    tensors, dtype = {}, float_dtype(dtype)
    for path in sorted({path for path, _, _ in where.values()}):
        with opened(path) as file:
            for name in [name for name, (its, _, _) in where.items() if its == path]:
                tensors[name] = cast(file.get_tensor(name), dtype, f"{path}: {name}")
    return tensors


def float_dtype(dtype) -> np.dtype:
    """Return the NumPy dtype of that name; ValueError for any but float64, float32, float16
    and bfloat16.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in FLOATS.values():
        raise ValueError(f"dtype must be one of {sorted(FLOATS.values())}, got {name!r}")
    return np.dtype(name)


def cast(array: np.ndarray, dtype, name: str) -> np.ndarray:
    """Return the array in that float dtype, None for its own; ValueError if it holds a NaN
    or an infinity, or overflows.
    """
    dtype = float_dtype(array.dtype if dtype is None else dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    if not np.isfinite(out).all():
        why = (
            "NaN or infinite values"
            if not np.isfinite(array).all()
            else f"values too large for {dtype.name}"
        )
        raise ValueError(f"{name} holds {why}: a model with them cannot compute anything")
    return out
