"""Windows, mixtures and long questions that a corpus gets when nothing is said."""

import pytest

from afm_ref import assets
from afm_ref.interop import hugging_face
from afm_ref.pretraining import stage_data


def test_long_questions_fill_a_row_of_any_window():
    """Documents are of 4000 tokens at most, however long the window is, and at least so many tokens in all."""
    tok = hugging_face.load_tokenizer(assets.FOLDER)
    for window, tokens in ((300, 1000), (9000, 100)):
        found = stage_data.token_counts({"long_qa": stage_data.long_questions(tok, window, tokens)}, tok)["long_qa"]
        assert found > window and found > 0.9 * tokens


def test_windows_shrink_to_what_the_corpus_fills():
    for code, short in ((1025, []), (1024, ["code"])):
        assert stage_data.choose_window({"text": 5000, "code": code}) == (128, short)
    assert [stage_data.choose_window({"text": n}) for n in (600, 129)] == [(64, []), (16, [])]
    with pytest.raises(ValueError, match=r"corpus too short.*129: give more text$"):
        stage_data.choose_window({"text": 128})


def test_default_mixtures_by_hand():
    """text : code = 300 : 100. Continued: 0.75 / 2 and 0.25 * 2, that is 3 : 4. Lengthening: 0.7 of it and 0.3."""
    found = stage_data.default_mixtures({"text": 300, "code": 100})
    assert found["core"] == pytest.approx({"text": 0.75, "code": 0.25})
    assert found["continued"] == pytest.approx({"text": 3 / 7, "code": 4 / 7})
    assert found["lengthening"] == pytest.approx({"text": 0.3, "code": 0.4, "long_qa": 0.3})
    given = stage_data.default_mixtures({"text": 1}, {"text": 1, "code": 3}, {"code": 2}, long_qa=False)
    assert given == {"core": {"text": 0.25, "code": 0.75}, "continued": {"code": 1}, "lengthening": {"code": 1}}
