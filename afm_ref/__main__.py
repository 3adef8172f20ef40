"""The command line: python -m afm_ref COMMAND. A chapter adds a command by adding a module to commands."""

import argparse
import sys

from .commands import adapt, curate, generate, info, palettize, pipeline, pretrain, rlhf, train

# name: module; the help is the first line of the docstring of its run
COMMANDS = {
    "adapt": adapt,
    "curate": curate,
    "generate": generate,
    "info": info,
    "palettize": palettize,
    "pipeline": pipeline,
    "pretrain": pretrain,
    "rlhf": rlhf,
    "train": train,
}


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m afm_ref", description="Apple's foundation models, to read and run."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        help_text = module.run.__doc__.splitlines()[0]
        command = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv=None) -> int:
    """Run one command; what was wrong with its input is one line on stderr, and exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv)
    args.argv = argv  # a command may start itself again, in several processes
    try:
        return args.run(args) or 0
    except (ValueError, TypeError, OSError, ArithmeticError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
