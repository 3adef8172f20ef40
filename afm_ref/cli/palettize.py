"""python -m afm_ref palettize."""

from pathlib import Path

from .. import assets
from ..disk import targets
from ..interop import palettized, palettizing
from ..quantization import sizes
from . import options

EPILOG = """\
examples
  python -m afm_ref palettize                            the shipped tiny model, 3.5 bits a weight
  python -m afm_ref palettize my_model --bits 3.5 --out my_model_small
  python -m afm_ref generate --model my_model_small --prompt "The "

Works from folder to folder with one matrix in memory at a time. Which matrices get 4 bits and which 2 follows from the
squared error of their weights, the stand-in where no text is at hand; --sensitivity gives losses measured on text:
  {"layers.0.wq": {"2": 0.013, "4": 0.0004}, "layers.0.wk": ...}"""


def add_arguments(parser):
    """Add the arguments of `palettize`."""
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                        help="a Hugging Face folder (default: the shipped tiny model)")  # fmt: skip
    options.number(
        parser, "--bits", 3.5, "per projection weight, 2 to 4; between them a mix"
    )
    options.place(
        parser,
        "--out",
        "runs/palettized",
        "the folder to write, replaced whole or not at all",
    )
    options.number(parser, "--rows-per-table", 16, "rows that share a look-up table")
    options.place(
        parser, "--sensitivity", None, "JSON of the loss that each matrix costs", "FILE"
    )


def run(args):
    """Palettize a model folder on disk: mixed 2 and 4 bits, an 8-bit embedding."""
    source = args.folder or assets.FOLDER
    costs = args.sensitivity and palettizing.read_costs(args.sensitivity)
    targets.check_folder(args.out, "--out")
    bits = palettizing.palettize_folder(
        source, args.out, args.bits, args.rows_per_table, costs
    )
    found = sizes(palettized.load(args.out)[0])
    file_bytes = (args.out / palettized.FILE).stat().st_size
    source_bytes = palettizing.Checkpoint(source).file_bytes()
    few = sum(b == palettizing.FEW for b in bits.values())
    mix = f"{few} matrices at 2, {len(bits) - few} at 4"
    print(f"projection_bits  {found.projection_bits:.3f} per projection weight: {mix}")
    print(
        f"model_bits       {found.model_bits:.3f} per parameter: codes, tables, scales, embedding, gains"
    )
    print(
        f"file_bytes       {file_bytes:,}, the source's {source_bytes:,} divided by {source_bytes / file_bytes:.2f}"
    )
    print(f"model in {args.out}")
