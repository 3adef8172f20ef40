"""STUB (helper A1). A generated messy crawl with truth.jsonl."""


def write(folder, megabytes=1.0, seed=0):
    """Write pages under folder (pages/00000/*.html|txt|py|jsonl), truth.jsonl and benchmarks.txt (one text a line).

    truth.jsonl: {"name", "planted": "clean"|"near"|"exact"|"junk"|"pii"|"benchmark"|"empty", "original", "share", ...}
    """
    raise NotImplementedError
