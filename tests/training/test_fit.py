"""fit() against closed forms and against a loop written out."""

import dataclasses
from functools import partial

import jax
import numpy as np
import optax
import pytest

from afm_ref import losses, transformer
from afm_ref.config import AFMConfig
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.training import fit, merge, split, where
from afm_ref.training.history import History
from tests.training.problems import data, noisy_batch, squares

TINY = AFMConfig(d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=12, vocab_size=16)


def zeros(dim=4):
    return {"w": np.zeros(dim, np.float32)}


def test_the_gradient_is_that_of_the_mean():
    """Ten steps with momentum by hand, each over other rows: those whose first number is above 0 count.

    The loss is the one before the step.
    """

    def loss(params, batch):
        x, y = batch
        errors, counted = x @ params["w"] + params["bias"] - y, x[:, 0] > 0
        return 0.5 * (errors**2 * counted).sum(), counted.sum()

    start = zeros() | {"bias": np.ones((), np.float32)}
    result = fit(start, loss, noisy_batch, optax.sgd(0.05, momentum=0.9), 10, progress=False)
    w, velocity, wanted = np.array([0, 0, 0, 0, 1.0]), 0, []
    for x, y in map(noisy_batch, range(10)):
        x, y = np.float64(x[x[:, 0] > 0]), y[x[:, 0] > 0]
        x = np.insert(x, 4, 1, axis=1)  # the bias
        errors = x @ w - y
        gradient = x.T @ errors / len(y)
        wanted.append((0.5 * (errors**2).mean(), len(y), np.linalg.norm(gradient)))
        velocity = 0.9 * velocity + gradient
        w = w - 0.05 * velocity
    found = result.history.loss, result.history.count, result.history.grad_norm
    np.testing.assert_allclose(np.transpose(found), wanted, rtol=1e-5)
    assert len(set(found[1])) > 2
    np.testing.assert_allclose([*result.params["w"], result.params["bias"]], w, rtol=1e-5)


def test_the_compilers_options_reach_it():
    options = {"progress": False, "compiler_options": {"no_such_option": 1}}
    with pytest.raises(Exception, match="no_such_option"):
        fit(zeros(), squares, lambda step: data(), optax.sgd(0.1), 1, **options)


def test_frozen_leaves_come_back_untouched_and_the_callers_arrays_too():
    params = transformer.init(TINY, seed=0)
    params = params._replace(embed=params.embed.astype(np.float64))  # even what JAX would round to float32
    before = jax.tree.map(np.copy, params)
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    batch = losses.Batch(tokens, tokens, np.ones((2, 6), np.float32))
    select = where(lambda path: path.endswith("wq"))
    loss, options = partial(losses.next_token, cfg=TINY), dict(select=select, progress=False)
    result = fit(params, loss, lambda step: batch, optax.adam(0.1), 3, **options)
    changed = []
    found = jax.tree_util.tree_leaves_with_path(result.params)
    for (path, got), old, mine in zip(found, jax.tree.leaves(before), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(old, mine)
        if np.asarray(got).tobytes() != old.tobytes():
            changed.append(jax.tree_util.keystr(path, simple=True, separator="."))
    assert changed == ["layers.0.wq"]
    assert result.params.embed is params.embed
    coded = zeros() | {"codes": np.array([3, 1, 2], np.int32)}  # integers never meet grad
    result = fit(coded, squares, noisy_batch, optax.adam(0.1), 2, progress=False)
    assert result.params["codes"] is coded["codes"]


def test_select_is_checked():
    params = zeros() | {"codes": np.zeros(3, np.int32)}
    with pytest.raises(TypeError, match=r"codes of dtype int32"):
        split(params, select=lambda p: p)
    with pytest.raises(ValueError, match="chose no weights"):
        split(params, select=where(lambda path: path == "absent"))


def test_merge_undoes_split():
    params = transformer.init(dataclasses.replace(TINY, n_layers=2), seed=0)
    trainable, frozen = split(params, where(lambda path: "layers.1" in path or path == "embed"))
    for tree in (merge(trainable, frozen), merge(trainable._replace(layers=(None, trainable.layers[1])), frozen)):
        assert all(a is b for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(params), strict=True))
        assert jax.tree.structure(tree) == jax.tree.structure(params)
    assert not set(map(id, jax.tree.leaves(trainable))) & set(map(id, jax.tree.leaves(frozen)))


def poisoned(steps):
    def batch(step):
        x, y = noisy_batch(step)
        return (x * np.nan if step in steps else x), y

    return batch


APPLES = afm_optimizer(0.05, warmup_cosine(0, 50))


def test_one_bad_batch_is_skipped_by_apples_optimizer():
    result = fit(zeros(), squares, poisoned({4}), APPLES, 8, progress=False)
    assert np.isnan(result.history.loss).tolist() == [False] * 4 + [True] + [False] * 3
    assert result.history.changed.tolist() == [True] * 4 + [False] + [True] * 3
    assert np.isfinite(result.params["w"]).all()


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), APPLES])
def test_bad_steps_in_a_row_raise_and_are_named(optimizer):
    with pytest.raises(FloatingPointError, match=r"steps 6 to 10 all .* Lower the learning rate"):
        fit(zeros(), squares, poisoned(range(6, 100)), optimizer, 100, max_bad_steps=5, progress=False)


def test_steps_that_are_always_skipped_raise():
    """Gradients are always too large for afm_optimizer, and finite."""
    large = lambda params, batch: (1e6 * squares(params, batch)[0], np.float32(8))  # noqa: E731
    with pytest.raises(FloatingPointError, match=r"changed no weight .* skip_norm"):
        fit(zeros(), large, noisy_batch, APPLES, 100, progress=False)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(FloatingPointError, match="not finite after step 6; no checkpoint"):
        fit(zeros(), squares, poisoned({5}), optax.sgd(0.1), 9, checkpoint=tmp_path, checkpoint_every=3, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3.safetensors", "run.json"]


def test_evaluations_and_callbacks_come_when_promised(capsys):
    """And a bar, where it is not switched off; no steps change nothing."""
    called = []
    result = fit(zeros(), squares, noisy_batch, optax.sgd(0.1), 10, evaluate_every=4, callback_every=3,
                 evaluate=lambda params: {"w0": params["w"][0]}, callback=lambda h: called.append(len(h)))  # fmt: skip
    steps, values = result.history.evaluation("w0")
    assert steps.tolist() == [0, 4, 8, 10]
    assert values[0] == 0.0 and values[-1] == float(result.params["w"][0])
    assert called == [3, 6, 9, 10] and "10/10" in capsys.readouterr().err
    none = fit(zeros(), squares, noisy_batch, optax.sgd(0.1), 0, progress=False)
    assert len(none.history) == 0 and none.params["w"].tolist() == [0, 0, 0, 0] and capsys.readouterr().err == ""
    assert (np.diff(result.history.seconds) > 0).all()


def test_history_survives_its_file(tmp_path):
    history = fit(zeros(), squares, poisoned({2}), optax.sgd(0.1), 5, progress=False,
                  evaluate=lambda params: {"w0": params["w"][0]}).history  # fmt: skip
    history.save(tmp_path / "h.json")
    loaded = History.load(tmp_path / "h.json")
    for name in ("loss", "count", "grad_norm", "changed", "seconds"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name))
    assert str(loaded.evaluations) == str(history.evaluations)  # as text: NaN is not equal to itself


def test_optimizer_state_continues_an_earlier_fit():
    optimizer = optax.adam(0.1)
    whole = fit(zeros(), squares, noisy_batch, optimizer, 10, progress=False)
    first = fit(zeros(), squares, noisy_batch, optimizer, 6, progress=False)
    second = fit(first.params, squares, lambda step: noisy_batch(step + 6), optimizer, 4,
                 optimizer_state=first.optimizer_state, progress=False)  # fmt: skip
    assert second.params["w"].tolist() == whole.params["w"].tolist()
    assert first.params["w"].tolist() != second.params["w"].tolist()  # and the first result was not overwritten


def test_on_policy_batches_see_the_present_weights():
    def batches(step, params):
        seen.append(np.asarray(params["w"]).copy())
        return noisy_batch(step)

    seen, batches.on_policy = [], True
    result = fit(zeros(), squares, batches, optax.sgd(0.1), 3, progress=False)
    assert seen[0].tolist() == [0, 0, 0, 0]
    x, y = noisy_batch(0)
    np.testing.assert_allclose(seen[1], 0.1 * x.T @ y / len(y), rtol=1e-5)
    assert seen[2].tolist() != result.params["w"].tolist()


def test_counts_are_checked():
    for bad in dict(steps=-1), dict(steps=1.5), dict(steps=3, keep=0), dict(steps=3, evaluate_every=0):
        with pytest.raises((ValueError, TypeError), match=list(bad)[-1]):
            fit(zeros(), squares, noisy_batch, optax.sgd(0.1), progress=False, **bad)
