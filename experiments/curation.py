"""Near-duplicates against their S-curve, and a crawl of 200 MB: the numbers of chapter 2 on curation.

    python -m experiments.curation                   # call it again to resume; about 5 CPU-minutes
    python -m experiments.curation --pairs 20 --unrelated 200 --megabytes 1 --folder runs/curation_smoke --no-ship

Question  do near-duplicates follow the S-curve of their Jaccard similarity, and what becomes of what is planted in a
          crawl?
Arms      400 pairs in each bin of similarity; a crawl of 200 MB with planted duplicates, junk, personal data and
          benchmark text

  pairs   texts of 300 words and copies of them with words replaced, so that the exact Jaccard similarity of their
          5-grams is anywhere from 0.3 to 1: how many are candidates, and how many are removed, by bins of it; and
          unrelated texts
  crawl   `wild.write` of so many megabytes into a temporary folder, curated by the command in two processes with
          less memory for the near-duplicates' keys than they take; what became of what was planted; the folder is
          removed
The machine may be shared: wall seconds are as they were, CPU seconds are of all processes.
"""

import argparse
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref.curation import minhash, near_duplicates, pages, shards
from afm_ref.curation.recipe import Recipe, through
from afm_ref.curation.report import Report
from afm_ref.curation.run import DUPLICATE
from afm_ref.data import corpora, overlap
from experiments.crawl import planting, wild
from tools.memory import measured

from . import _record

WORDS = 300
EDGES = np.round(np.arange(0.3, 1.001, 0.05), 2)  # of the bins; 1 is in the last
DECISIONS = ("candidates", "removed")
CUTS = (0, 0.5, 0.65, 0.75, 0.85, 0.95, 1.01)  # of the similarity of planted copies
COMPARED = 300  # removed web pages whose exact similarity to their original is computed


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--seed", type=int, default=0)
    add("--pairs", type=int, default=400, help="in each bin (default: %(default)s)")
    add("--unrelated", type=int, default=20_000)
    add("--megabytes", type=float, default=200)
    add("--memory-mb", type=float, default=4)
    add("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/curation"), help="finished parts (%(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def pieces(seed: int) -> list[str]:
    """Return texts of 300 words each from Python's own prose and code, in a random order."""
    words = [document.text.split() for document in corpora.embedded(progress=False)]
    texts = [" ".join(some[i : i + WORDS]) for some in words for i in range(0, len(some) - WORDS, WORDS)]
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]


def pairs(seed: int, in_each: int, unrelated: int) -> dict:
    """Return the measured and the expected shares of candidates and removed pairs, by bins of exact similarity."""
    s, rng, texts = Recipe(), np.random.default_rng(seed), pieces(seed)
    vocabulary = sorted({word for text in texts[:200] for word in text.split()})
    filled = {i: [] for i in range(len(EDGES) - 1)}
    number = 0
    while min(map(len, filled.values())) < in_each:
        wanted = rng.uniform(EDGES[0], 1)
        kept = (2 * wanted / (1 + wanted)) ** (1 / s.shingle)  # of the words: J = k^5 / (2 - k^5)
        text = texts[number % len(texts)]
        exact, *found = compared(text, planting.edit(rng, text, 1 - kept, vocabulary)[0], s)
        i = int(np.searchsorted(EDGES, exact, "right")) - 1
        i = min(i, len(EDGES) - 2)  # 1 itself
        if i >= 0 and len(filled[i]) < in_each:
            filled[i].append((exact, *found))
        number += 1
    others = rng.integers(len(texts), size=(unrelated, 2))
    signed = {i: minhash.signature(minhash.shingles(texts[i])) for i in set(others.ravel().tolist())}
    strangers = [decided(signed[a], signed[b], s) for a, b in others.tolist() if a != b]
    return {
        "bins": [binned(rows, s) for rows in filled.values()],
        "unrelated": {"pairs": len(strangers), "candidates": sum(c for c, _ in strangers),
                      "removed": sum(r for _, r in strangers)},
    }  # fmt: skip


def compared(a: str, b: str, s: Recipe) -> tuple[float, bool, bool]:
    """Return the exact similarity of two texts' sets of shingles; whether they are candidates, and removed."""
    hashes = [minhash.shingles(text, s.shingle) for text in (a, b)]
    one, two = (overlap.ngrams([corpora.Document(text, "text", "")], s.shingle) for text in (a, b))
    return len(one & two) / len(one | two), *decided(*(minhash.signature(h, s.permutations) for h in hashes), s)


def decided(a, b, s: Recipe) -> tuple[bool, bool]:
    """Return whether two signatures are candidates, and whether their sketches agree as well."""
    one, two = near_duplicates.entries(np.array([a, b]), s.bands, s.rows)
    candidate = bool((one["keys"] == two["keys"]).any())
    agree = np.count_nonzero(one["sketch"] == two["sketch"]) >= s.least_agreeing
    return candidate, bool(candidate and agree)


def binned(rows, s: Recipe) -> dict:
    """Return one bin: shares with their Wilson intervals, and what the closed forms expect of these similarities."""
    exact, candidates, removed = np.array(rows, float).T
    curve = near_duplicates.candidate_probability(exact, s.bands, s.rows)
    both = near_duplicates.removal_probability(exact, s.bands, s.rows, s.permutations, s.least_agreeing)
    return {
        "pairs": len(rows),
        "jaccard": float(exact.mean()),
        "candidates": wilson(candidates.sum(), len(rows)),
        "removed": wilson(removed.sum(), len(rows)),
        "expected_candidates": float(curve.mean()),
        "expected_removed": float(both.mean()),
    }


def wilson(successes: float, n: int, z: float = 1.96) -> list[float]:
    """Return a share and the ends of its Wilson interval (1927), 95% at z = 1.96."""
    p = successes / n
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [float(x) for x in (p, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))]


def crawl(seed: int, megabytes: float, memory_mb: float, processes: int) -> dict:
    """Return what the command did with a crawl of so many megabytes, what it took, and what it found."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary, "crawl"), Path(temporary, "out")
        wild.write(folder, megabytes, seed)
        command = [sys.executable, "-m", "afm_ref", "curate", folder / "pages", "--out", out, "--benchmarks",
                   folder / "benchmarks.jsonl", "--memory-mb", memory_mb, "--processes", processes]  # fmt: skip
        usage = measured(list(map(str, command)))
        if usage.returncode:
            raise RuntimeError(f"the command failed: {usage.output[-2000:]}")
        report, truth = Report.load(out / "report.json"), wild.read_truth(folder)
        shard_bytes = sum(path.stat().st_size for path in out.glob("part-*"))
        dropped = {
            row["name"]: row for path in sorted(out.glob("dropped-*")) for _, row in shards.read_gzip_lines(path)
        }
        return {
            "crawl_bytes": report.source["size_bytes"], "documents": len(truth), "wall_s": round(usage.wall_s, 1),
            "peak_bytes": usage.peak_bytes, "children_cpu_s": round(usage.cpu_s, 1), "shard_bytes": shard_bytes,
            "report": {name: value for name, value in vars(report).items() if name not in ("settings", "steps")},
            "steps": {name: vars(flow) for name, flow in report.steps.items()},
            "found": found(truth, dropped), "by_edit": by_edit(truth, dropped), "pii_planted": pii_planted(truth),
            "copies": copies(folder, truth, dropped), "removed_jaccard": removed_jaccard(folder, truth, dropped),
        }  # fmt: skip


def fate(row, dropped):
    """Return at which step a document of the truth was dropped, or "left"."""
    return dropped.get(row["name"].removeprefix("pages/"), {"step": "left"})["step"]


def found(truth, dropped) -> dict:
    """Return {planted: {step at which it was dropped, or "left": documents}}."""
    counts = Counter((row["planted"], fate(row, dropped)) for row in truth)
    table = {}
    for (planted, step), n in sorted(counts.items()):
        table.setdefault(planted, {})[step] = n
    return table


def by_edit(truth, dropped) -> dict:
    """Return {share of words edited: [near copies, of them removed as near-duplicates, dropped before]}."""
    table = {}
    for row in truth:
        if row["planted"] in ("near", "exact"):
            share = min((0.0, *wild.EDITS), key=lambda x: abs(x - row.get("edited", 0.0)))
            counts = table.setdefault(f"{share:g}", [0, 0, 0])
            step = fate(row, dropped)
            counts[0] += 1
            counts[1] += step == "near-duplicates"
            counts[2] += step in ("reading", "extraction", "safety")
    return dict(sorted(table.items()))


def pii_planted(truth) -> dict:
    """Return how many pieces of personal data were planted, by kind."""
    total = Counter()
    for row in truth:
        total.update(row.get("pii", {}))
    return dict(total)


def removed_jaccard(folder, truth, dropped) -> dict:
    """Return the exact similarities of some removed files that were not planted as copies, and of some that were."""
    planted = {row["name"].removeprefix("pages/") for row in truth if row["planted"] in ("near", "exact")}
    removed = [row for row in dropped.values() if row["reason"] == DUPLICATE]
    steps, table = Recipe().before(), {}
    for kind, rows in (("planted", [r for r in removed if r["name"] in planted]),
                       ("others", [r for r in removed if r["name"] not in planted])):  # fmt: skip
        files = [r for r in rows if "#" not in r["name"] + r["original"]][:COMPARED]
        values = [similarity(folder, row["name"], row["original"], steps) for row in files]
        table[kind] = {"removed": len(rows), "compared": len(values)} | (
            {"least": min(values), "median": float(np.median(values)), "below_0.75": sum(v < 0.75 for v in values),
             "below_0.6": sum(v < 0.6 for v in values)} if values else {}
        )  # fmt: skip
    return table


def copies(folder, truth, dropped, most=2000) -> list[dict]:
    """Return, by exact similarity to the original, how many planted copies were removed, and how many were expected.

    Of files whose original and itself came as far as the near-duplicates. A copy may also resemble another copy.
    """
    s, early, rows = Recipe(), ("reading", "extraction", "safety"), []
    for row in (row for row in truth if row["planted"] in ("near", "exact")):
        pair = [row[key].removeprefix("pages/") for key in ("name", "original")]
        steps = [fate({"name": name}, dropped) for name in pair]
        if len(rows) < most and not any("#" in name for name in pair) and not any(step in early for step in steps):
            rows.append((similarity(folder, *pair, s.before()), steps[0] == "near-duplicates"))
    exact, removed = np.array(rows).reshape(-1, 2).T
    expected = near_duplicates.removal_probability(exact, s.bands, s.rows, s.permutations, s.least_agreeing)
    table = []
    for low, high in zip(CUTS, CUTS[1:]):
        inside = (exact >= low) & (exact < high)
        row = {"from": low, "to": min(high, 1), "copies": int(inside.sum()), "removed": int(removed[inside].sum())}
        table.append(row | {"expected": float(expected[inside].sum())})
    return table


def similarity(folder, a, b, steps) -> float:
    """Return the exact similarity of two files of the crawl after the steps before the near-duplicates."""
    raws = (pages.Raw(name, (folder / "pages" / name).read_bytes()) for name in (a, b))
    texts = [through(steps, pages.parse(raw))[1].text for raw in raws]
    return round(minhash.jaccard(*map(minhash.shingles, texts)), 4)


def jobs(a) -> dict:
    """Return {key: function} of what the command line asks for."""
    return {
        "pairs": partial(pairs, a.seed, a.pairs, a.unrelated),
        "crawl": partial(crawl, a.seed, a.megabytes, a.memory_mb, a.processes),
    }


def verdict(numbers):
    """Return in how many bins the share removed agrees with the closed form, and what was left of the junk."""
    pairs, crawl = (numbers["runs"][name] for name in ("pairs", "crawl"))
    inside = [row["removed"][1] <= row["expected_removed"] <= row["removed"][2] for row in pairs["bins"]]
    junk = crawl["found"]["junk"]
    return (
        f"{sum(inside)} of {len(inside)} bins have the closed form in the 95% interval of what is removed; "
        f"of {sum(junk.values())} junk pages {junk['left']} are left"
    )


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    runs = _record.finished(jobs(a), a.folder)
    for row in runs["pairs"]["bins"]:
        shares = (f"{name} {row[name][0]:.3f} (expected {row[f'expected_{name}']:.3f})" for name in DECISIONS)
        print(f"J {row['jaccard']:.3f}: {', '.join(shares)}")
    print({name: runs["crawl"][name] for name in ("wall_s", "children_cpu_s", "peak_bytes", "found", "by_edit")})
    if not a.no_ship:
        minutes = (sum(run["cpu_s"] for run in runs.values()) + runs["crawl"]["children_cpu_s"]) / 60
        numbers = {"cpu_minutes": round(minutes, 1), "runs": runs}
        print(_record.save("curation", "python -m experiments.curation", _record.config_of(a), [a.seed], numbers))


if __name__ == "__main__":
    main()
