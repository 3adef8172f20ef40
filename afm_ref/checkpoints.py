"""Checkpoints for `training.fit`: orbax folders, written whole or not at all, checked when they are read.

A checkpoint holds the trainable weights, the optimizer's state, the history and the fingerprint of the run. The
frozen weights are the caller's: the fingerprint has their checksum. Where the weights are spread over devices or
processes, the checkpoint still holds them whole and plain: any mesh can continue it, and process 0 alone touches the
disk. That costs a gather and one process's memory, so it is for models that fit there.
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

from . import agreement, atomic, targets
from .history import PER_STEP, History
from .training import path_of

SEAL = "checksums.json"  # of all files in a checkpoint's folder; written last
UNFINISHED = "unfinished"


def open_folder(path, keep, parts, state, frozen):
    """Return the checkpoints of a run at path, or None without a path; several processes compare their settings."""
    about = fingerprint(parts, state, frozen)
    if not agreement.several():
        return Folder(path, keep, about)
    theirs = json.loads(str(agreement.broadcast({"fingerprint": np.array(json.dumps(about))})["fingerprint"]))
    problem = difference(theirs, about)
    if problem:
        raise ValueError(
            f"process {jax.process_index()} was not started like process 0: {problem}. Give every process the same "
            "arguments, the same text and the same version of Python"
        )
    return None if path is None else SharedFolder(path, keep, about)


class Folder:
    """The checkpoints of one run, by number of steps done; until `close` nobody else can write there."""

    def __init__(self, path, keep, fingerprint):
        import orbax.checkpoint as ocp

        self.path, self.keep, self.fingerprint, self.ocp = Path(path).absolute(), keep, fingerprint, ocp
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: give a folder for the checkpoints")
        options = ocp.CheckpointManagerOptions(
            create=False,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),  # of several, see below
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(targets.only_writer(self.path))  # first: the manager sweeps
            self.manager = ocp.CheckpointManager(self.path, options=options)
            self.lock = stack.pop_all()
        self.newest = None

    def close(self):
        """Let others write the folder."""
        self.lock.close()

    def save(self, state, records, evaluations):
        """Write the state under its number of steps: orbax's files, then their checksums. Without those it is none.

        Those that are too old go when this one is whole. Raises OSError if the disk does not take it.
        """
        args = self.ocp.args
        if state.step in self.manager.all_steps():  # a damaged or unfinished one that load passed over
            self.manager.delete(state.step)
        arrays = args.StandardSave(_flatten(state) | _history_arrays(records))
        about = args.JsonSave({"fingerprint": self.fingerprint, "evaluations": evaluations})
        before = "there is none before it" if self.newest is None else f"that of step {self.newest} is whole"
        with targets.told_once(f"checkpoint {self.path / str(state.step)} ({before})"):
            self.manager.save(state.step, args=args.Composite(arrays=arrays, about=about), force=True)
            _seal(self.path / str(state.step))
        self.newest = state.step
        for step in sorted(self.manager.all_steps())[: -self.keep]:
            self.manager.delete(step)

    def load(self, like):
        """Return (state, records, evaluations) of the newest whole checkpoint, or None where there is none."""
        damaged = None
        for step in sorted(self.manager.all_steps(), reverse=True):
            problem = _damage(self.path / str(step))
            if problem is None:
                return self._restore(step, like)
            if problem != UNFINISHED:
                damaged = f"checkpoint {self.path / str(step)} is damaged ({problem})"
                warnings.warn(f"{damaged}; trying the one before it", stacklevel=4)
        if damaged:
            raise ValueError(f"{damaged} and there is none before it: delete {self.path} to start again")
        return None

    def _restore(self, step, like):
        args = self.ocp.args
        about = self.manager.restore(step, args=args.Composite(about=args.JsonRestore())).about
        problem = difference(about["fingerprint"], self.fingerprint)
        if problem:
            raise ValueError(
                f"{self.path} holds checkpoints of another run: {problem}. Give another folder, or the settings of "
                "that run"
            )
        expected = _flatten(like) | _history_arrays([dict.fromkeys(PER_STEP, 0)] * step)
        arrays = self.manager.restore(step, args=args.Composite(arrays=args.StandardRestore(expected))).arrays
        columns = {name: arrays["history." + name].tolist() for name in PER_STEP}
        history = History.from_lists(columns | {"evaluations": about["evaluations"]})
        self.newest = step
        return _unflatten(like, arrays)._replace(step=step), history.records(), history.evaluations


class SharedFolder:
    """The checkpoints of a run in several processes: process 0 reads and writes them, and tells the others.

    So nothing has to be shared between hosts, and nobody reads what is being written.
    """

    def __init__(self, path, keep, fingerprint):
        self.path, self.newest = Path(path).absolute(), None
        self.folder = None
        self.make = functools.partial(Folder, path, keep, fingerprint)

    def save(self, state, records, evaluations):
        """As Folder.save. All processes call it; the state is whole in each."""
        if self.folder is not None:
            self.folder.save(state, records, evaluations)
        self.newest = state.step

    def close(self):
        """As Folder.close."""
        if self.folder is not None:
            self.folder.close()

    def load(self, like):
        """As Folder.load; what is wrong with the folder is raised in every process."""
        arrays = agreement.by_process_0(functools.partial(self._read, like))
        if not arrays:
            return None
        columns = {name: arrays["history." + name].tolist() for name in PER_STEP}
        history = History.from_lists(columns | {"evaluations": json.loads(str(arrays["evaluations"]))})
        self.newest = int(arrays["step"])
        return _unflatten(like, arrays)._replace(step=self.newest), history.records(), history.evaluations

    def _read(self, like):
        self.folder = self.make()
        found = self.folder.load(like)
        if found is None:
            return {}
        state, records, evaluations = found
        about = {"step": np.array(state.step), "evaluations": np.array(json.dumps(evaluations))}
        return _flatten(state) | _history_arrays(records) | about


def _files(folder):
    """Return {name: [size_bytes, checksum]} of all files of a checkpoint."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
    return {path.relative_to(folder).as_posix(): [path.stat().st_size, zlib.crc32(path.read_bytes())] for path in paths}


def _seal(folder):
    """Write the checksums of a checkpoint's files: from now on it counts."""
    atomic.write(folder / SEAL, json.dumps(_files(folder)))


def _damage(folder):
    """Return what is wrong with a checkpoint's files, or None."""
    if not (folder / SEAL).exists():
        return UNFINISHED
    try:
        written = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except ValueError:
        return f"{SEAL} is no JSON"
    found = _files(folder)
    wrong = [name for name in written if found.get(name) != written[name]]
    return f"{wrong[0]} is missing or not what was written" if wrong else None


def _flatten(state):
    """Return {path: NumPy array} of the weights and the optimizer's state."""
    leaves = jax.tree_util.tree_leaves_with_path({"weights": state.trainable, "optimizer": state.optimizer})
    return {path_of(path): np.asarray(leaf) for path, leaf in leaves}


def _unflatten(like, arrays):
    """Return a state like `like`, on its devices, with the values from `arrays`."""

    def place(path, leaf):
        array = arrays[path_of(path)]
        # What was not put on a device by name must stay free to follow what was.
        return jax.device_put(array, leaf.sharding) if leaf.committed else jnp.asarray(array)

    tree = {"weights": like.trainable, "optimizer": like.optimizer}
    tree = jax.tree_util.tree_map_with_path(place, tree)
    return like._replace(trainable=tree["weights"], optimizer=tree["optimizer"])


def _history_arrays(records):
    return {"history." + name: np.array([r[name] for r in records], dtype) for name, dtype in PER_STEP.items()}


def fingerprint(parts, state, frozen):
    """Return what must agree for a run to be the same: described parts, shapes and first values of all weights."""
    first = {name: f"{array.dtype}{list(array.shape)} checksum {checksum(array)}" for name, array in
             _flatten(state).items()}  # fmt: skip
    described = _dotted("", {name: describe(part) for name, part in parts.items()})
    return described | first | {"frozen": _tree_checksum(frozen)}


def describe(value, depth: int = 16):
    """Return what can be said about a value in JSON, the same in every process: a number, a text or a dict of them.

    Functions are told by name, with what they close over, partials with their arguments, dataclasses and named tuples
    with their fields; arrays by checksum. So a loss, an optimizer of optax or a source of batches tells its settings.
    """
    if isinstance(value, (bool, int, float, type(None))):
        return value
    if isinstance(value, str):
        return value if len(value) < 200 else f"text with checksum {zlib.crc32(value.encode())}"
    if depth == 0:
        return type(value).__name__
    leaves = jax.tree.leaves(value)
    if leaves and all(hasattr(leaf, "dtype") for leaf in leaves):
        return _tree_checksum(value)
    if isinstance(value, (list, tuple)) and len(value) > 100:
        return f"{len(value)} items with checksum {zlib.crc32(str([describe(v, depth - 1) for v in value]).encode())}"
    name, parts = _parts(value)
    return {"": name} | {str(key): describe(part, depth - 1) for key, part in parts.items()} if parts else name


def _parts(value):
    """Return (name, {name of part: part}) of a value."""
    if isinstance(value, functools.partial):
        name, parts = _parts(value.func)
        return name, parts | dict(enumerate(value.args)) | value.keywords
    if isinstance(value, dict):
        return type(value).__name__, value
    if isinstance(value, (list, tuple)):
        return type(value).__name__, dict(zip(getattr(value, "_fields", range(len(value))), value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    value = inspect.unwrap(value)
    try:
        parts = inspect.getclosurevars(value).nonlocals
    except TypeError:  # no Python function
        parts = {}
    return getattr(value, "__qualname__", type(value).__name__), parts


def difference(old: dict, new: dict):
    """Return a sentence about the first differences of two fingerprints, or None."""
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name, "absent") != new.get(name, "absent")]
    told = [f"{name} was {old.get(name, 'absent')} and is {new.get(name, 'absent')}" for name in names[:3]]
    return "; ".join(told) + (f"; and {len(names) - 3} more" if len(names) > 3 else "") if names else None


def checksum(array) -> int:
    """Return the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _tree_checksum(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    text = "".join(f"{path} {leaf.dtype} {leaf.shape} {checksum(np.asarray(leaf))}" for path, leaf in leaves)
    return zlib.crc32(text.encode())


def _dotted(prefix, tree):
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, sub in tree.items() for k, v in _dotted(f"{prefix}.{name}".strip("."), sub).items()}
