"""Programs compiled for machines that are not here: recorded numbers, recomputed once and held against the rules."""

import importlib.util
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from afm_ref import assets, losses
from afm_ref.config import AFMConfig
from afm_ref.parallelism.annotated import annotation
from afm_ref.parallelism.compiled import topologies
from afm_ref.parallelism.compiled.topologies import MODELS
from afm_ref.parallelism.mesh import MeshShape
from afm_ref.parallelism.predicted import memory
from afm_ref.parallelism.sharded.plan import Plan
from experiments import at_scale
from experiments.at_scale import Cell

TINY = AFMConfig(d_model=32, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=64, vocab_size=64)


def recorded():
    """Every recorded cell with what was measured: fake CPU devices, then TPU topologies."""
    return [(Cell(**row["cell"]), row["measured"]) for row in assets.recording("at_scale")["numbers"].values()]


@pytest.mark.slow
def test_a_recorded_cell_is_recomputed():
    cell, then = next((cell, measured) for cell, measured in recorded() if cell.name == "cpu 8 fsdp")
    now = at_scale.one_cell(cell._asdict())
    assert now["argument_bytes"] == then["argument_bytes"] and now["collectives"] == then["collectives"]
    assert now["temp_bytes"] == pytest.approx(then["temp_bytes"], rel=0.05)  # the compiler's packing of buffers


def test_every_cell_is_recorded():
    asked = [cell for tpu in (False, True) for cell in at_scale.cells(tpu)]
    assert {Cell(**cell) for cell in asked} == {cell for cell, _ in recorded()}
    shapes = annotation.stacked_shapes(topologies.SERVER_SIZED, jnp.float32)  # ours, and of no more claim than this
    assert 30e9 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 40e9


def test_recorded_arguments_equal_the_rules():
    """12 bytes a parameter, cut as the rules say, and the batch: 10 bytes a token (ids, targets, weights)."""
    for cell, measured in recorded():
        if not measured["fits"]:
            continue
        shape = MeshShape.parse(cell.mesh)
        batch = 10 * cell.batch * cell.seq_len // (shape.data * shape.fsdp * shape.seq)
        held = memory.held_parameters(Plan(MODELS[cell.model], shape, remat=True))
        expected = 12 * sum(held.values()) + batch + 4  # the optimizer's counter
        if cell.machine == "cpu":
            assert measured["argument_bytes"] == expected, cell
            continue
        columns = MODELS[cell.model].d_model // shape.fsdp
        padded = -(-columns // 8) * 8 / columns  # a TPU's tiles are 8 rows: 12 columns of FSDP take the room of 16
        assert 0.99 * expected <= measured["argument_bytes"] <= 1.01 * padded * expected, cell


def test_memory_against_the_compiler():
    """The formula counts what must lie there; the compiler may hold more at once, or share. Half to double."""
    for cell, measured in recorded():
        if cell.machine == "cpu" or not measured["fits"] or not cell.pinned:
            continue
        plan = Plan(MODELS[cell.model], cell.mesh, remat=True)
        predicted = memory.held_bytes(plan, cell.batch, cell.seq_len, fused_attention=False)
        actual = measured["argument_bytes"] + measured["temp_bytes"]
        assert 0.5 < actual / sum(predicted.values()) < 2, cell


def test_products_are_bfloat16_and_state_is_float32():
    """The state: `test_a_recorded_cell_is_recomputed` counts its bytes."""
    params = annotation.stacked_shapes(TINY, jnp.float32)
    ids, floats = (jax.ShapeDtypeStruct((2, 8), dtype) for dtype in (jnp.int32, jnp.bfloat16))
    grad = jax.grad(topologies.step_loss(TINY), has_aux=True)
    jaxpr = jax.make_jaxpr(grad)(params, losses.Batch(ids, ids, floats))
    products = [line for line in str(jaxpr).splitlines() if "dot_general" in line]
    # Attention's scores alone are float32: of queries with keys, once more for the backward pass, and two gradients.
    scores = [line for line in products if ":f32[2,2," in line.split("=")[0]]  # [B, K, ...]: of no weight
    assert len(scores) == 4 and len(products) > 30
    assert all(":bf16[" in line.split("=")[0] for line in products if line not in scores)


def test_what_has_no_topology_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"afm-ref\[tpu\]"):
        topologies.mesh_of("v5p:2x2x2", MeshShape(data=8))
    monkeypatch.setattr(topologies, "chips", lambda topology, slices: list(range(8 * slices)))
    with pytest.raises(ValueError, match="has 8 chips, but data=4 names 4"):
        topologies.mesh_of("v5p:2x2x2", MeshShape(data=4))
    with pytest.raises(ValueError, match="only data crosses slices: data=1 must be a multiple of 2"):
        topologies.mesh_of("v5p:2x2x2", MeshShape(fsdp=16), slices=2)


def test_what_does_not_fit_is_a_result():
    def measured(text):
        lowered = mock.Mock()
        lowered.compile.side_effect = jax.errors.JaxRuntimeError(text)
        return at_scale.compiled(lowered, "v5p:2x2x2")

    told = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 130G of 95G"
    assert not measured(told)["fits"] and measured(told)["error"] == told
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        measured("INTERNAL: something else")
