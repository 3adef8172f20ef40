"""AFM-on-device's training step compiled for 8 to 512 fake devices, and for Apple's TPU machines where libtpu is.

    python -m experiments.at_scale           fake CPU devices; about 3 minutes
    python -m experiments.at_scale --tpu     TPU topologies, with the extra `tpu`; about 10 minutes

Every cell compiles in a process of its own, one at a time, and is recorded as soon as it is done.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

from afm_ref import assets
from afm_ref.parallelism.mesh import MeshShape

from . import _record

TIMEOUT_S = 1500


def cells(tpu: bool) -> list[dict]:
    """Return the cells: two sequences a device on CPUs; Apple's chips and 4096 sequences of 4096 tokens on TPUs."""
    if not tpu:
        meshes = [(n, axis) for n in (8, 64, 512) for axis in ("data", "fsdp")]
        common = dict(model="AFM_ON_DEVICE", machine="cpu")
        found = [dict(name=f"cpu {n} {axis}", mesh=f"{axis}={n}", batch=2 * n, **common) for n, axis in meshes]
        bad = dict(name="cpu 512 fsdp unpinned", mesh="fsdp=512", batch=1024, pinned=False, **common)
        return [*found, bad]
    on_device = dict(model="AFM_ON_DEVICE", machine="v5p:8x16x16", batch=4096)
    server = dict(model="SERVER_SIZED", machine="v4:8x8x16", slices=8, batch=4096)
    return [
        dict(name="v5p data", mesh="data=2048", **on_device),
        dict(name="v5p fsdp", mesh="data=8,fsdp=256", **on_device),
        dict(name="v5p fsdp unpinned", mesh="data=8,fsdp=256", pinned=False, **on_device),
        dict(name="v4 server", mesh="data=8,fsdp=256,model=4", **server),
        dict(name="v4 server, model parallel only", mesh="data=1024,model=8", **server),
    ]


def in_own_process(cell: dict) -> dict:
    """Return the measurement of one cell, compiled by a process that has as many devices as the cell needs."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    if cell["machine"] == "cpu":
        environment["JAX_NUM_CPU_DEVICES"] = str(MeshShape.parse(cell["mesh"]).size)
    command = [sys.executable, "-m", "experiments.at_scale", "--cell", json.dumps(cell)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"cell {cell['name']} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def one_cell(cell: dict) -> dict:
    """Return the measurement of one cell in this process."""
    from afm_ref.parallelism import topologies
    from afm_ref.pretraining import afm_optimizer, warmup_cosine

    optimizer = afm_optimizer(0.01, warmup_cosine(5000, 375_509))
    return dataclasses.asdict(topologies.measure(topologies.Cell(**cell), optimizer))


def main(arguments=None):
    """Compile every cell that is not recorded yet, or one cell, printed as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tpu", action="store_true", help="TPU topologies, by libtpu")
    parser.add_argument("--cell", help="one cell as JSON, in this process")
    parser.add_argument("--only", help="record only the cells whose name holds this text")
    options = parser.parse_args(arguments)
    if options.cell:
        print(json.dumps(one_cell(json.loads(options.cell))))
        return
    try:
        numbers = assets.recording("at_scale")["numbers"]
    except FileNotFoundError:
        numbers = {}
    for cell in cells(options.tpu):
        if cell["name"] in numbers or (options.only or "") not in cell["name"]:
            continue
        print(cell["name"], flush=True)
        numbers[cell["name"]] = {"cell": cell, "measured": in_own_process(cell)}
        config = {"cells": [row["cell"] for row in numbers.values()], "libtpu": "0.0.42 for the TPU cells"}
        _record.save("at_scale", "python -m experiments.at_scale && python -m experiments.at_scale --tpu", config, [],
                     numbers)  # fmt: skip


if __name__ == "__main__":
    main()
