"""A palettized model as a folder: one safetensors file of codes and tables, config.json,
the tokenizer.

save(folder, quantized, cfg)            # of `quantization.quantize`
params, cfg = load(folder)              # bit for bit, and never a matrix of floats in memory

The tensors bear Hugging Face's names. A projection has .codes, .tables and .exponent, the
embedding .codes, .scale and .exponent (see `quantization.palette`); gains are as they were.
The metadata say how each matrix is packed and have a checksum of every tensor. All else in
the header follows from the config: its length is known before the tensors are there, and
reading compares all of it.
"""

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from afm_ref.config import AFMConfig
from afm_ref.disk import atomic, tensor_files
from afm_ref.disk.text_files import naming
from afm_ref.quantization import Int8, Palettized
from afm_ref.quantization.palette import bit_packing
from afm_ref.weights import Params

from . import config_json, folder_config, hugging_face

FILE = hugging_face.PALETTIZED
OTHER_MODELS = (hugging_face.SINGLE, hugging_face.INDEX)
FORMAT = "afm_ref.palettized.1"
PARTS = {Palettized: ("codes", "tables", "exponent"), Int8: ("codes", "scale", "exponent")}


class Contents(NamedTuple):
    """What a file holds, apart from the numbers."""

    cfg: AFMConfig
    packed: dict[str, tuple[int, int]]  # name of a projection: (bits, rows_per_table)
    tensors: dict[str, tuple[np.dtype, tuple]]  # name: (dtype, shape)

    def about(self, checksums: Mapping[str, int]) -> dict[str, str]:
        """Return the file's metadata, as long whatever the checksums are; a missing one
        counts as 0.
        """
        written = {
            name: f"{checksums.get(name, 0):08x}"
            for name in tensor_files.entries(self.tensors)
        }
        return {
            "format": FORMAT,
            "config": json.dumps(self.cfg.to_dict(), sort_keys=True),
            "bits, rows_per_table": json.dumps(self.packed, sort_keys=True),
            "crc32": json.dumps(written),
        }

    def header(self, checksums: Mapping[str, int]) -> bytes:
        """Return all bytes in front of the tensors."""
        return tensor_files.header(
            tensor_files.entries(self.tensors), self.about(checksums)
        )

    def file_bytes(self) -> int:
        """Return the size of the file."""
        return len(self.header({})) + sum(
            dtype.itemsize * math.prod(shape) for dtype, shape in self.tensors.values()
        )


def save(folder: str | Path, params: Params, cfg: AFMConfig, tokenizer=None) -> None:
    """Write the folder of a quantized model; nothing in it changes unless all could be
    written.

    tokenizer: as in `hugging_face.save`. Raises ValueError for weights that are not
    quantized, or have an adapter, or do not fit cfg, and for a folder that holds another
    model.
    """
    weights = hugging_face.named(params, cfg).items()
    arrays = (part for name, (w, _) in weights for part in parts(name, w).items())
    write(folder, contents_of(params, cfg), arrays, tokenizer)


def load(folder: str | Path) -> tuple[Params, AFMConfig]:
    """Return (params, cfg) of a folder that `save` wrote, the weights packed as they are in
    the file.

    Raises FileNotFoundError for a missing file, and ValueError that names the file for
    everything that was cut short, changed or is of another format.
    """
    folder = Path(folder)
    cfg = _read_config(folder / "config.json")
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, but config.json says that the model is in it"
        )
    where = tensor_files.locate(path)
    with tensor_files.opened(path) as file, naming(path):
        contents = _contents_in(file, where, cfg)
        arrays = {name: file.get_tensor(name) for name in contents.tensors}
        checksums = {
            name: zlib.crc32(tensor_files.bytes_of(array)) for name, array in arrays.items()
        }
        if file.metadata() != contents.about(checksums):
            raise ValueError(
                "was changed after it was written, or belongs to another config.json: copy both again"
            )
    return _assembled(arrays, contents), cfg


def is_palettized(folder: str | Path) -> bool:
    """Return whether a folder's config.json says that it holds a palettized model."""
    path = Path(folder) / "config.json"
    return (
        path.is_file()
        and config_json.read_json(path).get("model_type") == config_json.PALETTIZED
    )


def file_bytes(params: Params, cfg: AFMConfig) -> int:
    """Return the bytes of the file of these params: the stored bytes of
    `quantization.sizes`, and the header.
    """
    return contents_of(params, cfg).file_bytes()


def planned(
    cfg: AFMConfig, packed: Mapping[str, tuple[int, int]], gains: Mapping | None = None
) -> Contents:
    """Return what the file of such a model holds: packed {name of a projection: (bits,
    rows_per_table)}.

    gains: {name: dtype} of the weights without packing, float32 by default.
    """
    tensors = {}
    for name, shape in hugging_face.tensor_shapes(cfg).items():
        if len(shape) == 1:
            tensors[name] = ("float32" if gains is None else gains[name], shape)
            continue
        tensors[f"{name}.exponent"] = ("int16", ())
        if name in (hugging_face.EMBED, hugging_face.UNEMBED):
            tensors[f"{name}.codes"] = ("int8", shape)
            tensors[f"{name}.scale"] = ("float16", shape[:1])
        else:
            bits, rows = packed[name]
            width = bit_packing.packed_bytes(shape[1], bits)
            tensors[f"{name}.codes"] = ("uint8", (shape[0], width))
            tensors[f"{name}.tables"] = ("float16", (-(-shape[0] // rows), 2**bits))
    tensors = {name: (np.dtype(kind), shape) for name, (kind, shape) in tensors.items()}
    return Contents(cfg, dict(packed), tensors)


def contents_of(params: Params, cfg: AFMConfig) -> Contents:
    """Return what the file of these params holds; ValueError where they are not quantized,
    or do not fit cfg.
    """
    weights = hugging_face.named(params, cfg)
    for name, (w, shape) in weights.items():
        is_array = hasattr(w, "__array_namespace__")
        if not (is_array if len(shape) == 1 else type(w) in PARTS):
            raise ValueError(
                f"{name} is a {type(w).__name__}: quantization.quantize makes a palettized model, lora.detach takes an "
                "adapter off"
            )
    packed = {
        name: (w.bits, w.rows_per_table)
        for name, (w, _) in weights.items()
        if isinstance(w, Palettized)
    }
    gains = {name: w.dtype for name, (w, _) in weights.items() if type(w) not in PARTS}
    contents = planned(cfg, packed, gains)
    for name, (w, _) in weights.items():
        for part, array in parts(name, w).items():
            if contents.tensors.get(part) != (array.dtype, array.shape):
                raise ValueError(
                    f"{part} is {array.dtype} {array.shape}, but cfg asks for {contents.tensors.get(part)}"
                )
    return contents


def parts(name: str, w) -> dict[str, np.ndarray]:
    """Return {name in the file: array} of one weight."""
    if type(w) not in PARTS:
        return {name: np.asarray(w)}
    return {f"{name}.{part}": np.asarray(getattr(w, part)) for part in PARTS[type(w)]}


def write(
    folder, contents: Contents, arrays: Iterable[tuple[str, np.ndarray]], tokenizer=None
) -> None:
    """Write the folder: the tensors in whatever order they come, and what belongs beside
    them; all or nothing.

    arrays: (name, array) of every tensor; only one need be in memory at a time.
    """
    folder = Path(folder)
    hugging_face.check_target(folder, OTHER_MODELS)
    kept, files = folder_config.written(folder, contents.cfg, tokenizer)
    kept = {name: value for name, value in kept.items() if value is not None}
    fields = kept | {"model_type": config_json.PALETTIZED} | contents.cfg.to_dict()
    first = {FILE: lambda path: _write_tensors(path, contents, arrays)}
    atomic.write_together(folder, first | files | {"config.json": config_json.text(fields)})


def _write_tensors(path, contents, arrays):
    """Write the header, each tensor to its place, then the header again with their
    checksums.
    """
    index = tensor_files.entries(contents.tensors)
    checksums = {}
    start = len(contents.header({}))
    with open(path, "wb") as file:
        for name, array in arrays:
            data = tensor_files.bytes_of(array)
            file.seek(start + index[name]["data_offsets"][0])
            file.write(data)
            checksums[name] = zlib.crc32(data)
        file.seek(0)
        file.write(contents.header(checksums))


def _read_config(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: a palettized model is a folder with config.json and {FILE}"
        )
    cfg = config_json.read(path)
    if cfg.source.model_type != config_json.PALETTIZED:
        raise ValueError(
            f"{path} is of no palettized model: hugging_face.load loads others"
        )
    return cfg


def _contents_in(file, where, cfg):
    """Return the contents that a file's metadata tell, after comparing them with its
    tensors.
    """
    about = file.metadata() or {}
    if about.get("format") != FORMAT:
        raise ValueError(f"is of the format {about.get('format')!r}, expected {FORMAT!r}")
    try:
        kinds = {name: tensor_files.KINDS[kind] for name, (_, kind, _) in where.items()}
        packed = {
            name: (bits, rows)
            for name, (bits, rows) in json.loads(about["bits, rows_per_table"]).items()
        }
        contents = planned(cfg, packed, kinds)
        fits = contents.tensors == {name: (kinds[name], where[name][2]) for name in where}
    except (KeyError, TypeError, AttributeError, ArithmeticError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"has no header of the format {FORMAT} that fits config.json: copy both again"
        )
    return contents


def _assembled(arrays, contents):
    """Return the params of the arrays, named as in the file."""
    shapes = hugging_face.tensor_shapes(contents.cfg)

    def weight(name):
        if name in arrays or name not in shapes:
            return arrays.get(name)
        if name not in contents.packed:
            return Int8(*(arrays[f"{name}.{part}"] for part in PARTS[Int8]))
        bits, rows = contents.packed[name]
        pad = -shapes[name][1] % bit_packing.group_size(bits)[0]
        return Palettized(
            *(arrays[f"{name}.{part}"] for part in PARTS[Palettized]), bits, rows, pad
        )

    return hugging_face.assembled(weight, contents.cfg)
