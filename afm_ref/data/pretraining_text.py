"""The pre-training mixture: real English and code of the standard library, generated
everyday text and tasks.

Shares are of the mixture's bytes. The English part (topics and docstrings) is taken whole
and sets the size of the rest: the code is subsampled, the generated parts are generated to
fit.
"""

import numpy as np

from afm_ref.data import corpora, overlap, tasks

WEIGHTS = {"english": 0.45, "code": 0.25, "everyday": 0.20, "tasks": 0.10}
ENGLISH = ("topics", "docstrings")
GENERATED = {"everyday": tasks.everyday_documents, "tasks": tasks.task_documents}
HELD_OUT_GENERATED = 300  # documents of each generated part
CODE_PIECE_CHARS = 8000


def pretraining_documents(seed: int = 0, weights=None, progress: bool = True):
    """Return (training documents in random order, held-out documents), without a run of 13
    words in both.

    `weights` are the shares of english, code, everyday and tasks, by default WEIGHTS; a
    share of 0 leaves a part out, english excepted. Real documents are split by module or
    topic, generated ones by seed and by pairs of content words.

    Source: TR24 section 3.1 mixes web, licensed, code and math data; its weights are not
        stated, these are ours [ours].
    Test: tests/data/test_pretraining_text.py::test_shares_are_as_stated,
        tests/data/test_pretraining_text.py::test_mixture_shares_no_13_gram
    """
    weights = _checked(WEIGHTS if weights is None else weights)
    real, held_out = _sides(corpora.embedded(progress=progress))
    for part, make in GENERATED.items():
        if weights[part]:
            held_out += make(HELD_OUT_GENERATED, seed, "held_out")
    real = overlap.remove_shared(real, held_out)
    rng = np.random.default_rng((seed, 1))
    train = [document for document in real if document.source in ENGLISH]
    per_share = size_bytes(train) / weights["english"]
    code = [piece for d in real if d.source == "code" for piece in pieces(d)]
    train += _up_to(shuffled(rng, code), per_share * weights["code"])
    for part, make in GENERATED.items():
        train += _generated(make, seed, per_share * weights[part], held_out)
    return shuffled(rng, train), held_out


def folder_documents(path, seed: int = 0):
    """Return (training documents, held-out documents) of a folder of .txt and .md files,
    split by file.

    If the hash of their names holds out no file, or every file, the last one in order is
    held out instead.
    """
    return split_documents(corpora.read_folder(path), path, seed)


def split_documents(documents, path, seed: int = 0):
    """Return (training documents in random order, held-out documents), without a run of 13
    words in both.

    By the hash of each name, as `folder_documents`. Raises ValueError, naming path, for too
    few documents or repeats.
    """
    if len(documents) < 2:
        raise ValueError(
            f"{path} holds one document only; give at least two files, one of them is held out"
        )
    train, held_out = _sides(documents)
    if not (train and held_out):
        train, held_out = documents[:-1], documents[-1:]
    train = overlap.remove_shared(train, held_out)
    if not train:
        raise ValueError(f"no training text left: the files of {path} repeat each other")
    return shuffled(np.random.default_rng((seed, 1)), train), held_out


def size_bytes(documents) -> int:
    """Return the UTF-8 bytes of all texts."""
    return sum(len(document.text.encode()) for document in documents)


def shuffled(rng, documents) -> list:
    """Return the documents in a random order."""
    return [documents[i] for i in rng.permutation(len(documents))]


def pieces(document) -> list:
    """Return a long document cut at blank lines into pieces of about CODE_PIECE_CHARS, so
    that a sample has variety.
    """
    found, start = [], 0
    while start < len(document.text):
        cut = document.text.find("\n\n", start + CODE_PIECE_CHARS)
        end = len(document.text) if cut < 0 else cut + 1
        text = document.text[start:end].strip("\n") + "\n"
        found.append(document._replace(text=text, name=f"{document.name}@{start}"))
        start = end
    return found


def _sides(documents):
    """Return (documents to train on, held-out ones), by the hash of their names."""
    held_out = [document for document in documents if corpora.is_held_out(document)]
    return [d for d in documents if not corpora.is_held_out(d)], held_out


def _checked(weights):
    if (
        set(weights) != set(WEIGHTS)
        or min(weights.values()) < 0
        or not weights["english"] > 0
    ):
        raise ValueError(
            f"weights need a share >= 0 for each of {', '.join(WEIGHTS)} (english > 0), got {weights}"
        )
    total = sum(weights.values())
    return {part: share / total for part, share in weights.items()}


def _up_to(documents, limit_bytes):
    """Return documents from the front until they hold limit_bytes."""
    sizes = np.cumsum([len(document.text.encode()) for document in documents])
    return documents[: int(np.searchsorted(sizes, limit_bytes))]


def _generated(make, seed, limit_bytes, held_out):
    """Return generated training documents of limit_bytes, none of which shares a run of 13
    words with held_out.
    """
    if limit_bytes <= 0:
        return []
    sample = size_bytes(make(100, seed))
    documents = make(int(1.1 * 100 * limit_bytes / sample) + 100, seed)
    clean = overlap.remove_shared(documents, held_out)
    return _up_to([d for d in clean if "#" not in d.name], limit_bytes)
