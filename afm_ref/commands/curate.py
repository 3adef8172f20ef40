"""python -m afm_ref curate."""

import sys
from pathlib import Path

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
    from ..data.curation.settings import Settings

    s = Settings()
    parser.add_argument("folder", type=Path, help="where the pages are; subfolders too")
    parser.add_argument("--out", type=Path, default=Path("runs/curated"), metavar="FOLDER",
                        help="new, empty, or of the run to go on with (default: %(default)s)")  # fmt: skip
    parser.add_argument("--benchmarks", type=Path, metavar="PATH",
                        help="a folder, a .jsonl with \"text\", or a .txt of one text a line: documents that share "
                        f"{s.shortest_run} to {s.longest_run} words in a row are left out (default: none)")  # fmt: skip
    parser.add_argument("--common-usage", type=int, default=s.common_usage, metavar="N",
                        help="unless so many documents have these words (default: %(default)s)")  # fmt: skip
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--memory-mb", type=float, default=s.index_bytes / 1e6, metavar="X",
                        help="of the near-duplicates' index, before disk (default: %(default).0f)")  # fmt: skip
    parser.add_argument("--chunk-mb", type=float, default=s.chunk_bytes / 1e6, metavar="X",
                        help="of pages at a time; a kill loses as much (default: %(default).1f)")  # fmt: skip
    parser.add_argument("--threshold", type=float, default=s.threshold, metavar="X",
                        help="Jaccard similarity of near-duplicates, 0 to 1; bands and rows follow "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--quality", type=float, default=s.quality, metavar="X",
                        help="least P(good) of the classifier, 0 for no classifier (default: %(default)s)")  # fmt: skip
    options.language(parser)
    parser.add_argument("--whole-pages", action="store_true", help="keep navigation and footers of web pages")


def run(args):
    """Make training text of a folder of pages: extract, mask, remove near-duplicates and junk, decontaminate."""
    from .. import targets
    from ..data.curation.pipeline import curate

    settings = settings_of(args)
    targets.check_folder(args.out, "--out")
    try:
        report = curate(args.folder, args.out, settings, args.processes)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on with what is in {args.out}", file=sys.stderr)
        raise
    _write(report, settings, args.out)
    print(report.table())
    print(f"shards, report.md and figures in {args.out}" if report.steps else f"report.md in {args.out}")


def settings_of(args):
    """Return the Settings of the command line."""
    from ..data.curation import banding
    from ..data.curation.settings import Settings

    defaults, shape = Settings(), {}
    if args.threshold != defaults.threshold:
        shape = dict(zip(("bands", "rows"), banding.choose(args.threshold, defaults.permutations, 0.9), strict=True))
    return Settings(
        main_content=not args.whole_pages, threshold=args.threshold, quality=args.quality, benchmarks=args.benchmarks,
        language=args.language,
        common_usage=args.common_usage, chunk_bytes=_bytes("chunk-mb", args.chunk_mb),
        index_bytes=_bytes("memory-mb", args.memory_mb), **shape,
    )  # fmt: skip


def _bytes(name, megabytes):
    if not 0 <= megabytes < 1e9:
        raise ValueError(f"--{name} is {megabytes}: give megabytes from 0")
    return int(megabytes * 1e6)


def _write(report, settings, out):
    """Write report.md and the figures that it shows: none if nothing could be read."""
    from .. import atomic
    from ..teaching import figures
    from ..teaching.chapters import data as chapter

    lines = ["# What was curated", "", "```text", report.table(), "```"]
    drawn = chapter.of_report(report, settings) if report.steps else {}
    for name, (fig, alt) in drawn.items():
        atomic.write(out / f"{name}.png", figures.png(fig))
        lines += ["", f"![{alt}]({name}.png)"]
    atomic.write(out / "report.md", "\n".join(lines) + "\n")
