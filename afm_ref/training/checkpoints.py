"""Checkpoints for `training.fit`: one sealed file of tensors a step, in a folder of one
run.

A checkpoint holds the trainable weights, the optimizer's state and the history; run.json
beside it says what made them, with a checksum of the frozen weights, which are the
caller's. Weights that are spread over devices or processes are written whole and plain: any
mesh can continue them, and process 0 alone touches the disk. That costs a gather and one
process's memory, so it is for models that fit there.
"""

import contextlib
import dataclasses
import functools
import inspect
import json
import warnings
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..disk import atomic, resumable, targets, tensor_files
from ..weights import leaf_name
from . import multihost
from .history import PER_STEP, History

FORMAT = "afm_ref.checkpoint.1"
RUN = "run.json"


def open_folder(path, keep, about):
    """Return the checkpoints of a run at path, or None without a path; several processes
    compare their settings.
    """
    if multihost.several():
        theirs = json.loads(multihost.broadcast(json.dumps(about).encode()))
        if problem := resumable.difference(theirs, about):
            raise ValueError(
                f"process {jax.process_index()} was not started like process 0: {problem}. Give every process the same "
                "arguments, the same text and the same version of Python"
            )
    return None if path is None else Folder(path, keep, about)


class Folder:
    """The checkpoints of one run, by number of steps done; from `load` to `close` nobody
    else can write there.

    Several processes make the same calls. Process 0 reads and writes, and tells the others
    what it has read: nothing has to be shared between hosts, and nobody reads what is being
    written.
    """

    def __init__(self, path, keep, about):
        self.path, self.keep, self.about = Path(path).absolute(), keep, about
        self.newest = None
        self.lock = contextlib.ExitStack()

    def close(self):
        """Let others write the folder."""
        self.lock.close()

    def load(self, like):
        """Return (state, history) of the newest whole checkpoint, or None where there is
        none.

        What is wrong with the folder is a ValueError in every process.
        """
        data = multihost.by_process_0(self._newest)
        if not data:
            return None
        arrays, about = tensor_files.decode(data)
        columns = {name: arrays[f"history.{name}"] for name in PER_STEP}
        self.newest = int(about["step"])
        state = _unflatten(like, arrays)._replace(step=self.newest)
        return state, History(**columns, evaluations=json.loads(about["evaluations"]))

    def save(self, state, history: History):
        """Write the state under its number of steps; those that are too old go when this
        one is whole.

        All processes call it, with the state whole in each. Raises OSError if the disk does
        not take it.
        """
        if jax.process_index() == 0:
            arrays = {f"history.{name}": getattr(history, name) for name in PER_STEP}
            told = json.dumps(history.evaluations)
            about = dict(format=FORMAT, step=str(state.step), evaluations=told)
            self._write(state.step, _flatten(state) | arrays, about)
        self.newest = state.step

    def _newest(self) -> bytes:
        """Take the folder; return the file of its newest whole checkpoint, b"" where there
        is none.
        """
        self._take()
        damaged = None
        for step in sorted(self._steps(), reverse=True):
            data = self._file(step).read_bytes()
            try:
                _, about = tensor_files.decode(data)
                if about.get("format") != FORMAT:
                    raise ValueError(f"is of the format {about.get('format')!r}")
                return data
            except ValueError as error:
                damaged = f"checkpoint {self._file(step)} is damaged (it {error})"
                warnings.warn(f"{damaged}; trying the one before it", stacklevel=2)
        if damaged:
            raise ValueError(
                f"{damaged} and there is none before it: delete {self.path} to start again"
            )
        return b""

    def _take(self):
        """Keep others out, remove what a killed process left, and refuse the checkpoints of
        another run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: give a folder for the checkpoints")
        self.lock.enter_context(targets.only_writer(self.path))
        atomic.sweep(self.path)
        if any(path.name.isdecimal() and path.is_dir() for path in self.path.iterdir()):
            raise ValueError(
                f"{self.path} holds checkpoints of an older version of afm_ref, in folders of orbax, which this one "
                "cannot continue: give another folder, or delete it to start again"
            )
        run = self.path / RUN
        if not self._steps():
            run.unlink(missing_ok=True)
            return
        if not run.exists():
            raise ValueError(
                f"{self.path} holds checkpoints without {RUN}, which says of what run they are: give another "
                "folder, or delete it to start again"
            )
        resumable.claim(run, self.about, "checkpoints")

    def _write(self, step, arrays, about):
        try:
            resumable.claim(self.path / RUN, self.about, "checkpoints")
            tensor_files.save(self._file(step), arrays, about)
        except OSError as error:
            before = "there is none before it"
            if self.newest is not None:
                before = f"that of step {self.newest} is whole"
            raise OSError(
                f"checkpoint {self._file(step)} ({before}) could not be written: {error.strerror or error}; the same "
                "call goes on once it can be"
            ) from None
        steps = self._steps()
        # later ones were damaged: load passed them over
        whole = sorted(each for each in steps if each <= step)
        for each in steps - set(whole[-self.keep :]):
            self._file(each).unlink()

    def _file(self, step):
        return self.path / f"{step}.safetensors"

    def _steps(self):
        names = (path.stem for path in self.path.glob("*.safetensors"))
        return {int(name) for name in names if name.isdecimal()}


def _flatten(state):
    """Return {name: NumPy array} of the weights and the optimizer's state."""
    leaves = jax.tree_util.tree_leaves_with_path(
        {"weights": state.trainable, "optimizer": state.optimizer}
    )
    return {leaf_name(path): np.asarray(leaf) for path, leaf in leaves}


def _unflatten(like, arrays):
    """Return a state like `like`, on its devices, with the values from `arrays`."""

    def put(path, leaf):
        array = arrays[leaf_name(path)]
        # What was not put on a device by name must stay free to follow what was.
        return (
            jax.device_put(array, leaf.sharding) if leaf.committed else jnp.asarray(array)
        )

    tree = {"weights": like.trainable, "optimizer": like.optimizer}
    tree = jax.tree_util.tree_map_with_path(put, tree)
    return like._replace(trainable=tree["weights"], optimizer=tree["optimizer"])


def identity(parts, state, frozen) -> dict:
    """Return what must agree for a run to be the same: described parts, shapes and first
    values of all weights.
    """
    said = {}
    for at, value in parts.items():
        said |= describe(value, at)
    for name, array in _flatten(state).items():
        said[name] = f"{array.dtype}{list(array.shape)} checksum {_checksum(array)}"
    return said | {"frozen": _tree_checksum(frozen)}


def describe(value, at: str, depth: int = 16) -> dict:
    """Return {name: number or text} of what can be said about a value, the same in every
    process.

    All names begin with `at`. Functions are told by name, with what they close over,
    partials with their arguments, dataclasses and named tuples with their fields; arrays by
    checksum. So a loss, an optimizer of optax or a source of batches tells its settings.
    """
    if isinstance(value, (bool, int, float, type(None))):
        return {at: value}
    if isinstance(value, str):
        if len(value) >= 200:
            value = f"text with checksum {zlib.crc32(value.encode())}"
        return {at: value}
    leaves = jax.tree.leaves(value) if depth else []
    if leaves and all(hasattr(leaf, "dtype") for leaf in leaves):
        return {at: _tree_checksum(value)}
    name, parts = _parts(value) if depth else (type(value).__name__, {})
    inner = {}
    for key, part in parts.items():
        inner |= describe(part, f"{at}.{key}", depth - 1)
    if len(parts) > 100:
        return {
            at: f"{name} of {len(parts)} with checksum {zlib.crc32(str(inner).encode())}"
        }
    return {at: name} | inner


def _parts(value):
    """Return (name, {name of part: part}) of a value."""
    if isinstance(value, functools.partial):
        name, parts = _parts(value.func)
        return name, parts | dict(enumerate(value.args)) | value.keywords
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, value
    if isinstance(value, (list, tuple)):
        return kind, dict(zip(getattr(value, "_fields", range(len(value))), value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return kind, {name: getattr(value, name) for name in names}
    value = inspect.unwrap(value)
    try:
        parts = inspect.getclosurevars(value).nonlocals
    except TypeError:  # no Python function
        parts = {}
    return getattr(value, "__qualname__", type(value).__name__), parts


def _checksum(array) -> int:
    return zlib.crc32(tensor_files.bytes_of(array))


def _tree_checksum(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    text = "".join(
        f"{path} {leaf.dtype} {leaf.shape} {_checksum(np.asarray(leaf))}"
        for path, leaf in leaves
    )
    return zlib.crc32(text.encode())
