"""Pipeline schedules as timelines: who computes which microbatch when, and who waits."""

from itertools import accumulate
from typing import Literal, NamedTuple


class Job(NamedTuple):
    """One microbatch going forward or backward through one stage."""

    kind: Literal["forward", "backward"]
    stage: int
    microbatch: int
    start_s: float
    end_s: float


class Timeline(NamedTuple):
    """All jobs of one training step on p stages (devices) with m microbatches."""

    name: str
    n_stages: int
    jobs: tuple[Job, ...]

    @property
    def end_s(self) -> float:
        """Return when the last job ends."""
        return max(job.end_s for job in self.jobs)

    @property
    def bubble_fraction(self) -> float:
        """Return the share of the devices' time in which they wait.

            1 - busy / (p end)  =  (p - 1) / (m + p - 1)     for GPipe and 1F1B

        Source: Huang et al. 2019 (GPipe); Narayanan et al. 2021 section 2.2 [standard].
        Test: tests/parallelism/test_simulator.py::test_bubble_is_the_closed_form
        """
        busy = sum(job.end_s - job.start_s for job in self.jobs)
        return 1 - busy / (self.n_stages * self.end_s)

    def peak_live(self, stage: int) -> int:
        """Return the most microbatches whose activations the stage holds at once.

        An activation lives from the start of its forward to the end of its backward:

            m for GPipe,   min(p - stage, m) for 1F1B

        Source: Narayanan et al. 2021, Megatron-LM section 2.2 [standard].
        Test: tests/parallelism/test_simulator.py::test_live_activations_are_the_closed_forms
        """
        mine = [job for job in self.jobs if job.stage == stage]  # one after the other
        return max(accumulate(1 if job.kind == "forward" else -1 for job in mine))


def gpipe(
    n_stages: int, n_microbatches: int, forward_s: float = 1.0, backward_s: float = 2.0
) -> Timeline:
    """Return GPipe's timeline: all microbatches forward, then all backward, last first.

    Source: Huang et al. 2019, GPipe [standard].
    Test: tests/parallelism/test_simulator.py::test_gpipe_by_hand
    """

    def order(stage):
        forward = [("forward", stage, i) for i in range(n_microbatches)]
        return forward + [("backward", stage, i) for _, _, i in reversed(forward)]

    return _timeline("GPipe", n_stages, n_microbatches, forward_s, backward_s, order)


def one_f_one_b(
    n_stages: int, n_microbatches: int, forward_s: float = 1.0, backward_s: float = 2.0
) -> Timeline:
    """Return the 1F1B timeline: after a warm-up, one forward and one backward in turn.

    Stage s begins with min(p - s - 1, m) forwards.

    Source: Narayanan et al. 2021, Megatron-LM section 2.2 (PipeDream-Flush) [standard].
    Test: tests/parallelism/test_simulator.py::test_one_f_one_b_by_hand
    """

    def order(stage):
        warm_up = min(n_stages - stage - 1, n_microbatches)
        jobs = [("forward", stage, i) for i in range(warm_up)]
        for i in range(n_microbatches):
            if warm_up + i < n_microbatches:
                jobs.append(("forward", stage, warm_up + i))
            jobs.append(("backward", stage, i))
        return jobs

    return _timeline("1F1B", n_stages, n_microbatches, forward_s, backward_s, order)


def _needs(job, n_stages):
    """Return the job (kind, stage, microbatch) that must end before this one, if any."""
    kind, stage, i = job
    if kind == "forward":
        return ("forward", stage - 1, i) if stage else None
    return ("backward", stage + 1, i) if stage < n_stages - 1 else ("forward", stage, i)


def _timeline(name, n_stages, n_microbatches, forward_s, backward_s, order):
    """Return the timeline of jobs in the given order, each as early as its input allows."""
    if min(n_stages, n_microbatches) < 1:
        raise ValueError(
            f"n_stages and n_microbatches must be at least 1, got {n_stages} and {n_microbatches}: a pipeline needs "
            "stages and work for them"
        )
    if forward_s <= 0 or backward_s <= 0:
        raise ValueError(
            f"forward_s and backward_s must be positive, got {forward_s} and {backward_s}"
        )
    seconds = {"forward": forward_s, "backward": backward_s}
    queues = [order(stage) for stage in range(n_stages)]
    free, done, jobs = [0.0] * n_stages, {None: 0.0}, []
    while any(queues):
        for stage, queue in enumerate(queues):
            while queue and (need := _needs(queue[0], n_stages)) in done:
                job = queue.pop(0)
                start = max(free[stage], done[need])
                free[stage] = done[job] = start + seconds[job[0]]
                jobs.append(Job(*job, start, free[stage]))
    jobs.sort(key=lambda job: (job.stage, job.start_s))
    return Timeline(name, n_stages, tuple(jobs))
