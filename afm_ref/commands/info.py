"""python -m afm_ref info."""

import dataclasses


def add_arguments(parser):
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="FOLDER", help="a Hugging Face folder")
    which.add_argument("--preset", choices=("tiny", "on_device"), default="tiny", help="default: %(default)s")


def run(args):
    """Show a model's configuration, parameters, FLOPs and bytes."""
    from .. import config

    if args.model is None:
        cfg = {"tiny": config.AFM_TINY, "on_device": config.AFM_ON_DEVICE}[args.preset]
    else:
        from ..interop import hugging_face

        _, cfg = hugging_face.load(args.model)
    for field in dataclasses.fields(cfg):
        print(f"{field.name:<36}{getattr(cfg, field.name)}")
    print()
    counts = [(f"parameters, {name}", count) for name, count in config.parameters(cfg).items()]
    for name, value in (
        *counts,
        ("forward FLOPs per token, T = 4096", config.forward_flops_per_token(cfg, 4096)),
        ("weight bytes in 16 bits", int(config.weight_bytes(cfg))),
        ("KV cache bytes per token", config.kv_cache_bytes_per_token(cfg)),
    ):
        print(f"{name:<36}{value:,}")
