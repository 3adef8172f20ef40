"""python -m afm_ref rlhf."""

import math
import sys
from pathlib import Path

from . import options

EPILOG = """\
examples
  python -m afm_ref rlhf                                 MDLOO, the reward from a reward model, 60 iterations
  python -m afm_ref rlhf --algorithm ppo --judge utility
  python -m afm_ref rlhf --beta 0 --folder runs/no_pull  watch the proxy being over-optimised

The first call makes the student and the reward model of the seed (some minutes) and keeps them. Ctrl-C ends;
the same command goes on from the last checkpoint, one every other iteration, to the same numbers. At the end the run is
drawn beside those that experiments.rlhf recorded."""


def add_arguments(parser):
    """Add the options of `rlhf`."""
    from ..pipeline.online import JUDGES, SETTINGS
    from ..rlhf import ALGORITHMS

    parser.add_argument("--algorithm", choices=sorted(ALGORITHMS), default="mdloo", help="default: %(default)s")
    parser.add_argument("--judge", choices=tuple(JUDGES), default="reward model",
                        help="whose reward is maximised, a learned or the true one (default: %(default)s)")  # fmt: skip
    parser.add_argument("--iterations", type=int, default=60, metavar="N",
                        help="which the learning rate's schedule spans (default: %(default)s)")  # fmt: skip
    parser.add_argument("--learning-rate", type=float, metavar="X",
                        help="peak (default: the algorithm's in the recording, else 0.0003)")  # fmt: skip
    for name, text in (("K", "responses to a prompt"), ("prompts", "an iteration"), ("inner_steps", "an iteration")):
        _add(parser, name, getattr(SETTINGS, name), text, int)
    for name, text in (("beta", "weight of the KL to the reference"), ("gamma", "of that to the previous iterate"),
                       ("epsilon", "where ratios are clipped")):  # fmt: skip
        _add(parser, name, getattr(SETTINGS, name), text, float)
    _add(parser, "seed", 0, "of the student, its reward model, the prompts and the samples", int)
    parser.add_argument("--folder", type=Path, default=Path("runs/rlhf_run"), metavar="FOLDER",
                        help="where the run is kept and continued from (default: %(default)s)")  # fmt: skip
    parser.add_argument("--bench", type=Path, default=Path("runs/rlhf/bench"), metavar="FOLDER",
                        help="where students and reward models are kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--recorded", type=Path, metavar="FILE",
                        help="the recording to draw it beside (default: the one that ships)")  # fmt: skip


def _add(parser, name, default, text, kind):
    parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, metavar="N" if kind is int else "X",
                        help=f"{text} (default: %(default)s)")  # fmt: skip


def run(args):
    """Train the tiny model by online RL: MDLOO, or what it is compared with."""
    import jax

    from .. import assets, targets, text_files
    from ..interop import hugging_face
    from ..pipeline import online
    from ..pipeline.bench import Bench

    settings = online.settings_of(K=args.K, prompts=args.prompts, inner_steps=args.inner_steps, beta=args.beta,
                                  gamma=args.gamma, epsilon=args.epsilon)  # fmt: skip
    _check(args)
    recorded = (text_files.read_json(args.recorded) if args.recorded else assets.recording("rlhf"))["numbers"]
    rate = args.learning_rate or recorded.get("chosen", {}).get(args.algorithm, 3e-4)
    jax.config.update("jax_compilation_cache_dir", str((args.bench / "compiled").resolve()))
    bench = Bench(folder=args.bench)
    print(f"{args.algorithm} at learning rate {rate:g} by the {args.judge}; models of seed {args.seed} in {args.bench}",
          file=sys.stderr)  # fmt: skip
    try:
        with targets.only_writer(args.folder):
            outcome = online.learn(
                bench, args.seed, args.algorithm, args.judge, rate, args.iterations, settings,
                measure_every=max(1, args.iterations // 15), checkpoint=args.folder / "checkpoints",
                checkpoint_every=2 * settings.inner_steps,
            )  # fmt: skip
            hugging_face.save(args.folder / "policy", outcome.policy, bench.cfg, tokenizer=bench.tok)
            outcome.history.save(args.folder / "history.json")
            _report(online.curve(outcome.history), recorded, args)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command continues from {args.folder}", file=sys.stderr)
        raise


def _check(args):
    """Refuse what is wrong with the options, before minutes are spent on the student and its reward model."""
    import numpy as np

    from .. import targets
    from ..interop import tensor_files
    from ..rlhf import ALGORITHMS

    options.at_least_one(args, ("iterations",))
    options.not_negative(args, ("seed",))
    if args.learning_rate is not None and not 0 < args.learning_rate < math.inf:
        raise ValueError(f"--learning-rate is {args.learning_rate}: give a number above 0")
    if (advantages := ALGORITHMS[args.algorithm].advantages) is not None:
        advantages(np.zeros((1, args.K)))  # refuses too few responses
    targets.check_folder(args.folder, "--folder")
    targets.check_folder(args.folder / "checkpoints", "--folder")
    targets.check_folder(args.folder / "policy", "--folder", without=tensor_files.OTHER_MODELS)
    targets.check_folder(args.bench, "--bench")


def _report(curve, recorded, args):
    """Print how the run went, and draw it beside the recorded ones."""
    from .. import atomic
    from ..teaching import figures
    from ..teaching.chapters import rlhf as chapter

    for i in sorted({0, len(curve["samples"]) // 2, len(curve["samples"]) - 1}):
        numbers = ", ".join(f"{name} {values[i]:.3f}" for name, values in curve.items() if name != "samples")
        print(f"{curve['samples'][i]:6} samples: {numbers}")
    beside = chapter.recorded_curves(recorded["runs"], args.judge)
    if not beside:
        print(f"no recorded run followed the {args.judge}: this one is drawn alone")
    path = args.folder / "curves.png"
    atomic.write(path, figures.png(chapter.against_samples(beside, {"this run": curve})))
    print(f"policy in {args.folder / 'policy'}, figure in {path}")
