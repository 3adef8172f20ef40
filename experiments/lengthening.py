"""Context lengthening of the shipped model, with RoPE's base changed by the rule and without: numbers of chapter 4.

    python -m experiments.lengthening                # call it again to resume; about 14 CPU-minutes
    python -m experiments.lengthening --seeds 2 --steps 2 --long-documents 2 --answers 2 \\
        --folder runs/lengthening_smoke --no-ship

Question  does one short stage teach windows of 1024 tokens, and does RoPE's new base help?
Arms      the shipped model, untrained with either base and cut to short windows; the stage with the new and with the
          old base, at two learning rates

AFM_TINY was trained on windows of 256 tokens. One more stage on windows of 1024, of 1.4% of the tokens it was trained
on (Apple's: 1.35%), with long questions and answers in it; three seeds, of the batches. Measured is the loss by
position in held-out documents of more than 2048 tokens.
  before       the shipped model, with its own base and with the new one, nothing trained
  truncated    the shipped model, shown only the last 128 to 255 tokens before each: what a longer window must beat
  new, old     after the stage, with the new base and with the old one
  new_fast,
  old_fast     the same at ten times the learning rate
"""

import argparse
import dataclasses
import re
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref import assets
from afm_ref.data import corpora
from afm_ref.evaluation import mean_interval
from afm_ref.lora import files
from afm_ref.pretraining import stages

from . import _record
from .stages import EDGES, MIXTURES, Text, answers, by_position

WANTED = 1024  # tokens of the window; `tiny_stages` takes a fourth of it, AFM_TINY's 256, for the trained one
FASTER = 10  # times 3% of the peak; Apple's rate in its last stage is not stated


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, type=int, help="default: %(default)s")
    add("--seeds", default=3)
    add("--first-seed", default=0)
    add("--steps", default=40)
    add("--long-documents", default=24, help="at most, of each part (default: %(default)s)")
    add("--answers", default=16, help="long documents to measure answers in (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/lengthening"), help="default: %(default)s")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def stage_of(cfg, steps, change_base, faster=1):
    """Return the stage: with the rule's base, or with the model's own, and at so many times the learning rate."""
    steps = dict.fromkeys(stages.NAMES, steps)
    last = stages.tiny_stages(MIXTURES, steps, WANTED // 8, rope_theta=cfg.rope_theta, change_base=change_base)[-1]
    return dataclasses.replace(last, learning_rate=faster * last.learning_rate)


def measured(text, params, cfg):
    """Return bits per byte of each part in windows of 256, loss by position, and the answers of long documents."""
    return {
        "bits_per_byte": text.measured(params, cfg),
        "by_position": by_position(text, params, cfg),
        "answers": answers(text, params, cfg),
    }


def before(text, a, change_base):
    """Return the numbers of the shipped model, nothing trained."""
    params, cfg, _ = assets.load_tiny()
    return measured(text, params, stage_of(cfg, a.steps, change_base).config(cfg))


def truncated(text):
    """Return the loss by position of the shipped model if it sees the last tokens alone, as many as its window has."""
    params, cfg, _ = assets.load_tiny()
    return {"by_position": by_position(text, params, cfg, seen=WANTED // 4)}


def after(text, a, seed, change_base, faster):
    """Return the numbers after the stage."""
    params, cfg, _ = assets.load_tiny()
    out = stages.run(params, cfg, [stage_of(cfg, a.steps, change_base, faster)], text.rows, seed, progress=False)
    return measured(text, out.params, out.cfg)


def jobs(text, a):
    """Return {key: function} of all runs."""
    found = {f"before_{name}": partial(before, text, a, name == "new") for name in ("old", "new")}
    found["truncated"] = partial(truncated, text)
    for seed in range(a.first_seed, a.first_seed + a.seeds):
        for speed, faster in (("", 1), ("_fast", FASTER)):
            for name in ("old", "new"):
                found[f"{name}{speed}_{seed}"] = partial(after, text, a, seed, name == "new", faster)
    return found


def verdict(numbers):
    """Return what the new base does to the loss of English, past the trained window and past the new one, by seed."""
    runs, told = numbers["runs"], []
    seeds = [key.split("_")[1] for key in runs if re.fullmatch(r"new_\d+", key)]
    trained, window = EDGES.index(WANTED // 4), EDGES.index(WANTED)
    for where, bins in (("from 256 to 1024", slice(trained, window)), ("past 1024", slice(window, None))):
        at = [[np.mean(runs[f"{base}_{s}"]["by_position"]["english"][bins]) for s in seeds] for base in ("new", "old")]
        told.append(_record.told(f"new base less old, nats {where},", mean_interval(np.subtract(*at))))
    return "; ".join(told)


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.folder)
    params, cfg, _ = assets.load_tiny()
    runs = _record.finished(jobs(Text(a, corpora.HELD_OUT_SHARE), a), a.folder)
    if not a.no_ship:
        new_base = stage_of(cfg, a.steps, True).rope_theta
        config = _record.config_of(a) | {"base": files.fingerprint(params), "edges": EDGES, "new_base": new_base}
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "runs": runs}
        seeds = list(range(a.first_seed, a.first_seed + a.seeds))
        print(_record.save("lengthening", "python -m experiments.lengthening", config, seeds, numbers))


if __name__ == "__main__":
    main()
