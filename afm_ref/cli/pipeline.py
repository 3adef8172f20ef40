"""python -m afm_ref pipeline."""

from functools import partial
from pathlib import Path

import jax

from ..disk import targets
from ..whole_road import results_table, steps
from ..whole_road.road import RESULTS, Road
from ..whole_road.workshops import JUDGES
from . import options

EPILOG = """\
steps, each a folder in --folder with what it has made and measured
  0_base        the shipped model of pre-training
  1_sft         supervised fine-tuning: on many records (the shipped instruct model), then on answers of which a fifth
                are right and the others ramble or have a fact wrong
  2_reward      a reward model, from preferences of simulated annotators between its answers
  3_committee   taught by members of rejection sampling, DPO and MDLOO, the best answer to each prompt
  4_mdloo       online RL by MDLOO, from the committee's student on
  5_palettized  2 or 4 bits a weight by measured sensitivity, 3.5 on average; the embedding in 8
  6_recovered   with an adapter that gives back what that took
  7_features    with an adapter for summaries and one for answers, each begun from the recovery adapter

examples
  python -m afm_ref pipeline --fast                      see it all run in two or three minutes; no good numbers
  python -m afm_ref pipeline                             a quarter of an hour of one core
  python -m afm_ref pipeline --judge utility --folder runs/pipeline_utility
                                                         the true utility as the reward: what the reward model's
                                                         errors cost
  python -m afm_ref generate --model runs/pipeline/5_palettized --adapter runs/pipeline/7_features/answer.safetensors \\
      --prompt "Hugo: hi Nina! can u bring the report on Saturday? thx, Hugo
When does Hugo need the report?"

Ctrl-C ends; the same command continues, to the same numbers."""


def add_arguments(parser):
    """Add the options of `pipeline`."""
    place = partial(options.place, parser)
    place("--folder", None, "where the run is kept and continued from (default: runs/pipeline; with --fast "
          "runs/pipeline_fast)")  # fmt: skip
    judge = "whose rewards the committee and MDLOO follow (default: %(default)s)"
    parser.add_argument(
        "--judge", choices=tuple(JUDGES), default="reward model", help=judge
    )
    options.number(parser, "--seed", 0, "of all that is drawn")
    parser.add_argument("--fast", action="store_true", help="tiny sizes, to see it run")
    place(
        "--bench",
        None,
        "where students and reward models are kept, for runs to share them (default: within --folder)",
    )


def run(args):
    """Take the shipped model through all steps, to feature adapters on 3.5 bits."""
    options.check(args, at_least_0=("seed",))
    folder = args.folder or Path("runs/pipeline_fast" if args.fast else "runs/pipeline")
    targets.check_folder(folder, "--folder")
    targets.check_folder(args.bench or folder / "bench", "--bench")
    # The steps train by the same programs again and again: each is compiled once.
    jax.config.update("jax_compilation_cache_dir", str(folder.resolve() / "compiled"))
    with options.resumable(folder):
        sizes = steps.FAST if args.fast else steps.RoadSizes()
        results = Road(folder, args.seed, args.judge, sizes, args.bench).complete()
    print(results_table.answers(results), end="\n\n")
    print(results_table.table(results), end="\n\n")
    print(f"models in {folder}, all numbers in {folder / RESULTS}")
