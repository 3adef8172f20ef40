"""python -m afm_ref rlhf."""

import dataclasses
import sys
from functools import partial

import jax
import numpy as np

from ..disk import atomic, targets
from ..interop import hugging_face
from ..rlhf import ALGORITHMS
from ..whole_road import bench, online_rl, workshops
from . import options

EPILOG = """\
examples
  python -m afm_ref rlhf                                 MDLOO, the reward from a reward model, 8 iterations
  python -m afm_ref rlhf --algorithm ppo --judge utility
  python -m afm_ref rlhf --beta 0 --folder runs/no_pull  watch the proxy being over-optimised

The first call makes the student and the reward model of the seed (a few minutes) and keeps them. Ctrl-C ends;
the same command goes on from the last checkpoint, one every other iteration, to the same numbers. At the end the run is
drawn."""


OF_SETTINGS = {  # its fields that are options
    "n": "responses to a prompt",
    "prompts": "an iteration",
    "inner_steps": "an iteration",
    "beta": "weight of the KL to the reference",
    "gamma": "of that to the previous iterate",
    "epsilon": "where ratios are clipped",
}


def add_arguments(parser):
    """Add the options of `rlhf`."""
    number, place = partial(options.number, parser), partial(options.place, parser)
    parser.add_argument(
        "--algorithm",
        choices=sorted(ALGORITHMS),
        default="mdloo",
        help="default: %(default)s",
    )
    parser.add_argument("--judge", choices=tuple(online_rl.JUDGES), default="reward model",
                        help="whose reward is maximised, a learned or the true one (default: %(default)s)")  # fmt: skip
    number(
        "--iterations",
        online_rl.ITERATIONS,
        "which the learning rate's schedule spans; prompts are new in each",
    )
    number(
        "--learning-rate",
        None,
        "peak (default: what chapter 11 chose for the algorithm, else 0.0003)",
        float,
    )
    for name, text in OF_SETTINGS.items():
        number(f"--{name.replace('_', '-')}", getattr(online_rl.SETTINGS, name), text)
    number("--seed", 0, "of the student, its reward model, the prompts and the samples")
    place("--folder", "runs/rlhf_run", "where the run is kept and continued from")
    place("--bench", "runs/bench", "where students and reward models are kept")


def run(args):
    """Train the instruct model by online RL: MDLOO, or what it is compared with."""
    asked = {name: getattr(args, name) for name in OF_SETTINGS}
    settings = dataclasses.replace(online_rl.SETTINGS, **asked)
    _check(args)
    rate = args.learning_rate or workshops.learning_rate(args.algorithm)
    jax.config.update("jax_compilation_cache_dir", str((args.bench / "compiled").resolve()))
    on = bench.Bench(folder=args.bench)
    print(f"{args.algorithm} at learning rate {rate:g} by the {args.judge}; models of seed {args.seed} in {args.bench}",
          file=sys.stderr)  # fmt: skip
    with options.resumable(args.folder), targets.only_writer(args.folder):
        outcome = online_rl.learn(
            on, args.seed, args.algorithm, args.judge, rate, args.iterations, settings,
            measure_every=max(1, args.iterations // 15), checkpoint=args.folder / "checkpoints",
            checkpoint_every=2 * settings.inner_steps,
        )  # fmt: skip
        hugging_face.save(args.folder / "policy", outcome.policy, on.cfg, tokenizer=on.tok)
        outcome.history.save(args.folder / "history.json")
        _report(outcome.history, args.folder)


def _check(args):
    """Refuse what is wrong with the options, before minutes are spent on the models."""
    options.check(
        args, at_least_1=("iterations",), at_least_0=("seed",), above_0=("learning_rate",)
    )
    if (advantages := ALGORITHMS[args.algorithm].advantages) is not None:
        advantages(np.zeros((1, args.n)))  # refuses too few responses
    for folder in (args.folder, args.folder / "checkpoints"):
        targets.check_folder(folder, "--folder")
    targets.check_folder(args.folder / "policy", "--folder", hugging_face.OTHER_MODELS)
    targets.check_folder(args.bench, "--bench")


def _report(history, folder):
    """Print how the run went, and draw it."""
    from ..teaching import figures  # imports matplotlib
    from ..teaching.chapters import rlhf as chapter

    curve = online_rl.curve(history)
    for i in sorted({0, len(curve["samples"]) // 2, len(curve["samples"]) - 1}):
        numbers = ", ".join(
            f"{name} {values[i]:.3f}" for name, values in curve.items() if name != "samples"
        )
        print(f"{curve['samples'][i]:6} samples: {numbers}")
    path = folder / "curves.png"
    atomic.write(path, figures.png(chapter.course_of_run(history.evaluations)))
    print(f"policy in {folder / 'policy'}, figure in {path}")
