"""The text of palettization and recovery."""

import numpy as np
import pytest

from afm_ref.data.packing import batch_of
from afm_ref.post_training.responses import written
from afm_ref.whole_road import text
from afm_ref.whole_road.bench import Bench
from tests.whole_road import small


def test_both_kinds_have_about_as_many_targets(monkeypatch):
    """With references for responses: they are as long as good ones. Within a factor of 2; equal rows would give 4."""
    with small.model():
        bench, (train, _) = Bench(small.SIZES), small.documents()
    monkeypatch.setattr(
        bench, "sample", lambda _, records, n, seed: [[written(bench.tok, r.reference)] for r in records]
    )
    rows = text.mixed_rows(bench, None, train, seed=0)
    batch = batch_of(rows, np.arange(len(rows.tokens)))
    said = {bench.tok.decode(bench.tok.encode(r.reference)) for r in bench.records(small.SIZES.conversations, seed=70)}
    of_text = rows.trained.mean(axis=1) > 0.9  # in conversations the prompts are no targets
    targets = [batch.weights[kind].sum() for kind in (of_text, ~of_text)]
    assert 0.5 < targets[0] / targets[1] < 2
    assert of_text.mean() == pytest.approx(text.TEXT_SHARE, abs=0.5 / len(of_text))
    found = "".join(bench.tok.decode(row[w > 0]) for row, w in zip(batch.targets[~of_text], batch.weights[~of_text]))
    assert all(reference in found for reference in said)
