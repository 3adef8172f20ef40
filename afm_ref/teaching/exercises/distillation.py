"""Exercises of chapter 5: softness, a head that is cut, the best student, equal compute."""

import math

import numpy as np

from .registry import bisect, exercise

SCORES = [
    (np.round(np.random.default_rng((2, F)).normal(size=F), 2), k, eps)
    for F, k, eps in ((4, 2, 0.5), (6, 1, 1.0), (9, 5, 0.2), (12, 4, 0.1))
]
STEP = 1e-4  # of the finite difference


@exercise("5.1", "what softness does", "hard", 20, SCORES, tolerance=1e-4)
def by_softness(scores, k, eps):
    """Bisect the cut a little softer and a little harder, and take the difference."""

    def cut(eps):
        return bisect(
            lambda x: np.exp(np.minimum((scores - x) / eps, 0)).sum() > k,
            min(scores) - 60 * eps,
            max(scores) + 60 * eps,
        )

    def mask(eps):
        return np.exp(np.minimum((scores - cut(eps)) / eps, 0))

    slope = (mask(eps + STEP) - mask(eps - STEP)) / (2 * STEP)
    m = mask(eps)
    free = np.where(m < 1 - 1e-9, m, 0.0)
    plain = scores[free > 0].mean()
    return slope, {
        "the sign: a softer mask takes from the channels above the mean": -slope,
        "the cut moves with the softness, or the sum would not stay": free
        * (cut(eps) - scores)
        / eps**2,
        "the mean is over the unclipped channels alone": -free
        * (scores - (m * scores).sum() / m.sum())
        / eps**2,
        "weigh the mean of the scores by the mask": -free * (scores - plain) / eps**2,
        "the softness stands below the scores: its derivative has nu squared": slope * eps,
    }


HEADS = ((4, 2, 2, 0), (6, 2, 4, 1), (24, 8, 128, 3), (6, 3, 2, 1))


@exercise("5.2", "a head that is cut", "medium", 15, HEADS)
def rows_that_stay(n_heads, n_kv_heads, head_dim, cut):
    """Ask each row for its query head, and that for the key/value head it reads."""
    group = n_heads // n_kv_heads

    def rows(asks):
        return [row for row in range(n_heads * head_dim) if asks(row // head_dim)]

    expected = rows(lambda head: head // group != cut)
    return expected, {
        "these are the rows that go": rows(lambda head: head // group == cut),
        "all query heads of the group go, not one": rows(lambda head: head != cut),
        "query heads that are neighbours share a key/value head": rows(
            lambda head: head % n_kv_heads != cut
        ),
        "rows are asked, `head_dim` to a head": [
            head for head in range(n_heads) if head // group != cut
        ],
    }


TEXTS = (
    (np.array([0.5, 0.25, 0.25]), 1),
    (np.array([0.7, 0.1, 0.1, 0.1]), 0),
    (np.array([0.05, 0.9, 0.05]), 2),
)


@exercise("5.3", "what the best student pays", "medium", 15, TEXTS)
def extra_bits(p, teacher):
    """Add what each token costs above what it would with the text's own distribution."""
    best = [0.1 * x + 0.9 * (i == teacher) for i, x in enumerate(p)]
    extra = sum(x * math.log2(x / q) for x, q in zip(p, best))
    entropy = sum(x * math.log2(1 / x) for x in p)
    named = [0.9 if i == teacher else 0.1 * x for i, x in enumerate(p)]
    even = [0.9 if i == teacher else 0.1 / (len(p) - 1) for i in range(len(p))]
    mixed = sum(q * math.log2(1 / q) for q in best)
    return extra, {
        "bits are asked: log2, not ln": extra * math.log(2),
        "that is all it pays; subtract the text's own entropy": extra + entropy,
        "that is its mixed loss; ask what it pays for the TRUE tokens": mixed,
        "the teacher's token may be the true one: it has its part of the tenth too": sum(
            x * math.log2(x / q) for x, q in zip(p, named)
        ),
        "the tenth is shared as the text shares, not evenly": sum(
            x * math.log2(x / q) for x, q in zip(p, even)
        ),
    }


RUNS = (  # forward FLOPs of parent and student a step, steps of parent, masks and student
    (3.0, 1.0, 100, 0, 50, False),
    (3.0, 1.0, 100, 20, 50, False),
    (2.0, 1.5, 0, 0, 80, True),
    (1.9e9, 1e9, 2400, 150, 600, True),
)


@exercise("5.4", "steps of equal cost", "easy", 10, RUNS)
def equal_steps(parent, student, parent_steps, mask_steps, student_steps, taught):
    """Go through all the steps and add what each costs, a forward and two backward passes."""

    def cost(masks=mask_steps, reading=parent, of=3):
        total = sum(of * parent for _ in range(parent_steps + masks))
        return total + sum(of * student + taught * reading for _ in range(student_steps))

    return cost() / (3 * student), {
        "steps are asked: divide by what a step of the student costs": cost(),
        "a training step is a forward and a backward pass of twice its cost": cost(of=1)
        / student,
        "masks are learnt in the parent: those steps cost as much as its own": cost(0)
        / (3 * student),
        "the teacher only reads: it has no backward pass": cost(reading=3 * parent)
        / (3 * student),
        "the teacher reads in every step of the student": cost(reading=0) / (3 * student),
    }
