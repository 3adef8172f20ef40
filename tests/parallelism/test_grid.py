"""The grid of proof: every strategy, and products of them, against the single device; and their bytes by formula."""

import dataclasses

import jax
import numpy as np
import pytest

from afm_ref import containers, losses
from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.predicted import traffic
from afm_ref.parallelism.sharded.strategies import NextToken, Plan, place, place_batch, unplace
from tests.parallelism import grid


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def sent(found):
    return {kind: row["bytes_sent"] for kind, row in collectives.by_kind(found).items()}


every_case = pytest.mark.parametrize(
    "name", [name if name in grid.QUICK else pytest.param(name, marks=pytest.mark.slow) for name in grid.CASES]
)


@every_case
def test_strategy_equals_the_single_device(name):
    run = grid.sharded(name)
    grid.check(run, grid.single())
    assert run.moved == []  # what a step returns lies where it lay: the next step compiles nothing new


@every_case
def test_bytes_sent_equal_the_formula(name):
    want = traffic.bytes_sent(grid.plan_of(name), grid.B, grid.T, width=8, documents=True)
    assert sent(grid.sharded(name).ours) == want


@every_case
def test_the_optimizer_moves_single_numbers(name):
    # The norm of a block, or of all: one number a layer at most. No weight is gathered to be updated.
    for found in grid.sharded(name).compilers:
        assert found.kind == "all-reduce" and found.operand_bytes <= 8 * grid.CFG.n_layers


def test_an_untied_model_with_the_other_layouts():
    """And with stage 2 of ZeRO and the norms' regions cut, what no other quick case has: loss, gradients and bytes."""
    changes = dict(tie_embeddings=False, qk_norm="before_rope", rope_layout="half_split")
    cfg = dataclasses.replace(grid.CFG, n_layers=2, **changes)
    plan = Plan(cfg, "data=2,fsdp=2,model=2", sequence="norm", zero=2)

    def run(loss, *arguments):
        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*arguments)
        compiled, found = collectives.compile_and_count(gradient, collectives.QUICK)
        (total, count), grads = compiled(*arguments)
        return total / count, grads, found

    loss, grads, found = run(NextToken(plan), place(grid.params64(cfg), plan), place_batch(grid.batch(0), plan))
    want, plain, _ = run(lambda p, b: losses.next_token(p, b, cfg), grid.stacked(cfg), grid.batch(0))
    np.testing.assert_allclose(loss, want, rtol=grid.ROUNDING)
    for g, got in zip(jax.tree.leaves(containers.ungrouped(plain)), jax.tree.leaves(unplace(grads)), strict=True):
        assert np.abs(got - g).max() <= grid.ROUNDING * np.abs(g).max()
    assert sent(grid.ours(found)) == traffic.bytes_sent(plan, grid.B, grid.T, width=8, documents=True)
