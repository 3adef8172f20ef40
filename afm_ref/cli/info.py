"""python -m afm_ref info."""

import dataclasses
from pathlib import Path

from .. import config

PRESETS = {"tiny": config.AFM_TINY, "on_device": config.AFM_ON_DEVICE}


def add_arguments(parser):
    """Add the options of `info`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "folder", nargs="?", type=Path, help="a Hugging Face folder, or one of `palettize`"
    )
    which.add_argument(
        "--model", type=Path, metavar="FOLDER", help="the same, as `generate` takes it"
    )
    which.add_argument(
        "--preset",
        choices=PRESETS,
        default="tiny",
        help="default: %(default)s",
    )


def run(args):
    """Show a model's configuration, parameters, FLOPs and bytes."""
    folder = args.folder or args.model
    cfg, stored = (PRESETS[args.preset], ()) if folder is None else _folder(folder)
    for field in dataclasses.fields(config.AFMConfig):
        print(f"{field.name:<36}{getattr(cfg, field.name)}")
    print()
    counts = config.parameters(cfg).items()
    for name, value in (
        *((f"parameters, {name}", count) for name, count in counts),
        ("forward FLOPs per token, T = 4096", config.forward_flops_per_token(cfg, 4096)),
        ("weight bytes in 16 bits", int(config.weight_bytes(cfg))),
        ("KV cache bytes per token", config.kv_cache_bytes_per_token(cfg)),
        *stored,
    ):
        print(f"{name:<36}{value:,}")


def _folder(folder):
    """Return (config, what is stored in how many bits and bytes) of a model folder."""
    from ..interop import palettized, palettizing  # imports JAX, which the presets need not
    from ..quantization import sizes

    if not palettized.is_palettized(folder):
        checkpoint = palettizing.Checkpoint(folder)  # reads no weights: they may not fit
        return checkpoint.cfg, [("bytes of the weights on disk", checkpoint.file_bytes())]
    params, cfg = palettized.load(folder)
    found = sizes(params)
    return cfg, [
        ("bits per projection weight", round(found.projection_bits, 3)),
        ("bits per parameter", round(found.model_bits, 3)),
        ("bytes of the weights on disk", (folder / palettized.FILE).stat().st_size),
    ]
