"""Reading safetensors files with every check we can make, and writing a group of files whole or not at all."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import ml_dtypes  # noqa: F401 - comes with JAX, and teaches NumPy the name "bfloat16"
import numpy as np

from .. import atomic
from ..text_files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PALETTIZED = "palettized.safetensors"
OTHER_MODELS = (INDEX, PALETTIZED)  # beside a new model.safetensors they would be taken for it, or lost
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# A table of RoPE's frequencies that old Llama files carry; transformers ignores it and so do we.
IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


def float_dtype(dtype) -> np.dtype:
    """Return the NumPy dtype of that name; anything but float64, float32, float16 and bfloat16 is a ValueError."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in FLOATS.values():
        raise ValueError(f"dtype must be one of {sorted(FLOATS.values())}, got {name!r}")
    return np.dtype(name)


def read(folder: Path, shapes: dict[str, tuple], optional: dict[str, tuple], dtype) -> dict[str, np.ndarray]:
    """Return the tensors named in shapes, and those of `optional` that are there, as finite floats of that dtype.

    ValueError names the file and the tensor: for a file that is cut short or no safetensors file, for a missing,
    extra or doubled tensor, a wrong shape or dtype, a NaN or an infinity.
    """
    return _values(locate(folder, shapes, optional), float_dtype(dtype))


def locate(folder: Path, shapes: dict[str, tuple], optional: dict[str, tuple]) -> dict[str, tuple]:
    """Return {tensor name: (file, dtype, shape)}, everything checked that can be without reading values."""
    where = _headers(folder)
    for name in [name for name in where if IGNORED.fullmatch(name)]:
        del where[name]
    _check_names(folder, set(where), set(shapes), set(optional))
    _check_headers(where, shapes | optional)
    return where


def read_one(where: dict[str, tuple], name: str, dtype) -> np.ndarray:
    """Return one of the tensors that `locate` found, as finite floats of that dtype."""
    return _values({name: where[name]}, float_dtype(dtype))[name]


def _check_headers(where, shapes):
    for name, (path, kind, shape) in where.items():
        if shape != shapes[name]:
            raise ValueError(f"{path}: {name} has shape {shape}, but config.json asks for {shapes[name]}")
        if kind not in FLOATS:
            raise ValueError(f"{path}: {name} holds {kind} values; weights must be one of {sorted(FLOATS)}")


def _check_names(folder, found, required, optional):
    extra = sorted(found - required - optional)
    biases = [name for name in extra if name.endswith(".bias")]
    if biases:
        raise ValueError(f"{folder} holds biases, which this model does not have: {_first(biases)}")
    missing = sorted(required - found)
    if missing:
        raise ValueError(
            f"{folder}: tensors are missing: {_first(missing)}" + (f"; unexpected: {_first(extra)}" if extra else "")
        )
    if extra:
        raise ValueError(f"{folder} holds tensors that this model does not have: {_first(extra)}")


def _first(names, count=3):
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def _headers(folder):
    """Return {tensor name: (file, dtype, shape)} over all files of the folder."""
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():  # as in transformers, it goes before an index
        return {name: (single, *header) for name, header in _header(single).items()}
    if not index.is_file():
        raise FileNotFoundError(f"{folder} holds neither {SINGLE} nor {INDEX}: is it a model folder?")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map from tensor names to files")
    found = {}
    for shard in sorted({_plain_name(index, name) for name in weight_map.values()}):
        if not (folder / shard).is_file():
            raise ValueError(f"{index} names {shard}, which is not in the folder: download it too")
        for name, header in _header(folder / shard).items():
            if name in found:
                raise ValueError(f"{name} is in {found[name][0].name} and in {shard}: which one is meant?")
            if weight_map.get(name, shard) != shard:
                raise ValueError(f"{index} says that {name} is in {weight_map[name]}, but it is in {shard}")
            found[name] = (folder / shard, *header)
    lost = sorted(set(weight_map) - set(found))
    if lost:
        raise ValueError(f"{index} names tensors that their files do not hold: {_first(lost)}")
    return found


def _plain_name(index, name):
    """Return a shard's file name, refusing anything that could lead out of the folder."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name) or name.startswith("."):
        raise ValueError(
            f"{index} names the file {name!r}; a shard must be a plain *.safetensors name in the same folder"
        )
    return name


def _open(path):
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is cut short or no safetensors file ({error}): compare its size with the source and fetch it again"
        ) from None


def _header(path):
    with _open(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}


def _values(where, dtype):
    """Return the arrays, one tensor in memory twice at a time."""
    tensors = {}
    for path in sorted({path for path, _, _ in where.values()}):
        with _open(path) as file:
            for name in [name for name, (its, _, _) in where.items() if its == path]:
                tensors[name] = cast(file.get_tensor(name), dtype, f"{path}: {name}")
    return tensors


def cast(array: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """Return the array in that dtype; ValueError if it holds a NaN or an infinity, or overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    if not np.isfinite(out).all():
        why = "NaN or infinite values" if not np.isfinite(array).all() else f"values too large for {dtype.name}"
        raise ValueError(f"{name} holds {why}: a model with them cannot compute anything")
    return out


def write_together(folder: Path, writers: dict[str, Callable[[Path], None]]) -> None:
    """Write files {name: write(path)} into folder, each whole or not at all, the last name last.

    A full disk or an exception leaves the files as they were; see `atomic.replacing`.
    """
    with atomic.replacing(*(folder / name for name in writers)) as temporary:
        for path, write in zip(temporary, writers.values()):
            write(path)


def tensor_writer(tensors: dict[str, np.ndarray]) -> Callable[[Path], None]:
    """Return a writer of these tensors as a safetensors file that PyTorch's readers accept as well."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    def write(path):
        try:
            save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:  # of the disk: it took the tensors
            found = re.search(r"os error (\d+)", str(error))
            raise (OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))) from None

    return write


def json_writer(fields: dict) -> Callable[[Path], None]:
    """Return a writer of a JSON object."""
    return lambda path: path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_file(path: Path, shapes: dict[str, tuple], dtype) -> dict[str, np.ndarray]:
    """Return the tensors named in shapes from one safetensors file, checked as `read` does."""
    where = {name: (path, *header) for name, header in header_of(path).items()}
    _check_names(path, set(where), set(shapes), set())
    _check_headers(where, shapes)
    return _values(where, float_dtype(dtype))


def header_of(path: Path) -> dict[str, tuple[str, tuple]]:
    """Return {tensor name: (dtype, shape)} of one safetensors file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return _header(path)
