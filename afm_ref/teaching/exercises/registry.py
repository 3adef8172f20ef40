"""What an exercise is, and the judge: `grade` returns a verdict, `attempt` prints it."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np


class Case(NamedTuple):
    """One question to the student's function: arguments, the answer, and known mistakes.

    A mistake may give the right answer in some case. judge: for a question with many right
    answers; it takes the answer as an array and returns what was expected and what was got,
    or an empty text, and `expected` is not read.
    """

    arguments: dict[str, Any]
    expected: Any
    mistakes: Mapping[str, Any]  # what went wrong -> the answer that it gives
    judge: Callable[[np.ndarray], str] | None = None


class Exercise(NamedTuple):
    """A task with its checker: `cases` is called when an answer is judged."""

    id: str  # chapter.number, as "1.2"
    title: str
    difficulty: Literal["easy", "medium", "hard"]
    minutes: int
    cases: Callable[[], Iterable[Case]]
    tolerance: float  # relative to the largest expected entry


class Verdict(NamedTuple):
    """What `grade` found."""

    status: Literal["not attempted", "wrong", "right"]
    message: str = ""


EXERCISES: dict[str, Exercise] = {}


def exercise(
    id: str, title: str, difficulty: str, minutes: int, inputs=None, tolerance: float = 1e-6
):
    """Register the decorated function, the checker, as a new exercise.

    With inputs, a tuple of arguments for each case, it takes what the student's function
    takes, and returns what stands in a Case after the arguments. Without, it gives the
    Cases: where the answer is known from how the arguments were made.
    """

    def register(checker):
        if id in EXERCISES:
            raise ValueError(f"exercise {id} is registered twice")

        def cases():
            names = inspect.signature(checker).parameters
            for values in inputs:
                arguments = dict(zip(names, values, strict=True))
                yield Case(arguments, *checker(**arguments))

        of = checker if inputs is None else cases
        EXERCISES[id] = Exercise(id, title, difficulty, minutes, of, tolerance)
        return checker

    return register


def arrays(*cases) -> list[tuple]:
    """Return the arguments of the cases, each list among them as an array."""
    return [
        tuple(np.array(x) if isinstance(x, list) else x for x in case) for case in cases
    ]


def bisect(below: Callable, low: float, high: float) -> float:
    """Return where `below`, true at low and false at high, changes."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def grade(id: str, answer: Callable) -> Verdict:
    """Return the verdict on a student's function; it shows the first wrong case."""
    if id not in EXERCISES:
        raise ValueError(f"there is no exercise {id!r}; there are {sorted(EXERCISES)}")
    task = EXERCISES[id]
    for case in task.cases():
        # an answer that writes into its input must not spoil the case
        arguments = copy.deepcopy(case.arguments)
        try:
            got = answer(**arguments)
        except NotImplementedError:
            return Verdict("not attempted")
        except Exception as error:
            return Verdict(
                "wrong", f"{_call(case)}\n    raised   {type(error).__name__}: {error}"
            )
        if got is None or got is ...:
            return Verdict("not attempted")
        if complaint := _complaint(got, case, task.tolerance):
            return Verdict("wrong", f"{_call(case)}\n{complaint}")
    return Verdict("right")


def attempt(id: str, answer: Callable) -> None:
    """Print the verdict in one line, or show the first case that is wrong."""
    verdict = grade(id, answer)
    task = EXERCISES[id]
    label = f"Exercise {id}, {task.title} ({task.difficulty}, {task.minutes} min)"
    if verdict.status == "right":
        print(f"✓ {label}: right")
    elif verdict.status == "not attempted":
        print(f"○ {label}: not attempted")
    else:
        print(f"✗ {label}: not yet\n    {verdict.message}")


def _complaint(got, case, tolerance):
    """Return what is wrong with this answer, or an empty text."""
    try:
        got = np.asarray(got, np.float64)
    except (TypeError, ValueError):
        return f"    returned {type(got).__name__}, where numbers are expected"
    expected = np.asarray(case.expected, np.float64)
    if case.judge is not None:
        numbers = case.judge(got)
    elif _close(got, expected, tolerance):
        numbers = ""
    else:
        numbers = f"    expected {_short(expected)}\n    got      {_short(got)}"
    if not numbers:
        return ""
    for why, wrong in case.mistakes.items():
        if _close(got, np.asarray(wrong, np.float64), tolerance):
            return f"{numbers}\n    hint     {why}"
    if case.judge is None and got.shape != expected.shape:
        return f"    expected an array of shape {expected.shape}\n    got      one of shape {got.shape}"
    return numbers


def _close(a, b, tolerance):
    scale = max(float(np.max(np.abs(b), initial=0.0)), 1e-12)
    # NaN is never close
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance * scale))


def _call(case):
    return "input    " + ", ".join(
        f"{name}={_short(value)}" for name, value in case.arguments.items()
    )


def _short(value):
    """Return the value on one line: large arrays by shape and first entries."""
    if not isinstance(value, np.ndarray):
        return f"{value:.6g}" if isinstance(value, float) else repr(value)
    if value.ndim == 0:
        return f"{float(value):.6g}"
    flat = [f"{x:.4g}" for x in value.ravel()[:6]]
    more = ", ..." if value.size > 6 else ""
    return f"array of shape {value.shape}: [{', '.join(flat)}{more}]"
