"""fit(): one loop for every loss, with history, progress and exact resume.

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
from tqdm.auto import tqdm

from . import checkpoints, multihost
from .history import PER_STEP, History
from .layout import Layout
from .step import TrainState, make_step, merge, split


class FitResult(NamedTuple):
    """What `fit` returns: all weights, the history, the optimizer's last state."""

    params: Any
    history: History
    optimizer_state: Any


def fit(
    params,  # never overwritten; frozen leaves come back as they were
    loss: Callable,  # (params, batch) -> (sum, count)
    batches: Callable,  # step from 0 -> batch, pure; or on_policy: (step, params) -> batch
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    select: Callable | None = None,  # params -> tree, None where frozen; see `where`
    optimizer_state=None,  # of an earlier fit, to go on with
    layout: Layout | None = None,  # over several devices or processes
    evaluate: Callable | None = None,  # params -> {name: number}, at both ends and every
    evaluate_every: int = 100,  # steps
    checkpoint=None,  # a folder, where the run is kept and continued from
    checkpoint_every: int = 100,
    keep: int = 2,  # the last checkpoints
    settings: dict | None = None,  # what else tells this run apart from others
    callback: Callable | None = None,  # called with the history, at the end and every
    callback_every: int = 10,  # steps
    max_bad_steps: int = 10,  # in a row: loss or gradient not finite, or no change
    compiler_options: dict | None = None,  # of jax.jit; `step.QUICK` for a few steps
    progress: bool = True,  # show a bar
) -> FitResult:
    """Return the weights after `steps` updates of the selected ones, with the history.

        (sum, count) = loss(params, batch),   g = grad (sum / count),   weights += optimizer(g)

    The same call with the same checkpoint folder continues from the newest whole checkpoint
    to the same numbers, bit for bit; one of another run is a ValueError, a damaged one is
    passed over, and a second run there at the same time is refused. What the disk does not
    take is an OSError; the checkpoint before it stays. Ctrl-C saves first, but for on-policy
    batches, whose source would be gone. SIGTERM to one of several processes stops all after
    the same step. Checkpoints are plain weights: another layout continues them, to rounding.

    FloatingPointError is raised after max_bad_steps bad steps, and before weights that are
    not finite would be saved.
    """
    _check_counts(steps=steps, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every, keep=keep,
                  callback_every=callback_every, max_bad_steps=max_bad_steps)  # fmt: skip
    run = _Loop(params, select, optimizer, optimizer_state, batches, layout, max_bad_steps)
    try:
        if checkpoint is not None or multihost.several():
            parts = dict(
                loss=loss, batches=batches, optimizer=optimizer, settings=settings or {}
            )
            about = checkpoints.identity(parts, run.state, run.frozen)
            run.open(checkpoints.open_folder(checkpoint, keep, about), steps)
        run.prepare(loss, optimizer, compiler_options)
        with run.record.running(run.state.step, steps, progress):
            run.evaluate(evaluate, run.state.step % evaluate_every == 0)
            while run.state.step < steps:
                run.advance()
                if multihost.told_to_stop(run.state.step):
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
        if run.folder is not None:
            run.folder.close()
    return run.result()


class _Loop:
    """The moving parts of one call of fit: the weights, and the folder of checkpoints."""

    def __init__(
        self, params, select, optimizer, optimizer_state, batches, layout, max_bad_steps
    ):
        trainable, self.frozen = split(params, select)
        if layout is not None and jax.tree.leaves(self.frozen):
            raise ValueError(
                "a layout places all weights together: select must leave none frozen"
            )
        self.placed = jax.device_put(self.frozen)  # once, not at every step
        trainable = _copy(trainable)  # the first step donates these
        optimizer_state = (
            optimizer.init(trainable) if optimizer_state is None else _copy(optimizer_state)
        )
        self.state = TrainState(0, trainable, optimizer_state)
        self.batches, self.layout, self.record = batches, layout, _Record(max_bad_steps)
        self.on_policy = getattr(batches, "on_policy", False)
        self.folder = None

    def open(self, folder, steps):
        """Continue from the folder's newest whole checkpoint, if it has one."""
        self.folder = folder
        found = None if folder is None else folder.load(self.state)
        if found is None:
            return
        self.state, history = found
        self.record.columns = history.columns()
        self.record.evaluations = history.evaluations
        if self.state.step > steps:
            raise ValueError(
                f"{folder.path} is at step {self.state.step}, beyond the {steps} steps asked for: give more steps or "
                "another folder"
            )

    def prepare(self, loss, optimizer, options):
        """Put the state where it is to lie, and make the step."""
        if self.layout is None:
            self.step = make_step(loss, optimizer, options=options)
        else:
            self.state = self.layout.place_state(self.state)
            self.placed = jax.tree.map(lambda leaf: None, self.state.trainable)
            placed = self.state[1:]
            self.step = make_step(self.layout.loss, optimizer, placed, options)

    def plain(self):
        """Return the state without its layout."""
        return self.state if self.layout is None else self.layout.unplace_state(self.state)

    def params(self):
        """Return all weights of now: on the device, or plain where there is a layout."""
        if self.layout is not None:
            return self.layout.unplace(self.state.trainable)
        return merge(self.state.trainable, self.placed)

    def advance(self):
        """Start one more update, and collect the numbers of the one before it meanwhile."""
        step, trainable, opt_state = self.state
        args = (step, self.params()) if self.on_policy else (step,)
        with multihost.uninterrupted():
            batch = self.batches(*args)
            batch = batch if self.layout is None else self.layout.place_batch(batch)
            trainable, opt_state, metrics = self.step(
                trainable, opt_state, self.placed, batch
            )
            self.state = TrainState(step + 1, trainable, opt_state)
            self.record.add(metrics)

    def evaluate(self, evaluate, due=True):
        """Record what evaluate returns, once a step."""
        if evaluate is not None and due and not self.record.has_evaluation(self.state.step):
            self.record.collect()
            numbers = {
                name: float(value) for name, value in evaluate(self.params()).items()
            }
            self.record.evaluations.append({"step": self.state.step} | numbers)

    def report(self, callback, due=True):
        """Call back with all that has happened so far."""
        if callback is not None and due:
            callback(self.record.history())

    def save(self, due=True):
        """Write a checkpoint of the present step, unless the folder has it."""
        if self.folder is None or not due or self.state.step in (0, self.folder.newest):
            return
        history, state = self.record.history(), self.plain()
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.trainable)):
            raise FloatingPointError(
                f"weights are not finite after step {self.state.step}; no checkpoint was written. Lower the learning "
                f"rate or look at the batches since step {self.folder.newest}, and start again to resume there"
            )
        self.folder.save(state, history)

    def result(self):
        """Return what fit returns; the frozen leaves are the caller's own."""
        state = self.plain()
        return FitResult(
            merge(state.trainable, self.frozen), self.record.history(), state.optimizer
        )


class _Record:
    """The numbers of every step, waited for while the next one runs; and all evaluations."""

    def __init__(self, max_bad_steps):
        self.max_bad_steps = max_bad_steps
        self.columns = {name: [] for name in PER_STEP}
        self.evaluations, self.pending = [], deque()

    @contextlib.contextmanager
    def running(self, step, steps, show):
        """Show a bar while the steps run, and start the clock where it stopped."""
        with tqdm(total=steps, initial=step, disable=not show, unit="step") as self.bar:
            self.started = time.perf_counter() - sum(self.columns["seconds"][-1:])
            yield
            self.collect()

    def add(self, metrics):
        """Take the numbers of a step under way, and wait for those of the one before it."""
        self.pending.append(metrics)
        self.collect(leave=1)

    def collect(self, leave=0):
        """Wait for the numbers of all steps but the last `leave`, record and judge them."""
        while len(self.pending) > leave:
            numbers = jax.device_get(self.pending[0])
            seconds = np.float64(time.perf_counter() - self.started)
            with multihost.uninterrupted():  # or the columns would differ in length
                for name, value in {**numbers, "seconds": seconds}.items():
                    self.columns[name].append(value.item())
                self.pending.popleft()
            rate = (self.bar.format_dict["rate"] or 0) * numbers["count"]
            told = f"loss {numbers['loss']:.3f}, {rate:.0f} a second"
            self.bar.set_postfix_str(told, refresh=False)
            self.bar.update()
            self._judge()

    def _judge(self):
        """Raise FloatingPointError when the last max_bad_steps steps were all bad."""
        names = ("loss", "grad_norm", "changed")
        loss, norm, changed = (self.columns[name][-self.max_bad_steps :] for name in names)
        good = np.isfinite(loss) & np.isfinite(norm) & changed
        if len(good) < self.max_bad_steps or good.any():
            return
        done = len(self.columns["loss"])
        raise FloatingPointError(
            f"steps {done - len(good)} to {done - 1} all had a non-finite loss or gradient, or changed no weight "
            f"(last: loss {loss[-1]:.4g}, gradient norm {norm[-1]:.4g}). Lower the learning rate or warm "
            "up longer, look at these batches, and resume from the last checkpoint; afm_optimizer skips gradient "
            "norms from skip_norm (100) on"
        )

    def has_evaluation(self, step):
        """Return whether the last evaluation is of this step."""
        return bool(self.evaluations) and self.evaluations[-1]["step"] == step

    def history(self):
        """Return all that has happened up to the present step."""
        self.collect()
        return History.of(self.evaluations, **self.columns)


def _copy(tree):
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def _check_counts(**counts):
    for name, value in counts.items():
        least = 0 if name == "steps" else 1
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"{name} is {value!r}: give a whole number of at least {least}"
            )
