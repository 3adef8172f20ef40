"""The coordinate check: what theory says of how far a step moves a narrow and a wide model."""

import numpy as np
import pytest

from afm_ref import transformer
from afm_ref.pretraining import mup_check

WIDTHS, SEEDS, RATE = (64, 256), (0, 1, 2), 1e-3


def test_standard_changes_grow_with_width_and_mup_simple_keeps_them_level():
    """In the first step every entry moves by the rate, whatever the width, in the direction of its gradient's sign.

    A sum of D entries in one direction grows like D, in random directions like sqrt(D): 1 and 1/2. Single seeds gave
    0.82 to 1.07 for the matrices without the scale, -0.04 to 0.22 with it. (The embedding, which keeps factor 1, also
    moves what the layers read: hence the little that is left.) The means of three seeds lie well inside these limits.
    The tied embedding's own part of the logits grows with the width in both.
    """

    def slopes(base_dim):
        found = [mup_check.coordinate_check(WIDTHS, 1, RATE, base_dim, seed) for seed in SEEDS]
        return {part: np.mean([mup_check.growth(WIDTHS, f[part][:, 0]) for f in found]) for part in mup_check.PARTS}

    standard, mup_simple = slopes(None), slopes(64)
    for part in ("attention out", "ffn out"):
        assert 0.75 < standard[part] < 1.25
        assert -0.15 < mup_simple[part] < 0.35
        assert standard[part] - mup_simple[part] == pytest.approx(0.8, abs=0.25)
    assert standard["logits"] > 1 and 0.2 < mup_simple["logits"] < 0.7


def test_scale_and_rate_meet_only_as_a_product_in_the_matrices():
    """At the base width and below it the factor is 1: both parametrisations are the same model."""
    one, other = (mup_check.coordinate_check(WIDTHS, 1, RATE, base_dim) for base_dim in (None, 256))
    for part in mup_check.PARTS:
        np.testing.assert_array_equal(one[part], other[part])


def test_outputs_are_those_of_the_forward_pass():
    """All parts add up, with the embedding, to what the final norm reads; and the logits are forward's."""
    cfg = mup_check.width_config(32, n_layers=2)
    params = transformer.init(cfg, 0)
    tokens = np.arange(10).reshape(2, 5)
    found = mup_check.part_outputs(params, tokens, cfg)
    stream = params.embed[tokens] + sum(found["attention out"]) + sum(found["ffn out"])
    normed = stream / np.sqrt((stream**2).mean(-1, keepdims=True) + cfg.norm_eps)
    np.testing.assert_allclose(found["logits"][0], normed @ params.embed.T, rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_array_equal(found["logits"][0], transformer.forward(params, tokens, cfg))


def test_growth_of_a_power_is_its_exponent():
    assert mup_check.growth((32, 64, 256), 3 * np.array([32, 64, 256]) ** 0.7) == pytest.approx(0.7, rel=1e-12)
    for widths, message in (((64,), "at least two widths"), ((64, 40), r"\[40\] are not whole heads")):
        with pytest.raises(ValueError, match=message):
            mup_check.coordinate_check(widths, 1, RATE)


def test_the_best_rate_of_a_parabola_is_its_vertex():
    rates = 2.0 ** np.arange(-8, -2)
    for vertex in (-6.3, -5.0, -4.6):
        losses = 5 + 0.1 * (np.log2(rates) - vertex) ** 2
        assert np.log2(mup_check.best_rate(rates, losses)) == pytest.approx(vertex, abs=1e-9)
    with pytest.raises(ValueError, match="lies at an end"):
        mup_check.best_rate(rates, [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_run_that_diverged_is_never_the_best(bad):
    """Neither as a neighbour, which leaves no parabola, nor further away, where it changes nothing."""
    rates = (0.1, 0.2, 0.4, 0.8, 1.6)
    assert mup_check.best_rate(rates, [4, 3, bad, bad, bad]) == 0.2
    assert mup_check.best_rate(rates, [5, 4, 3, 4, bad]) == pytest.approx(0.4)
    for row, losses, message in (
        (rates, [bad] * 5, "every run diverged"),
        (rates, [bad] * 4 + [3], "lies at an end"),
        ((0.1, 0.2, 0.3), (3, 2, 3), "rise by one factor"),
    ):
        with pytest.raises(ValueError, match=message):
            mup_check.best_rate(row, losses)
