"""The classifier of quality that ships, and how well it and the extraction of pages do: numbers of chapter 2.

    python -m experiments.curation_quality               # call it again to resume; about 4 CPU-minutes
    python -m experiments.curation_quality --seeds 1 --each 20 --steps 20 --pages 10 --folder runs/quality_smoke \\
        --no-ship

Question  does the classifier tell junk from prose, of kinds that it never saw, too, and are pages' bodies found?
Arms      the shipped classifier; one trained without each kind of junk; extraction with and without main_content

Good is prose of the standard library (reference topics and docstrings) and everyday text, which is generated. Junk is
of junk.REAL and made_up_pages.GENERATED; the latter is model-written. Documents, so modules and topics, are on one side
each.
Held-out junk of a generated kind is drawn anew, but from the same sentences: it is easier than it looks. So two harder
questions, with everyday text in the place of a kind of junk too:
  without_<kind>   the classifier that never saw a kind: how much of that kind does it judge rightly?
  unseen_dropped   of the shipped classifier: log lines and terms of use, which none ever saw
Extraction: pages around bodies that are known, with and without main_content, by style.
"""

import argparse
import json
import zlib
from collections import defaultdict
from functools import cache, partial
from pathlib import Path

import numpy as np

from afm_ref import evaluation
from afm_ref.curation import html, quality
from afm_ref.data import corpora, pretraining_text, tasks
from afm_ref.teaching import made_up_pages
from afm_ref.teaching.made_up_pages import GENERATED, UNSEEN
from experiments.crawl import junk, planting

from . import _record

THRESHOLD = quality.Quality.threshold
HELD_OUT = 0.3
GOOD = ("reference", "everyday")
JUNK = (*junk.REAL, *GENERATED)
EVERYDAY_MESSAGES = 12  # to a text


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--each", type=int, default=250, help="texts of a kind of junk, at most (default: %(default)s)")
    add("--steps", type=int, default=400)
    add("--pages", type=int, default=200, help="pages of each style (default: %(default)s)")
    add("--folder", type=Path, default=Path("runs/curation_quality"))
    parser.add_argument("--no-ship", action="store_true", help="record nothing, ship nothing")
    return parser.parse_args(line)


def is_held_out(document, seed: int) -> bool:
    """Return whether a document is on the held-out side of a seed, by its name: all its pieces with it."""
    return zlib.crc32(f"{seed}:{document.name}".encode()) < HELD_OUT * 2**32


@cache
def sources():
    """Return (good documents, real junk) of the running Python."""
    good = [d for d in corpora.embedded(progress=False) if d.source in pretraining_text.ENGLISH]
    return good, junk.real()


def texts_of(seed: int, held_out: bool, each: int) -> dict[str, list[str]]:
    """Return {kind of GOOD or of junk: texts} of one side."""
    rng, found = np.random.default_rng((seed, held_out)), defaultdict(list)
    good, real = sources()
    for document in good + real:
        if is_held_out(document, seed) == held_out:
            kind = document.source if document.source in junk.REAL else "reference"
            found[kind] += [piece.text for piece in junk.cut(document)]
    for kind in junk.REAL:
        found[kind] = [found[kind][i] for i in rng.permutation(len(found[kind]))[:each]]
    for kind in (*GENERATED, *(UNSEEN if held_out else ())):
        originals = rng.integers(len(found["reference"]), size=each)
        found[kind] = [made_up_pages.junk(kind, rng, found["reference"][i]) for i in originals]
    return dict(found) | {"everyday": everyday(each, seed, "held_out" if held_out else "train")}


def everyday(count: int, seed: int, split: str) -> list[str]:
    """Return generated everyday text, some messages to a text."""
    messages = [d.text.strip() for d in tasks.everyday_documents(count * EVERYDAY_MESSAGES, seed, split)]
    return ["\n\n".join(messages[i::count]) for i in range(count)]


def trained(texts: dict, steps: int, without: str = "") -> quality.Classifier:
    """Return the classifier of good texts against junk, one kind left out."""
    used = [(text, int(kind in GOOD)) for kind in (*GOOD, *JUNK) if kind != without for text in texts.get(kind, [])]
    return quality.train(*zip(*used, strict=True), steps=steps)


def judged(classifier, texts: dict, kinds=(*GOOD, *JUNK)) -> dict:
    """Return accuracy, AUC and the share of each kind on the right side of the threshold, on held-out texts."""
    scores = {kind: classifier.scores(texts[kind]) for kind in kinds if texts.get(kind)}
    labels = np.concatenate([np.full(len(s), int(kind in GOOD)) for kind, s in scores.items()])
    together = np.concatenate(list(scores.values()))
    return {
        "accuracy": float(np.mean((together >= THRESHOLD) == labels)),
        "auc": quality.area(together, labels),
        "right": {kind: float(np.mean((s >= THRESHOLD) == (kind in GOOD))) for kind, s in scores.items()},
        "texts": {kind: len(s) for kind, s in scores.items()},
    }


def full_run(seed: int, each: int, steps: int, asset: Path) -> dict:
    """Return how the classifier of all kinds does, and its scores; write it to `asset`."""
    held_out = texts_of(seed, True, each)
    quality.save(trained(texts_of(seed, False, each), steps), asset)
    classifier = quality.load(asset)  # as shipped: in 16 bits
    scores = {kind: classifier.scores(texts).round(4).tolist() for kind, texts in held_out.items() if texts}
    extra = {kind: float(np.mean(np.array(scores[kind]) < THRESHOLD)) for kind in UNSEEN}
    return judged(classifier, held_out) | {"unseen_dropped": extra, "scores": scores}


def without_run(seed: int, kind: str, each: int, steps: int) -> dict:
    """Return the share of a kind, and of reference prose, that a classifier that never saw the kind judges rightly."""
    held_out = texts_of(seed, True, each)
    classifier = trained(texts_of(seed, False, each), steps, without=kind)
    found = {name: classifier.scores(held_out[name]) for name in (kind, "reference") if held_out.get(name)}
    return {"right": {name: float(np.mean((s >= THRESHOLD) == (name in GOOD))) for name, s in found.items()}}


def extraction_run(seed: int, count: int) -> dict:
    """Return the mean precision and recall of words by style of page, with and without main_content."""
    rng, found = np.random.default_rng((seed, 7)), {}
    stock = planting.Stock.of(sources()[0] + [corpora.Document("pass\n", "code", "none")], rng)
    for style in made_up_pages.STYLES:
        bodies = [stock.body(rng, "web") for _ in range(count)]
        made = [made_up_pages.page(rng, planting.title(rng), body, style) for body in bodies]
        for main in (True, False):
            pairs = [html.agreement(html.extract(page, main), body) for page, body in zip(made, bodies, strict=True)]
            precision, recall = np.mean(pairs, axis=0)
            found[f"{style}, {'main content' if main else 'all text'}"] = {
                "precision": round(float(precision), 4),
                "recall": round(float(recall), 4),
            }
    return found


def jobs_of(a) -> dict:
    """Return {key: function} of all runs."""
    jobs = {}
    for seed in range(a.first_seed, a.first_seed + a.seeds):
        jobs[f"full_{seed}"] = partial(full_run, seed, a.each, a.steps, a.folder / f"quality_{seed}.safetensors")
        jobs[f"extraction_{seed}"] = partial(extraction_run, seed, a.pages)
        for kind in (*JUNK, "everyday"):
            name = f"without_{kind.replace(' ', '_')}_{seed}"
            jobs[name] = partial(without_run, seed, kind, a.each, a.steps)
    return jobs


def verdict(numbers):
    """Return the accuracy on kinds that were seen, and which kinds are mostly passed when they were not."""
    runs, unseen = numbers["runs"], defaultdict(list)
    accuracy = evaluation.mean_interval([run["accuracy"] for key, run in runs.items() if key.startswith("full_")])
    for run in (run for key, run in runs.items() if key.startswith("without_")):
        kind = next(iter(run["right"]))
        unseen[kind].append(run["right"][kind])
    missed = [kind for kind, shares in unseen.items() if np.mean(shares) < 0.5]
    told = f"accuracy {accuracy[0]:.3f} [{accuracy[1]:.3f}, {accuracy[2]:.3f}] on kinds that were seen"
    return f"{told}; of {len(unseen)} kinds left out, mostly judged wrong: {', '.join(missed)}"


def main():
    """Run what has not been run yet, record, ship the classifier of the first seed."""
    a = arguments()
    runs = _record.finished(jobs_of(a), a.folder)
    for key, run in runs.items():
        print(key, json.dumps({name: value for name, value in run.items() if name != "scores"}))
    if not a.no_ship:
        seeds = list(range(a.first_seed, a.first_seed + a.seeds))
        for seed in seeds[1:]:
            del runs[f"full_{seed}"]["scores"]  # of one seed, for the figure
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "runs": runs}
        config = _record.config_of(a) | {"threshold": THRESHOLD, "features": quality.FEATURES}
        print(_record.save("curation_quality", "python -m experiments.curation_quality", config, seeds, numbers))
        quality.save(quality.load(a.folder / f"quality_{seeds[0]}.safetensors"), quality.SHIPPED)


if __name__ == "__main__":
    main()
