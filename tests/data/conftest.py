"""Small real text for the data room's tests: some topics and a few modules of the standard library."""

import pytest

from afm_ref.data import corpora, tokenizer

MODULES = ("json.decoder", "textwrap", "bisect", "heapq", "queue", "string", "shutil", "csv", "gettext", "fnmatch")


@pytest.fixture(scope="session")
def documents():
    """A quarter of a megabyte of real English and code."""
    found = corpora.topics()[:40]
    for name, path in corpora.modules():
        if name in MODULES:
            found += corpora.module_documents(name, path.read_text(encoding="utf-8"), set())
    return found


@pytest.fixture(scope="session")
def tok(documents):
    """A tokenizer of 800 tokens trained on them."""
    return tokenizer.train((document.text for document in documents), vocab_size=800)
