"""AFM-on-device's training step compiled for 8 to 512 fake devices, and for Apple's TPU machines where libtpu is.

    python -m experiments.at_scale           fake CPU devices; about 3 minutes
    python -m experiments.at_scale --tpu     TPU topologies, with the extra `tpu`; about 10 minutes

Question  does the training step of AFM-on-device fit its devices, and which collectives does the compiler put into it?
Arms      data-parallel and FSDP meshes of 8, 64 and 512 CPU devices; TPU topologies of Apple's runs; with and without
          pinned placements; the server model's mesh

Every cell compiles in a process of its own, one at a time, and is recorded as soon as it is done.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import NamedTuple

from afm_ref import assets
from afm_ref.parallelism.mesh import MeshShape

from . import _record

TIMEOUT_S = 1500


TPU_OPTIONS = {  # so that collectives stand in the text as such, and not taken apart inside matrix products
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000",
    "xla_tpu_enable_async_collective_fusion": "false",
}


class Cell(NamedTuple):
    """One program to compile: a model's training step on a mesh of a machine. Everything in it goes into JSON.

    machine: "cpu" for fake devices, or a TPU topology such as "v5p:8x16x16"; slices of it joined by data alone.
    """

    name: str
    model: str
    machine: str
    mesh: str
    batch: int  # B of the whole mesh
    seq_len: int = 4096
    slices: int = 1
    pinned: bool = True


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
    from afm_ref.parallelism.compiled import topologies
    from afm_ref.parallelism.mesh import make_mesh
    from afm_ref.pretraining import afm_optimizer, warmup_cosine

    cell, started = Cell(**cell), time.perf_counter()
    shape, optimizer = MeshShape.parse(cell.mesh), afm_optimizer(0.01, warmup_cosine(5000, 375_509))
    mesh = make_mesh(shape) if cell.machine == "cpu" else topologies.mesh_of(cell.machine, shape, cell.slices)
    cfg = topologies.MODELS[cell.model]
    lowered = topologies.lower_step(cfg, mesh, cell.batch, cell.seq_len, optimizer, cell.pinned)
    lower_s, started = time.perf_counter() - started, time.perf_counter()
    measured = compiled(lowered, cell.machine)
    peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return measured | dict(lower_s=lower_s, compile_s=time.perf_counter() - started, peak_rss_bytes=peak_rss_bytes)


def compiled(lowered, machine: str) -> dict:
    """Return what compiling shows, in bytes of one device: arguments are weights, optimizer state and batch.

    A program that does not fit the chip's memory is a result, not an error, which says by how much.
    """
    import jax

    from afm_ref.parallelism.compiled import collectives

    try:
        if machine == "cpu":
            program, found = collectives.compile_and_count(lowered, collectives.QUICK)
        else:
            program = lowered.compile(compiler_options=TPU_OPTIONS)
            found = collectives.of(program)
    except jax.errors.JaxRuntimeError as error:
        if "memory" not in str(error).lower():
            raise
        told = "\n".join(str(error).splitlines()[:3])[:600]
        return dict(fits=False, error=told, argument_bytes=0, temp_bytes=0, collectives={}, largest=[])
    memory, largest = program.memory_analysis(), sorted(found, key=lambda c: -c.bytes_sent)[:6]
    return dict(
        fits=True, error="", argument_bytes=memory.argument_size_in_bytes, temp_bytes=memory.temp_size_in_bytes,
        collectives=collectives.by_kind(found),
        largest=[[c.kind, c.operand_bytes, c.group_size, c.count, c.op_name] for c in largest],
    )  # fmt: skip


def verdict(numbers):
    """Return which compiled steps fit."""
    no = [name for name, cell in numbers.items() if not cell["measured"]["fits"]]
    return f"{len(numbers) - len(no)} of {len(numbers)} steps fit; not: {', '.join(no)}"


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
