"""The command line: python -m afm_ref COMMAND. A chapter adds a command by adding a function to COMMANDS."""

import argparse
import dataclasses
import sys


def _add_generate(parser):
    parser.add_argument("--model", metavar="FOLDER", help="a Hugging Face folder (default: the shipped tiny model)")
    parser.add_argument("--prompt", default="The ", metavar="TEXT", help="the text to continue (default: %(default)r)")
    parser.add_argument("--max-new-tokens", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="X", help="0 always takes the most likely token (default)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most likely tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest tokens that reach P together")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")


def _generate(args):
    """Continue a text, printed as it appears."""
    from .generation import stream_text

    params, cfg, tokenizer = _model(args.model)
    settings = dict(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
    prompt, stop = _as_document(tokenizer, args.prompt)
    pieces = stream_text(params, cfg, tokenizer, prompt, args.max_new_tokens, stop=stop, **settings)
    print(args.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _as_document(tokenizer, text):
    """Return (the prompt as the model was trained to see a document begin, the token that ends one)."""
    from .data.tokenizer import BOS, EOS, Tokenizer

    if not text or not isinstance(tokenizer, Tokenizer):  # stream_text refuses an empty text
        return text, None
    return [BOS, *tokenizer.encode(text).tolist()], EOS


def _model(folder):
    """Return (params, cfg, tokenizer) of a folder, or of the shipped model."""
    if folder is None:
        from .assets import load_tiny

        return load_tiny()
    from .interop import hugging_face

    return *hugging_face.load(folder), hugging_face.load_tokenizer(folder)


def _add_info(parser):
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="FOLDER", help="a Hugging Face folder")
    which.add_argument("--preset", choices=("tiny", "on_device"), default="tiny", help="default: %(default)s")


def _info(args):
    """Show a model's configuration, parameters, FLOPs and bytes."""
    from . import config

    if args.model is None:
        cfg = {"tiny": config.AFM_TINY, "on_device": config.AFM_ON_DEVICE}[args.preset]
    else:
        from .interop import hugging_face

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


# name: (adds its arguments to a parser, runs it); the help is the first line of the second's docstring
COMMANDS = {
    "generate": (_add_generate, _generate),
    "info": (_add_info, _info),
}


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m afm_ref", description="Apple's foundation models, to read and run."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (add_arguments, run) in COMMANDS.items():
        help_text = run.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=help_text, description=help_text)
        add_arguments(command)
        command.set_defaults(run=run)
    return parser


def main(argv=None) -> int:
    """Run one command; what was wrong with its input is one line on stderr, and exit status 2."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (ValueError, TypeError, OSError, ArithmeticError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
