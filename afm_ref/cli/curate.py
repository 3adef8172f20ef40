"""python -m afm_ref curate."""

from functools import partial
from pathlib import Path

from ..curation import near_duplicates
from ..curation.recipe import Recipe
from ..curation.run import curate
from ..disk import atomic, targets
from . import options

EPILOG = """\
examples
  python -m afm_ref curate my_pages                      shards, a report and figures in runs/curated
  python -m afm_ref curate my_pages --benchmarks my_tests.jsonl --processes 2
  python -m afm_ref curate my_pages --out runs/loose --threshold 0.9 --quality 0
  python -m afm_ref curate meine_seiten --language any

reads .html .htm .txt .md, files of 14 programming languages, and .jsonl or .jsonl.gz with a "text" in each line
writes part-00000.jsonl.gz, ... (name, source and text in each line); dropped-00000.jsonl.gz, ... (name, step and reason
of what is left out); report.json, report.md and figures

Steps: the text of web pages; safety; personal data masked; near-duplicates removed; rules and a classifier of quality;
texts of the benchmarks left out. Ctrl-C ends; the same command goes on where it was, to the same bytes. A file that
cannot be read is counted and named in the report, and stops nothing.

Of prose English alone is kept: by stop words, lengths of words, and a classifier that has seen no other language. With
--language any these and the English list of profanity are left out. In scripts without spaces (Chinese, Japanese, Thai)
each letter is a word then, to the rules and near-duplicates; benchmark texts are found by their clauses alone."""


def add_arguments(parser):
    """Add the options of `curate`."""
    number, place = partial(options.number, parser), partial(options.place, parser)
    s = Recipe()
    parser.add_argument("folder", type=Path, help="where the pages are; subfolders too")
    place("--out", "runs/curated", "new, empty, or of the run to go on with")
    place("--benchmarks", None, "a folder, a .jsonl with \"text\", or a .txt of one text a line: documents that share "
          f"{s.shortest_run} to {s.longest_run} words in a row are left out (default: none)", "PATH")  # fmt: skip
    number("--common-usage", s.common_usage, "unless so many documents have these words")
    number("--processes", 1, "how many clean the pages")
    number(
        "--memory-mb",
        s.index_bytes / 1e6,
        "to look for the near-duplicates' keys in; with less it takes longer",
    )
    number("--chunk-mb", s.chunk_bytes / 1e6, "of pages at a time; a kill loses as much")
    number(
        "--threshold",
        s.threshold,
        "Jaccard similarity of near-duplicates, 0 to 1; bands and rows follow",
    )
    number(
        "--quality",
        s.quality,
        "least P(good) of the classifier, 0 for no classifier",
    )
    options.language(parser)
    parser.add_argument(
        "--whole-pages",
        action="store_true",
        help="keep navigation and footers of web pages",
    )


def run(args):
    """Make training text of a folder of pages."""
    recipe = recipe_of(args)
    targets.check_folder(args.out, "--out")
    with options.resumable(args.out):
        report = curate(args.folder, args.out, recipe, args.processes)
    _write(report, recipe, args.out)
    print(report.table())
    print(
        f"shards, report.md and figures in {args.out}"
        if report.steps
        else f"report.md in {args.out}"
    )


def recipe_of(args):
    """Return the recipe of the command line."""
    bands, rows = near_duplicates.choose_bands(args.threshold, Recipe.permutations, 0.9)
    return Recipe(
        main_content=not args.whole_pages, threshold=args.threshold, quality=args.quality, benchmarks=args.benchmarks,
        language=args.language, common_usage=args.common_usage, chunk_bytes=_bytes("chunk-mb", args.chunk_mb),
        index_bytes=_bytes("memory-mb", args.memory_mb), bands=bands, rows=rows,
    )  # fmt: skip


def _bytes(name, megabytes):
    if not 0 <= megabytes < 1e9:
        raise ValueError(f"--{name} is {megabytes}: give megabytes from 0")
    return int(megabytes * 1e6)


def _write(report, recipe, out):
    """Write report.md and the figures that it shows: none if nothing could be read."""
    from ..teaching import figures  # imports matplotlib
    from ..teaching.chapters import data as chapter

    lines = ["# What was curated", "", "```text", report.table(), "```"]
    drawn = chapter.of_report(report, recipe) if report.steps else {}
    for name, (fig, alt) in drawn.items():
        atomic.write(out / f"{name}.png", figures.png(fig))
        lines += ["", f"![{alt}]({name}.png)"]
    atomic.write(out / "report.md", "\n".join(lines) + "\n")
