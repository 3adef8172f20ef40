"""fit(): one loop for every loss, with selected weights, history, progress and exact resume.

A loss is any function (params, batch) -> (sum, count); what is descended is sum / count.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import agreement, checkpoints
from .history import History
from .layout import Layout
from .ops import wide
from .weights import leaf_name


class FitResult(NamedTuple):
    """What `fit` returns: all weights, frozen ones included; the history; the optimizer's last state."""

    params: Any
    history: History
    optimizer_state: Any


class TrainState(NamedTuple):
    """All that changes from step to step, apart from the history."""

    step: int  # steps done
    trainable: Any
    optimizer: Any


def merge(trainable, frozen):
    """Return the full tree: the trainable leaf where there is one, else the frozen one."""
    return jax.tree.map(lambda t, f: f if t is None else t, trainable, frozen, is_leaf=lambda x: x is None)


def where(keep: Callable[[str], bool]):
    """Return a `select` for fit that keeps the float leaves whose path, such as "layers.3.wq", satisfies `keep`."""

    def select(params):
        def choose(path, leaf):
            return leaf if _is_float(leaf) and keep(leaf_name(path)) else None

        return jax.tree_util.tree_map_with_path(choose, params)

    return select


def _is_float(leaf):
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def split(params, select=None):
    """Return (trainable, frozen), each with None where the other has a leaf. select None takes every float leaf."""
    trainable = (select or where(lambda path: True))(params)
    leaves = jax.tree_util.tree_leaves_with_path(trainable)
    if not leaves:
        raise ValueError("select chose no weights: nothing to train")
    for path, leaf in leaves:
        if not _is_float(leaf):
            raise TypeError(f"select chose {leaf_name(path)} of dtype {leaf.dtype}: only float weights can be trained")
    frozen = jax.tree.map(lambda t, p: p if t is None else None, trainable, params, is_leaf=lambda x: x is None)
    return trainable, frozen


def global_norm(tree):
    """Return the root of the sum of all squares in a tree, taken in float32 at least."""
    return optax.tree.norm(jax.tree.map(wide, tree))


def make_step(loss, optimizer, placed=None):
    """Return the jitted update (trainable, optimizer state, frozen, batch) -> (trainable, state, metrics).

    placed, (trainable, optimizer state) as they lie on several devices, keeps them lying so.
    """

    def step(trainable, opt_state, frozen, batch):
        def total(trainable):
            return loss(merge(trainable, frozen), batch)

        (loss_sum, count), grads = jax.value_and_grad(total, has_aux=True)(trainable)
        grads = jax.tree.map(lambda g: (g / count).astype(g.dtype), grads)
        updates, opt_state = optimizer.update(grads, opt_state, trainable)
        changed = jnp.any(jnp.stack([jnp.any(u != 0) for u in jax.tree.leaves(updates)]))
        metrics = {"loss": loss_sum / count, "count": count, "grad_norm": global_norm(grads), "changed": changed}
        return optax.apply_updates(trainable, updates), opt_state, metrics

    # The compiler may lay its outputs out anew, and so let a resumed run differ from one that was never interrupted.
    kept = None if placed is None else (*jax.tree.map(lambda x: x.sharding, placed), None)
    return jax.jit(step, donate_argnums=(0, 1), out_shardings=kept)


def fit(
    params,
    loss: Callable,
    batches: Callable,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    select: Callable | None = None,
    optimizer_state=None,
    layout: Layout | None = None,
    evaluate: Callable | None = None,
    evaluate_every: int = 100,
    checkpoint=None,
    checkpoint_every: int = 100,
    keep: int = 2,
    settings: dict | None = None,
    callback: Callable | None = None,
    callback_every: int = 10,
    max_bad_steps: int = 10,
    progress: bool = True,
) -> FitResult:
    """Return the weights after `steps` updates of the selected ones, with the history.

        g = grad (sum / count),   (sum, count) = loss(params, batch),   weights <- weights + optimizer(g)

    loss(params, batch) -> (sum, count). batches(step) -> batch, a pure function of the step from 0, so that an
    interrupted run sees the same batches again; with on_policy = True set on it, batches(step, params).
    select(params) -> tree with None at what stays frozen (see `where`); None trains every float leaf. Frozen leaves
    come back as they were; the caller's arrays are never overwritten. optimizer_state continues an earlier fit.

    layout trains over several devices, and over several processes that all make the same call (see `Layout`). params,
    loss and batches stay the plain ones, and so are the weights that evaluate gets and those returned, as NumPy
    arrays. The checkpoints hold plain weights as well: any other layout continues them, equal but for rounding.

    evaluate(params) -> {name: number} is called before the first step, every evaluate_every steps and at the end.
    callback(history) is called every callback_every steps and at the end. progress shows a bar.

    checkpoint, a folder, keeps the last `keep` states, one every checkpoint_every steps. The same call with the same
    folder continues from the newest whole one to the same numbers, bit for bit. A folder of another run (other
    shapes, first weights, loss, optimizer or `settings`) is refused with ValueError. A damaged checkpoint is passed
    over with a warning for the one before it. On KeyboardInterrupt the state is saved first, unless the batches are
    on-policy: what they were drawn from would be gone, so such a run goes back to its last checkpoint. Of several
    processes one that gets SIGTERM stops all after the same step, and process 0 alone reads and writes the folder. A
    second run in the folder at the same time is refused with ValueError (see `targets.only_writer`); a checkpoint that
    the disk does not take is an OSError, and the one before it stays.

    FloatingPointError is raised after max_bad_steps steps in a row with a non-finite loss or gradient or with no
    change of the weights, and before a checkpoint of non-finite weights would be written.
    """
    _check_counts(steps=steps, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every, keep=keep,
                  callback_every=callback_every, max_bad_steps=max_bad_steps)  # fmt: skip
    run = _Run(params, select, optimizer, optimizer_state, batches, layout, max_bad_steps)
    parts = {"loss": loss, "batches": batches, "optimizer": optimizer, "settings": settings or {}}
    try:
        if checkpoint is not None or agreement.several():
            run.open(checkpoints.open_folder(checkpoint, keep, parts, run.state, run.frozen), steps)
        run.prepare(loss, optimizer)
        with run.progress(steps, progress):
            run.evaluate(evaluate, run.state.step % evaluate_every == 0)
            while run.state.step < steps:
                run.advance()
                if agreement.told_to_stop(run.state.step):
                    raise KeyboardInterrupt
                if run.state.step < steps:
                    run.evaluate(evaluate, run.state.step % evaluate_every == 0)
                    run.report(callback, run.state.step % callback_every == 0)
                    run.save(run.state.step % checkpoint_every == 0)
            run.evaluate(evaluate)
            run.report(callback)
            run.save()
    except KeyboardInterrupt:
        run.save(not run.on_policy)
        raise
    finally:
        run.close()
    return run.result()


class _Run:
    """The moving parts of one call of fit."""

    def __init__(self, params, select, optimizer, optimizer_state, batches, layout, max_bad_steps):
        trainable, self.frozen = split(params, select)
        if layout is not None and jax.tree.leaves(self.frozen):
            raise ValueError("a layout places all weights together: select must leave none frozen")
        self.placed = jax.device_put(self.frozen)  # once, not at every step
        trainable = _copy(trainable)  # the first step donates these
        optimizer_state = optimizer.init(trainable) if optimizer_state is None else _copy(optimizer_state)
        self.state = TrainState(0, trainable, optimizer_state)
        self.batches, self.layout, self.max_bad_steps = batches, layout, max_bad_steps
        self.on_policy = getattr(batches, "on_policy", False)
        self.records, self.evaluations, self.pending = [], [], deque()
        self.folder = self.bar = None
        self.seconds = 0.0

    def prepare(self, loss, optimizer):
        """Put the state where it is to lie, and make the step."""
        if self.layout is None:
            self.step = make_step(loss, optimizer)
        else:
            self.state = self.layout.place_state(self.state)
            self.placed = jax.tree.map(lambda leaf: None, self.state.trainable)
            self.step = make_step(self.layout.loss, optimizer, self.state[1:])

    def plain(self):
        """Return the state without its layout."""
        return self.state if self.layout is None else self.layout.unplace_state(self.state)

    def params(self):
        """Return all weights as they are now: on the device, or plain where there is a layout."""
        if self.layout is not None:
            return self.layout.unplace(self.state.trainable)
        return merge(self.state.trainable, self.placed)

    def result(self):
        """Return what fit returns; the frozen leaves are the caller's own."""
        state = self.plain()
        return FitResult(merge(state.trainable, self.frozen), self.history(), state.optimizer)

    def history(self):
        """Return all that has happened up to the present step."""
        self._collect()
        return History.from_records(self.records, self.evaluations)

    @contextlib.contextmanager
    def progress(self, steps, show):
        """Show a bar while the steps run, and start the clock."""
        from tqdm.auto import tqdm

        with tqdm(total=steps, initial=self.state.step, disable=not show, unit="step") as self.bar:
            self.started = time.perf_counter() - self.seconds
            yield
            self._collect()

    def advance(self):
        """Start one more update, and collect the numbers of the one before it while this one runs."""
        step, trainable, opt_state = self.state
        args = (step, self.params()) if self.on_policy else (step,)
        place = (lambda batch: batch) if self.layout is None else self.layout.place_batch
        with agreement.uninterrupted():
            trainable, opt_state, metrics = self.step(trainable, opt_state, self.placed, place(self.batches(*args)))
            self.pending.append(metrics)
            self.state = TrainState(step + 1, trainable, opt_state)
            self._collect(leave=1)

    def _collect(self, leave=0):
        """Wait for the numbers of all steps under way but the last `leave`, record and judge them."""
        while len(self.pending) > leave:
            record = {name: value.item() for name, value in jax.device_get(self.pending[0]).items()}
            self.seconds = time.perf_counter() - self.started
            self.records.append(record | {"seconds": self.seconds})
            self.pending.popleft()
            rate = (self.bar.format_dict["rate"] or 0) * record["count"]
            self.bar.set_postfix_str(f"loss {record['loss']:.3f}, {rate:.0f} a second", refresh=False)
            self.bar.update()
            self._judge()

    def _judge(self):
        """Raise FloatingPointError when the last max_bad_steps steps were all bad."""
        recent = self.records[-self.max_bad_steps :]
        if len(recent) < self.max_bad_steps or not all(map(_is_bad, recent)):
            return
        last, first = recent[-1], len(self.records) - self.max_bad_steps
        raise FloatingPointError(
            f"steps {first} to {len(self.records) - 1} all had a non-finite loss or gradient, or changed no weight "
            f"(last: loss {last['loss']:.4g}, gradient norm {last['grad_norm']:.4g}). Lower the learning rate or warm "
            "up longer, look at these batches, and resume from the last checkpoint; afm_optimizer skips gradient "
            "norms from skip_norm (100) on"
        )

    def evaluate(self, evaluate, due=True):
        """Record what evaluate returns, once a step."""
        done = self.evaluations and self.evaluations[-1]["step"] == self.state.step
        if evaluate is not None and due and not done:
            self._collect()
            numbers = {name: float(value) for name, value in evaluate(self.params()).items()}
            self.evaluations.append({"step": self.state.step} | numbers)

    def report(self, callback, due=True):
        if callback is not None and due:
            callback(self.history())

    def open(self, folder, steps):
        """Continue from the folder's newest whole checkpoint, if it has one."""
        self.folder = folder
        found = None if folder is None else folder.load(self.state)
        if found is None:
            return
        self.state, history = found
        self.records, self.evaluations = history.records(), history.evaluations
        if self.state.step > steps:
            raise ValueError(
                f"{folder.path} is at step {self.state.step}, beyond the {steps} steps asked for: give more steps or "
                "another folder"
            )
        self.seconds = self.records[-1]["seconds"] if self.records else 0.0

    def save(self, due=True):
        """Write a checkpoint of the present step, unless the folder has it or nothing has happened yet."""
        if self.folder is None or not due or self.state.step in (0, self.folder.newest):
            return
        history, state = self.history(), self.plain()
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.trainable)):
            raise FloatingPointError(
                f"weights are not finite after step {self.state.step}; no checkpoint was written. Lower the learning "
                f"rate or look at the batches since step {self.folder.newest}, and start again to resume there"
            )
        self.folder.save(state, history)

    def close(self):
        """Let others write the folder."""
        if self.folder is not None:
            self.folder.close()


def _copy(tree):
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def _is_bad(record):
    return not (np.isfinite(record["loss"]) and np.isfinite(record["grad_norm"]) and record["changed"])


def _check_counts(**counts):
    for name, value in counts.items():
        if not isinstance(value, (int, np.integer)) or value < (0 if name == "steps" else 1):
            raise ValueError(f"{name} is {value!r}: give a whole number of at least {0 if name == 'steps' else 1}")
