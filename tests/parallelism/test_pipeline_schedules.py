"""Timelines: legal, by hand, and with the published bubble and memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.parallelism.simulator.pipeline_schedules import gpipe, one_f_one_b

SCHEDULES = [gpipe, one_f_one_b]
sizes = st.tuples(st.integers(1, 6), st.integers(1, 9))
times = st.sampled_from([(1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (0.5, 4.0)])


def starts(timeline, stage):
    return [(job.kind[0], job.microbatch, job.start_s) for job in timeline.jobs if job.stage == stage]


def test_gpipe_by_hand():
    timeline = gpipe(2, 2, forward_s=1, backward_s=2)
    assert starts(timeline, 0) == [("f", 0, 0), ("f", 1, 1), ("b", 1, 5), ("b", 0, 7)]
    assert starts(timeline, 1) == [("f", 0, 1), ("f", 1, 2), ("b", 1, 3), ("b", 0, 5)]
    assert timeline.end_s == 9 and timeline.bubble_fraction == pytest.approx(1 / 3)


def test_one_f_one_b_by_hand():
    timeline = one_f_one_b(2, 3, forward_s=1, backward_s=1)
    assert starts(timeline, 1) == [("f", 0, 1), ("b", 0, 2), ("f", 1, 3), ("b", 1, 4), ("f", 2, 5), ("b", 2, 6)]
    assert starts(timeline, 0) == [("f", 0, 0), ("f", 1, 1), ("b", 0, 3), ("f", 2, 4), ("b", 1, 5), ("b", 2, 7)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@settings(max_examples=30)
@given(sizes, times)
def test_bubble_is_the_closed_form(schedule, size, time):
    """And every job waits for those that it needs."""
    p, m = size
    timeline = schedule(p, m, *time)
    assert timeline.bubble_fraction == pytest.approx((p - 1) / (m + p - 1), abs=1e-12)
    assert timeline.end_s == pytest.approx((m + p - 1) * sum(time))
    jobs = {(job.kind, job.stage, job.microbatch): job for job in timeline.jobs}
    assert len(jobs) == len(timeline.jobs) == 2 * p * m
    paths = [[jobs["forward", s, i] for s in range(p)] + [jobs["backward", s, i] for s in reversed(range(p))]
             for i in range(m)]  # fmt: skip
    for one in paths + [[job for job in timeline.jobs if job.stage == s] for s in range(p)]:
        assert all(b.start_s >= a.end_s for a, b in zip(one, one[1:]))  # a device does one thing at a time


@settings(max_examples=30)
@given(sizes, times)
def test_live_activations_are_the_closed_forms(size, time):
    p, m = size
    all_first, in_turn = gpipe(p, m, *time), one_f_one_b(p, m, *time)
    for stage in range(p):
        assert all_first.peak_live(stage) == m
        assert in_turn.peak_live(stage) == min(p - stage, m)
