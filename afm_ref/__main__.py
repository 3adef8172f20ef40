"""The command line: python -m afm_ref COMMAND, each command a module of `cli`."""

import argparse
import contextlib
import importlib
import os
import select
import sys

COMMANDS = {  # name: help; a command's module is imported when it is asked for
    "adapt": "Train an adapter on pairs of prompt and completion, the base frozen.",
    "curate": "Make training text of a folder of pages: extract, mask, remove near-duplicates and junk, decontaminate.",
    "generate": "Continue a text, printed as it appears.",
    "info": "Show a model's configuration, parameters, FLOPs and bytes.",
    "palettize": "Palettize a model folder on disk: mixed 2 and 4 bits, an 8-bit embedding.",
    "pipeline": "Take the shipped model through all steps, from fine-tuning to feature adapters on 3.5 bits.",
    "pretrain": "Pre-train a model on a folder of your own: core, continued and context-lengthening stages.",
    "rlhf": "Train the tiny model by online RL: MDLOO, or what it is compared with.",
    "train": "Train a fresh model on one device, on many, or in several processes, with checkpoints.",
}
TRAINING = ("adapt", "pipeline", "pretrain", "rlhf", "train")
KEEP_MEMORY = "on Linux, keep what a step gives back for the next: 0 to 11 percent faster, up to 1.7 times the memory"
INPUT_ERRORS = (ValueError, TypeError, OSError, ArithmeticError, ImportError)
INTERRUPTED, NOBODY_READS = 130, 141  # as shells tell SIGINT and SIGPIPE


def _parser(argv):
    parser = argparse.ArgumentParser(
        prog="python -m afm_ref", description="Apple's foundation models, to read and run."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in argv:
            module = importlib.import_module(f"{__package__}.cli.{name}")
            command.epilog = getattr(module, "EPILOG", None)
            module.add_arguments(command)
            if name in TRAINING:
                command.add_argument("--keep-memory", action="store_true", help=KEEP_MEMORY)
            command.set_defaults(run=module.run)
    return parser


def main(argv=None) -> int:
    """Run one command; what was wrong with its input is a line on stderr, and status 2.

    What the encoding of a terminal or pipe cannot express is written as in "Stra\\xdfe". A
    pipe that nobody reads any more ends it in silence, with status 141.
    """
    with _open_streams():
        for stream in _streams():
            if hasattr(stream, "reconfigure"):  # a notebook's has none
                stream.reconfigure(errors="backslashreplace")
        try:
            try:
                return _status(sys.argv[1:] if argv is None else argv)
            finally:
                for stream in _streams():
                    # now: where the interpreter's own fails it writes three lines
                    stream.flush()
        except OSError as error:  # of these streams; all others are told
            return _without_streams(error)


@contextlib.contextmanager
def _open_streams():
    """Let what goes to a closed stream, such as a daemon's, go nowhere."""
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for name in closed:
            setattr(sys, name, nowhere)
        yield
        for name in closed:
            setattr(sys, name, None)


def _status(argv):
    try:
        args = _parser(argv).parse_args(argv)
        args.argv = argv  # a command may start itself again, in several processes
        if getattr(args, "keep_memory", False):
            from .training import heap

            heap.keep_freed_memory()
        return args.run(args) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        line = _told(error)
        if line is None or (
            isinstance(error, BrokenPipeError) and any(map(_unread, _streams()))
        ):
            raise
        print(f"error: {line}", file=sys.stderr)
        return 2


def _streams():
    return [sys.stdout, sys.stderr]


def _unread(stream) -> bool:
    """Return whether a stream is a pipe whose reader has gone."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, AttributeError):  # no file; no poll, on Windows
        return False


def _without_streams(error) -> int:
    """Return the status of a command whose output goes nowhere, and drop what is left."""
    unread = any(map(_unread, _streams()))
    if not unread:
        with contextlib.suppress(OSError):
            print(f"error: the output cannot be written: {_told(error)}", file=sys.stderr)
    for stream in _streams():
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
    return NOBODY_READS if unread else 2


def _told(error) -> str | None:
    """Return the line on an error of the user's, or None: that is a fault of ours."""
    if isinstance(error, INPUT_ERRORS):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return (
            f"out of memory: {str(error) or 'a smaller model, batch or window needs less'}"
        )
    return _without_device(error)


def _without_device(error):
    """Return what to do where JAX finds no device of JAX_PLATFORMS, or None for other
    errors.
    """
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(error, RuntimeError | AssertionError):
        return None
    if not str(error).startswith("Unable to initialize backend"):
        try:
            jax.devices()
            return None
        except (RuntimeError, AssertionError) as why:
            error = why
    asked = jax.config.jax_platforms
    said = (
        " ".join(str(error).split())
        or f"there is no {asked} device, or no plugin of JAX for it"
    )
    return f"JAX_PLATFORMS is {asked or 'not set'}: {said}. Unset it to take what there is, or set it to cpu"


if __name__ == "__main__":
    sys.exit(main())
