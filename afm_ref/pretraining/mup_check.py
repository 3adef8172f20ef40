"""The coordinate check: does one step move what the layers compute equally far in a narrow
model and in a wide one?
"""

from collections.abc import Sequence
from functools import cache

import jax
import numpy as np
import optax

from .. import losses, transformer
from ..config import AFMConfig
from ..containers import Tap, ungroup
from ..training.step import QUICK
from .mup import on_matrices
from .optimizer import afm_optimizer

PARTS = ("attention out", "ffn out", "logits")
BATCH_SIZE, SEQ_LEN = 2, 16


def part_outputs(params, tokens, cfg: AFMConfig) -> dict[str, list]:
    """Return {part: [output of each layer]} of one forward pass, outside jit: W_o's,
    W_down's, and the logits.
    """
    outputs = {part: [] for part in PARTS}

    def tap(w, part):
        return Tap(w, lambda x, y: outputs[part].append(y))

    tapped = tuple(
        layer._replace(
            wo=tap(layer.wo, "attention out"), w_down=tap(layer.w_down, "ffn out")
        )
        for layer in ungroup(params.layers)
    )
    outputs["logits"].append(
        transformer.forward(params._replace(layers=tapped), tokens, cfg)
    )
    return outputs


def width_config(
    d_model: int, n_layers: int = 1, vocab_size: int = 64, head_dim: int = 16
) -> AFMConfig:
    """Return a small model whose width is all that changes: more heads of the same size, an
    FFN three times as wide.
    """
    n_heads = d_model // head_dim
    return AFMConfig(d_model, n_layers, n_heads, n_heads, head_dim, 3 * d_model, vocab_size)


def coordinate_check(
    widths: Sequence[int],
    steps: int,
    learning_rate: float,
    base_dim: int | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return {part: [widths, steps]}: the RMS of how far each part's outputs have moved
    from the untrained model's.

        change(part, D, t) = rms over layers, tokens and channels of (y_t - y_0)

    Apple's optimizer trains on one batch of random tokens, the same at all widths and
    steps. base_dim None is the standard parametrisation: every matrix learns at the
    learning rate. With a base_dim the attention and FFN matrices learn at base_dim / D of
    it, capped at 1, as `mup_scales` has it. Models: `width_config`. Raises ValueError for
    fewer than two widths or a width that is not a number of whole heads.

    Source: the check is Yang et al.'s (muP, 2022, appendix D.1) [standard].
    Test: tests/pretraining/test_mup_check.py::test_standard_changes_grow_with_width_and_mup_simple_keeps_them_level
    """
    if len(set(widths)) < 2:
        raise ValueError(f"growth with width needs at least two widths, got {list(widths)}")
    if bad := [width for width in widths if width < 16 or width % 16]:
        raise ValueError(
            f"widths {bad} are not whole heads of 16 channels: give multiples of 16"
        )
    curves = [
        _changes(width_config(width), steps, learning_rate, base_dim, seed)
        for width in widths
    ]
    return {part: np.array([curve[part] for curve in curves]) for part in PARTS}


def growth(widths, changes) -> float:
    """Return the slope of log change against log width: 1 grows like the width, 0 stays
    level.

    Source: least squares on logarithms [standard].
    Test: tests/pretraining/test_mup_check.py::test_growth_of_a_power_is_its_exponent
    """
    return float(np.polyfit(np.log(widths), np.log(changes), 1)[0])


def best_rate(rates, losses_of_rates) -> float:
    """Return the rate of lowest loss: the minimum of the parabola in log rate through the
    best one and its neighbours.

        log2 best = log2 eta_i + (y_{i-1} - y_{i+1}) / (2 (y_{i-1} - 2 y_i + y_{i+1})) * (spacing)

    rates: rising by one factor throughout. A run that diverged, with a loss of None, NaN or
    inf, counts as infinitely bad; the parabola has no place for it, so the rate is eta_i
    itself when a neighbour diverged. Raises ValueError where all diverged, and where the
    best rate lies at an end of the row: the optimum may be anywhere beyond it.

    Source: successive parabolic interpolation [standard].
    Test: tests/pretraining/test_mup_check.py::test_the_best_rate_of_a_parabola_is_its_vertex,
        tests/pretraining/test_mup_check.py::test_a_run_that_diverged_is_never_the_best
    """
    x = np.log2(np.asarray(rates, np.float64))
    y = np.array([np.inf if loss is None else loss for loss in losses_of_rates], np.float64)
    rises = np.diff(x)
    if not 3 <= len(x) == len(y) or not (np.allclose(rises, rises[0]) and rises[0] > 0):
        raise ValueError(
            f"give at least three rates that rise by one factor, a loss each; got {list(rates)}"
        )
    y = np.where(np.isfinite(y), y, np.inf)  # argmin would choose a NaN
    if not np.isfinite(y).any():
        raise ValueError(f"every run diverged at {list(rates)}: try lower rates")
    i = int(np.argmin(y))
    if i in (0, len(y) - 1):
        raise ValueError(
            f"the best rate, {rates[i]:g}, lies at an end of {list(rates)}: try rates beyond it"
        )
    before, best, after = y[i - 1 : i + 2]
    bend = before - 2 * best + after
    off = 0.5 * (before - after) / bend if np.isfinite(bend) and bend > 0 else 0.0
    return float(2.0 ** (x[i] + off * (x[1] - x[0])))


def _changes(cfg, steps, learning_rate, base_dim, seed):
    """Return {part: [steps]} of one width."""
    rng, shape = np.random.default_rng((seed, 1)), (BATCH_SIZE, SEQ_LEN + 1)
    tokens = rng.integers(0, cfg.vocab_size, shape, np.int32)
    weights = np.ones((BATCH_SIZE, SEQ_LEN), np.float32)
    batch = losses.Batch(tokens[:, :-1], tokens[:, 1:], weights)
    rates = (learning_rate, 1.0 if base_dim is None else min(1.0, base_dim / cfg.d_model))
    params = transformer.init(cfg, seed)
    state, found = _optimizer(*rates).init(params), {part: [] for part in PARTS}
    first = part_outputs(params, batch.tokens, cfg)
    for _ in range(steps):
        params, state = _step(cfg)(params, state, batch, rates)
        outputs = part_outputs(jax.tree.map(np.asarray, params), batch.tokens, cfg)
        for part in PARTS:
            moved = np.subtract(outputs[part], first[part])
            found[part].append(float(np.sqrt(np.mean(np.square(moved)))))
    return found


def _optimizer(learning_rate, matrix_scale):
    """Return Apple's optimizer at a constant rate, without decay; both arguments may be
    traced.
    """
    scale = on_matrices(matrix_scale)
    return afm_optimizer(learning_rate, lambda t: 1.0, 0.0, update_scale=scale)


@cache
def _step(cfg):
    """Return (weights, state, batch, rates) -> (weights, state), compiled once a width
    whatever the rates are.
    """

    def step(params, state, batch, rates):
        def mean_loss(params):
            total, count = losses.next_token(params, batch, cfg)
            return total / count

        updates, state = _optimizer(*rates).update(
            jax.grad(mean_loss)(params), state, params
        )
        return optax.apply_updates(params, updates), state

    return jax.jit(step, compiler_options=QUICK)
