"""The latent utility, by hand and at its ends."""

import numpy as np
import pytest

from afm_ref.data import tasks
from afm_ref.data.tasks import Record
from afm_ref.post_training.responses import Response, sampled, written
from afm_ref.post_training.utility import GRADES, WEIGHTS, qualities, utility
from tests.post_training.models import tokenizer

TOK = tokenizer()


def test_qualities_by_hand():
    fields = {"facts": ["Leo", "school play", "Friday"]}
    prompt = "Summarise:\nLeo: the school play is on Friday"
    record = Record("summarise", prompt, "Leo plans the school play on Friday.", "train", fields)
    cut = sampled(TOK, TOK.encode("Leo plans plans the school play on Monday at the gym."))
    # facts: 2 of 3, 11 words of an allowance of 1.2 * 7; claims: Leo, school play hold, Monday, gym do not
    want = (2 / 3 * 8.4 / 11, 7 / 11, 2 / 4, 1 / 3)
    assert tuple(qualities(record, cut).values()) == pytest.approx(want)
    assert tuple(qualities(record, cut)) == GRADES == tuple(WEIGHTS)
    assert utility(record, cut) == pytest.approx(np.dot((0.6, 0.15, 0.15, 0.1), want))


@pytest.mark.parametrize("task", tasks.TASKS)
def test_references_have_the_highest_utility(task):
    for record in tasks.records(task, 40):
        best = written(TOK, record.reference)
        assert utility(record, best) == pytest.approx(1)
        worse = (
            best._replace(text=best.text + " Anna is at the airport at 3:45"),
            best._replace(tokens=best.tokens[:-1]),
        )
        assert all(utility(record, response) < 0.99 for response in worse)
        assert utility(record, written(TOK, "")) == utility(record, Response("", ())) == 0


def test_a_wrong_sum_is_not_true():
    record = Record("sums", "3 + 4 =", "7", "train", {})
    assert qualities(record, written(TOK, "3"))["truthfulness"] == 0  # though a 3 stands in the prompt
