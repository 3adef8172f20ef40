"""Chapter 2's checker of one step: its numbers are the package's, and mistakes are told."""

import jax
import numpy as np
import pytest

from afm_ref.pretraining.optimizer import block_update
from afm_ref.teaching.exercises import EXERCISES, grade

ID = "2.3"


def test_a_step_is_the_packages():
    """Rounding apart: the package adds 1e-30 to the squares."""
    with jax.enable_x64(True):
        for case in EXERCISES[ID].cases():
            a = case.arguments
            gathered = 1 - 0.95 ** a["t"]
            change, v, m = block_update(a["g"], a["v"], a["m"], a["w"], gathered, rate=a["rate"], decay=a["decay"])
            np.testing.assert_allclose(case.expected, [a["w"] + a["s"] * change, v, m], rtol=1e-10)


def step(w, g, v, m, t, s, rate, decay, over="update", clip=lambda u: u / max(1.0, np.sqrt(np.mean(u**2)))):
    v = 0.95 * v + 0.05 * g**2
    u = g / np.sqrt(v / (1 - 0.95**t))
    m = 0.95 * m + 0.05 * (clip(u) if over == "update" else g)
    moved = m if over == "update" else clip(m / np.sqrt(v / (1 - 0.95**t)))
    return np.stack([w - s * (rate * moved + decay * w), v, m])


def test_a_right_answer_passes():
    assert grade(ID, step).status == "right"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"over": "gradient"}, "runs over the normalised update"),
        ({"clip": lambda u: u}, "RMS may be 1 at most"),
        ({"clip": lambda u: u / max(1.0, np.linalg.norm(u))}, "not by its norm"),
    ],
)
def test_mistakes_are_told(change, hint):
    assert hint in grade(ID, lambda **given: step(**given, **change)).message


def test_a_decay_times_the_rate_is_told():
    def adamw(decay, rate, **given):
        return step(decay=decay * rate, rate=rate, **given)

    assert "not multiplied by the learning rate" in grade(ID, adamw).message
