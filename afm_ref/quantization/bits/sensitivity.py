"""How much each matrix matters: the loss that few bits in it cost, measured or predicted,
and what flows into it.

measured_costs    the loss itself, once for each matrix and width: the truth, for as many evaluations
predicted_costs   1/2 sum F (W - Q)^2 with F from `fisher`, one pass over the batches for all widths
input_moments     E x^2 or E x x^T of each matrix's inputs, for `palettize(importance=...)` and GPTQ

Keys are those of `quantize`: ("wq", 0) is the query matrix of the first layer. Raise
ValueError for weights that are not plain finite matrices, and for batches without a target.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np

from ... import ops
from ...config import AFMConfig
from ...containers import Tap, matrices, replaced, ungrouped
from ...evaluation import bar, total_loss
from ...losses import next_token
from ...transformer import Causal, hidden
from ...weights import Params
from ..palette.quantizers import checked_matrix, palettize


def measured_costs(
    params: Params, cfg: AFMConfig, batches: Iterable, bits=(2, 4), progress: bool = True
) -> dict:
    """Return the loss that each matrix alone costs at each width, in nats per token:
    {(matrix, layer): {bits: nats}}.

        loss(W replaced by its palette) - loss(W)          all other matrices plain

    It may be slightly below 0: the batches are a sample.

    Source: BLOG24 and TR24 section 5 mix 2 and 4 bits; how the matrices were chosen is not
        stated [ours].
    Test: tests/quantization/test_sensitivity.py::test_measured_is_the_loss_of_one_palette_among_plain_matrices
    """
    import jax

    (params, plain), batches = _plain(params), list(batches)
    on_device = jax.device_put(replaced(params, plain))
    loss = jax.jit(partial(next_token, cfg=cfg))

    def nats(params):
        total, count = total_loss(params, loss, batches, progress=False)
        return total / count

    before, costs = nats(on_device), {key: {} for key in plain}
    pairs = [(key, b) for key in plain for b in bits]
    for key, b in bar(pairs, "sensitivity", progress):
        # as an array: the loss is compiled once
        dense = jax.device_put(palettize(plain[key], b).dense())
        costs[key][b] = nats(replaced(on_device, {key: dense})) - before
    return costs


def fisher(
    params: Params, cfg: AFMConfig, batches: Iterable, progress: bool = True
) -> dict:
    """Return the diagonal of the empirical Fisher matrix, per token: {(matrix, layer): F
    [out, in]}.

        F_oi = 1/n sum_rows (d nats(row) / d W_oi)^2

    nats(row): the loss summed over a row, n: targets in all.

    For a model that fits the text, the tokens' gradients are uncorrelated, so that the
    square of their sum estimates the sum of their squares, and F the diagonal of the mean
    loss's Hessian.

    Source: Kunstner et al. 2019 (empirical Fisher) [standard]; squares of whole rows
        [ours].
    Test: tests/quantization/test_sensitivity.py::test_fisher_is_the_mean_of_squared_finite_differences
    """
    import jax

    params, plain = _plain(params)

    def row_nats(chosen, params, row):
        return next_token(
            replaced(params, chosen), jax.tree.map(lambda x: x[None], row), cfg
        )[0]

    @jax.jit
    def squares(chosen, params, batch):
        def add(total, row):
            gradient = jax.grad(row_nats)(chosen, params, row)
            return jax.tree.map(lambda t, g: t + ops.wide(g) ** 2, total, gradient), None

        return jax.lax.scan(
            add, jax.tree.map(lambda w: jax.numpy.zeros_like(ops.wide(w)), chosen), batch
        )[0]

    return _mean(
        partial(squares, *jax.device_put((plain, replaced(params, plain)))),
        batches,
        "Fisher",
        progress,
    )


def predicted_costs(params: Params, fisher: Mapping, bits=(2, 4)) -> dict:
    """Return the loss that each matrix should cost at each width, in nats per token, as
    `measured_costs` has it.

        1/2 sum_oi F_oi (W_oi - Q_oi)^2          Q: the palette

    The second-order term of the loss at a minimum, with the Hessian's diagonal alone:
    weights that err together, as those of one row do, are taken for independent.

    Source: LeCun et al. 1989, Optimal Brain Damage (the diagonal second-order term)
        [standard].
    Test: tests/quantization/test_sensitivity.py::test_predicted_equals_loops_and_falls_with_bits
    """
    _, plain = _plain(params)
    if set(fisher) != set(plain):
        raise ValueError(
            f"fisher must have every matrix once; different: {sorted(set(fisher) ^ set(plain))[:4]}"
        )

    def loss(key, b):
        error = plain[key].astype(np.float64) - palettize(plain[key], b).dense()
        return 0.5 * float((fisher[key] * error**2).sum())

    return {key: {b: loss(key, b) for b in bits} for key in plain}


def input_moments(
    params: Params,
    cfg: AFMConfig,
    batches: Iterable,
    full: bool = False,
    progress: bool = True,
) -> dict:
    """Return the second moments of each matrix's inputs, by (matrix, layer).

        E x^2: [in],   or E x x^T: [in, in] if full

    The mean is over the positions whose next token is a target (weight above 0), so padding
    does not count.

    Source: Frantar et al. 2022, GPTQ (H = X X^T, up to a factor) [standard].
    Test: tests/quantization/test_sensitivity.py::test_moments_are_those_of_the_inputs_that_the_forward_pass_sees
    """
    import jax

    params, plain = _plain(params)

    @jax.jit
    def moments(params, batch):
        seen = {}

        def note(key, x, _):  # x: [B, T, in]
            wide = ops.wide(x)
            weighted = wide * ops.wide(batch.weights)[..., None]
            seen[key] = jax.numpy.einsum(
                "bti,btj->ij" if full else "bti,bti->i", weighted, wide
            )

        tapped = replaced(
            params, {key: Tap(w, partial(note, key)) for key, w in matrices(params).items()}
        )
        hidden(tapped, batch.tokens, cfg, attend=Causal(batch.documents))
        return seen  # filled while the forward pass was traced

    return _mean(
        partial(moments, jax.device_put(replaced(params, plain))),
        batches,
        "inputs",
        progress,
    )


def _plain(params):
    """Return (params of single layers, their matrices as plain arrays)."""
    params = ungrouped(params)
    return params, {key: checked_matrix(w) for key, w in matrices(params).items()}


def _mean(sums, batches, what, progress):
    """Return {key: sums(batch)[key] added up over the batches, in float64, over the number
    of targets}.
    """
    total, count = {}, 0.0
    for batch in bar(batches, what, progress):
        for key, value in sums(batch).items():
            total[key] = total.get(key, 0.0) + np.asarray(value, np.float64)
        count += float(np.sum(batch.weights, dtype=np.float64))
    if not count > 0:
        raise ValueError("no token of these batches is a target: give batches of text")
    return {key: value / count for key, value in total.items()}
