"""One process of a small run that the tests launch: a linear model, its batch cut over all devices.

    python -m tests.parallelism.member FOLDER STEPS [DEVICES] [--at STEP WHAT PROCESS] [--seed-of PROCESS]

WHAT happens to PROCESS when it has done STEP steps: "kill" (SIGKILL) or "interrupt" (Ctrl-C); when, is
written to FOLDER.at. --seed-of starts that process with other batches.
"""

import argparse
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref.parallelism import processes
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.training import fit
from afm_ref.training.layout import Layout
from tests.training.problems import noisy_batch, squares


def layout(devices=None):
    """Return a layout that cuts weights and batch over these devices, or all of all processes."""
    import jax
    from jax.experimental.multihost_utils import process_allgather
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    devices = jax.devices() if devices is None else devices
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)

    def cut(tree):
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        put = partial(jax.make_array_from_callback, sharding=sharding)
        return jax.tree.map(lambda array: put(array.shape, data_callback=np.asarray(array).__getitem__), tree)

    return Layout(loss=squares, place=cut, unplace=partial(process_allgather, tiled=True), place_batch=cut)


def train(folder, steps, seed=0, **options):
    """Fit a linear model to other numbers at every step, resuming in folder."""
    options = dict(checkpoint_every=5, progress=False) | options
    optimizer = afm_optimizer(0.05, warmup_cosine(3, 100))
    params, batches = {"w": np.zeros(4, np.float32)}, partial(noisy_batch, seed=seed)
    return fit(params, squares, batches, optimizer, steps, checkpoint=folder, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("steps", type=int)
    parser.add_argument("devices", type=int, nargs="?", default=1)
    parser.add_argument("--at", nargs=3)
    parser.add_argument("--seed-of", type=int)
    args = parser.parse_args()
    me = processes.member()

    def happen(history):
        if args.at and (len(history), me.index) == (int(args.at[0]), int(args.at[2])):
            Path(f"{args.folder}.at").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL if args.at[1] == "kill" else signal.SIGINT)

    import jax

    jax.config.update("jax_num_cpu_devices", args.devices)
    with processes.joined(me):
        options = dict(callback=happen, callback_every=1)
        try:
            train(args.folder, args.steps, seed=int(me.index == args.seed_of), layout=layout(), **options)
        except KeyboardInterrupt:
            raise SystemExit(processes.INTERRUPTED) from None


if __name__ == "__main__":
    main()
