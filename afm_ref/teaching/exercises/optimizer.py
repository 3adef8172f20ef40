"""Exercises of chapter 3: the loop, AdamW's step, what a decay leaves, several tokens, a spike."""

import math

import numpy as np

from .registry import Case, exercise

B1, B2, EPS = 0.9, 0.999, 1e-8


# (first weight, batches of pairs (x, right answer), rate)
TRAININGS = (
    (1.0, [[(2.0, 6.0)]], 0.1),
    (0.5, [[(2.0, 6.0), (1.0, 2.5)], [(-1.0, -3.0), (3.0, 8.0)], [(0.5, 2.0)]], 0.1),
    (-2.0, [[(1.0, 1.0), (2.0, 0.0), (-1.0, 0.5)], [(1.5, 4.0), (0.5, 1.0)]], 0.2),
)


@exercise("3.1", "the loop", "easy", 10, TRAININGS)
def train_one(w, batches, rate):
    """Train with the mean of the gradients, and again for each way to get it wrong."""

    def trained(add=np.mean, rate=rate, late=False, chain=True):
        weights, found = [w], []
        for batch in batches:
            x, y = np.array(batch).T
            error = weights[-1] * x - y
            weights.append(weights[-1] - rate * add(error * x if chain else error))
            found.append(np.mean((weights[-1 if late else -2] * x - y) ** 2) / 2)
        return np.array([*found, weights[-1]])

    return trained(), {
        "the loss is a MEAN over the batch, and so is its gradient": trained(np.sum),
        "against the gradient: subtract it": trained(rate=-rate),
        "the loss of a batch is taken before its step": trained(late=True),
        "the gradient is (w x - y) times x": trained(chain=False),
    }


@exercise("3.2", "AdamW's step", "medium", 15)
def adamw_step():
    """Go through the block weight by weight, and again for each way to get it wrong."""
    rng = np.random.default_rng((2, 3))
    for n, step, size in ((1, 1, 0.5), (3, 2, 0.01), (4, 7, 3.0)):
        w, mean_g = rng.standard_normal((2, n))
        square = size**2 * rng.random(n) * (step > 1)
        mean_g = 0.3 * size * mean_g * (step > 1)
        g = size * rng.standard_normal(n)
        given = dict(
            w=w, g=g, square=square, mean_g=mean_g, step=step, rate=0.1, decay=0.02
        )
        wrong = {
            "AdamW multiplies the decay by the learning rate": "plain decay",
            "the mean of squares starts at 0: divide it by 1 - 0.999^step": "raw square",
            "AdamW corrects the momentum as well: divide it by 1 - 0.9^step": "raw mean",
            "Adam's momentum runs over the gradient; this is Apple's order": "of u",
            "the memories differ: 0.9 for the momentum, 0.999 for the squares": "one b",
        }
        mistakes = {why: _adamw(**given, wrong=name) for why, name in wrong.items()}
        yield Case(given, _adamw(**given), mistakes)


def _adamw(w, g, square, mean_g, step, rate, decay, wrong=""):
    """Return the rows new w, square, mean_g; `wrong` names a mistake."""
    rows, b2 = [], B1 if wrong == "one b" else B2
    for w_i, g_i, v, m in zip(w, g, square, mean_g):
        v = b2 * v + (1 - b2) * g_i * g_i
        size = math.sqrt(v if wrong == "raw square" else v / (1 - b2**step)) + EPS
        m = B1 * m + (1 - B1) * (g_i / size if wrong == "of u" else g_i)
        u = m if wrong == "raw mean" else m / (1 - B1**step)
        u = u if wrong == "of u" else u / size
        shrink = decay if wrong == "plain decay" else rate * decay
        rows.append((w_i - rate * u - shrink * w_i, v, m))
    return np.array(rows).T


# (warm-up, steps, end, decay)
SCHEDULES = ((0, 10, 0.0, 0.1), (5, 100, 0.005, 0.01), (50, 1000, 0.1, 3.16e-4))


@exercise("3.3", "what is left of the start", "medium", 10, SCHEDULES)
def share_left(warm, end, final, decay):
    """Shrink a weight of 1 step by step, all steps at once."""
    step = np.arange(1, end + 1.0)
    down = final + (1 - final) * np.cos(np.pi * (step - warm) / (end - warm) / 2) ** 2
    f = np.where(step < warm, step / max(warm, 1), down)
    return np.prod(1 - f * decay), {
        "the schedule scales the decay too": (1 - decay) ** end,
        "multiply the factors of all steps; this adds the decays up": 1 - np.sum(f * decay),
        "that is the share that is lost": 1 - np.prod(1 - f * decay),
        "steps count from 1: the last one is `end`": np.prod(1 - f[:-1] * decay),
    }


def _tokens():
    """Return (inputs, slopes, rate) of each case."""
    for n, D in ((1, 4), (2, 8), (5, 16)):
        rng = np.random.default_rng((n, D))
        yield rng.standard_normal((n, D)), rng.standard_normal(n), 0.01


@exercise("3.4", "several tokens", "medium", 15, list(_tokens()))
def moved(inputs, slopes, rate):
    """Move one weight after the other, and add up what each does to each token."""
    n, D = inputs.shape
    change, alone, unsigned = np.zeros((3, n))
    for j in range(D):
        g = sum(slopes[i] * inputs[i, j] for i in range(n))
        change -= rate * math.copysign(1.0, g) * inputs[:, j]
        alone -= rate * np.sign(slopes * inputs[:, j]) * inputs[:, j]
        unsigned -= rate * g * inputs[:, j]
    return change, {
        "downhill: the update is subtracted": -change,
        "one matrix serves all tokens: sum the gradients first, then take the sign": alone,
        "the first update is the SIGN of the gradient": unsigned,
    }


# (memory, times)
SPIKES = ((0.95, 1000.0), (0.9, 10.0), (0.99, 100.0), (0.5, 30.0))


@exercise("3.5", "how long a spike is remembered", "medium", 10, SPIKES)
def steps_to_forget(memory, times):
    """Let it fade step by step."""

    def until(square, steps=0):
        while square > 2:
            square, steps = memory * square + (1 - memory), steps + 1
        return steps

    after = memory + (1 - memory) * times**2
    expected = until(after)
    return expected, {
        "the mean is of SQUARES": until(memory + (1 - memory) * times),
        "the batch enters with the share 1 - memory only": until(times**2),
        "round up: one step earlier it is still above 2": expected - 1,
        "steps AFTER the broken one: do not count it": expected + 1,
    }
