"""From a model folder on disk to a palettized one, one matrix in memory at a time.

palettize_folder("my_model", "my_model_small", average_bits=3.5)
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from afm_ref.disk import tensor_files
from afm_ref.disk.text_files import read_json
from afm_ref.evaluation import bar
from afm_ref.quantization import allocate, int8, palettize, weight_counts
from afm_ref.quantization.palette.quantizers import ROWS_PER_TABLE, checked_matrix

from . import config_json, folder_config, hugging_face, palettized

FEW, MANY = 2, 4  # the widths that are mixed
NEAR = 0.01  # of the average asked for
SAMPLED_TABLES = 32  # as many tables of a matrix tell its error


def palettize_folder(
    source: str | Path,
    target: str | Path,
    average_bits: float = 3.5,
    rows_per_table: int = ROWS_PER_TABLE,
    costs: Mapping | None = None,
    progress: bool = True,
) -> dict[tuple[str, int], int]:
    """Palettize a Hugging Face folder into another folder, which `palettized.load` reads;
    return the bits chosen.

    The source may be one file or shards, of 32 or 16 bits. The target is the same, byte for
    byte, as that of `palettized.save(target, quantize(params, bits), cfg)`, but no more
    than one matrix is in memory at a time. It changes in one step at the end: an
    interrupted run leaves it as it was.

    average_bits: 2 to 4 bits per projection weight; what lies between is a mix of 2 and 4.
    costs: the loss that each matrix costs, {(matrix, layer): {2: loss, 4: loss}}, as
    `quantization.measured_costs` measures it with text at hand. Without them
    `weight_errors` takes the place of the loss.

    Source: TR24 section 5, BLOG24 (mixed 2 and 4 bits, 3.5 on average) [confirmed].
    Test: tests/interop/test_palettized.py::test_streaming_gives_the_file_of_quantize
    """
    source, target = Path(source), Path(target)
    hugging_face.check_target(target, palettized.OTHER_MODELS)
    if not FEW <= average_bits <= MANY:
        raise ValueError(f"average_bits is {average_bits}: give {FEW} to {MANY}")
    if isinstance(rows_per_table, bool) or rows_per_table < 1:
        raise ValueError(f"rows_per_table must be at least 1, got {rows_per_table!r}")
    checkpoint = Checkpoint(source)
    folder_config.written(target, checkpoint.cfg)  # refused now, not after the work
    weights = weight_counts(checkpoint.cfg)
    if average_bits in (FEW, MANY):
        bits = dict.fromkeys(weights, int(average_bits))
    else:
        if costs is None:
            costs = weight_errors(checkpoint, rows_per_table, progress)
        bits = bits_near(costs, weights, average_bits)
    packed = {
        hugging_face.layer_tensor(i, field): (b, rows_per_table)
        for (field, i), b in bits.items()
    }
    contents = palettized.planned(checkpoint.cfg, packed)
    palettized.write(target, contents, _packed_arrays(checkpoint, contents, progress))
    return bits


def bits_near(costs: Mapping, weights: Mapping, average_bits: float) -> dict:
    """Return the best bits with an average no more than NEAR below; where no mix comes so
    near, the best below it.

    Raises ValueError for an average that the fewest bits exceed.
    """
    try:
        return allocate(costs, weights, average_bits, within=NEAR)
    except ValueError:
        return allocate(costs, weights, average_bits)


class Checkpoint:
    """A model folder of Hugging Face's, whose tensors are read one by one."""

    def __init__(self, folder: Path):
        self.cfg = config_json.read(hugging_face.existing(folder) / "config.json")
        if self.cfg.source.model_type == config_json.PALETTIZED:
            raise ValueError(
                f"{folder} is palettized already, and its weights of before are not in it: give the folder that it was "
                "made of"
            )
        self.shapes = hugging_face.tensor_shapes(self.cfg)
        self.where = hugging_face.locate(folder, self.cfg)
        if self.cfg.tie_embeddings and hugging_face.UNEMBED in self.where:
            ends = (hugging_face.EMBED, hugging_face.UNEMBED)
            hugging_face.check_tied(folder, {name: self.read(name) for name in ends})

    def read(self, name: str) -> np.ndarray:
        """Return one tensor as float32."""
        return tensor_files.values({name: self.where[name]}, np.float32)[name]

    def file_bytes(self) -> int:
        """Return the bytes of all its files of tensors."""
        paths = {path for path, _, _ in self.where.values()}
        return sum(path.stat().st_size for path in paths)


def weight_errors(
    checkpoint: Checkpoint, rows_per_table: int = ROWS_PER_TABLE, progress: bool = True
) -> dict:
    """Return {(matrix, layer): {bits: error}} at 2 and 4 bits, what stands for the loss
    where no text is at hand.

        error = |W - W_b|^2 / |W|^2

    Matrices count alike whatever their size, for each disturbs its own output by that
    share. Which of them the loss depends on most it cannot say: costs measured on text are
    better. At most SAMPLED_TABLES tables of a matrix are looked at, evenly spread.
    """
    costs = {}
    for field, i in bar(weight_counts(checkpoint.cfg), "measure", progress):
        w = checked_matrix(checkpoint.read(hugging_face.layer_tensor(i, field)))
        w = _sampled(w, rows_per_table)
        total = _squares(w) or 1.0
        costs[field, i] = {
            bits: _squares(w - palettize(w, bits, rows_per_table).dense()) / total
            for bits in (FEW, MANY)
        }
    return costs


def _squares(w):
    return float(np.square(w, dtype=np.float64).sum())


def read_costs(path: str | Path) -> dict:
    """Return the costs in a JSON file: {"layers.0.wq": {"2": loss, "4": loss}, ...}, one
    entry for every matrix.

    Raises ValueError that names the file for anything else.
    """
    costs = {}
    for name, entry in read_json(path).items():
        try:
            layer, matrix = re.fullmatch(r"layers\.(\d+)\.(\w+)", name).groups()
            costs[matrix, int(layer)] = {
                int(bits): float(cost) for bits, cost in entry.items()
            }
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"{path}: {json.dumps({name: entry})[:80]} is not of the form "
                '{"layers.0.wq": {"2": 0.1, "4": 0.01}}'
            ) from None
    return costs


def _packed_arrays(checkpoint, contents, progress):
    """Yield (name, array) of all parts of all tensors, one matrix after the other."""
    for name in bar(checkpoint.shapes, "palettize", progress):
        w = checkpoint.read(name)
        if name in contents.packed:
            w = palettize(w, *contents.packed[name])
        elif w.ndim == 2:
            w = int8(w)
        yield from palettized.parts(name, w).items()


def _sampled(w, rows_per_table):
    """Return the rows of SAMPLED_TABLES tables or fewer, evenly spread over the matrix."""
    tables = -(-len(w) // rows_per_table)
    chosen = np.unique(np.linspace(0, tables - 1, SAMPLED_TABLES).round().astype(int))
    rows = (chosen[:, None] * rows_per_table + np.arange(rows_per_table)).reshape(-1)
    return w[rows[rows < len(w)]]
