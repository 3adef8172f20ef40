"""A training step on 1 to 64 fake devices: the strategies written out (shard_map) against the same by annotation.

    python -m benchmarks.parallelism [--rounds N] [--devices 1,8,64] [--plot [FILE]]

Every number of devices is a process of its own, for a process has one number for life. In each the two forms of a
strategy train the same model on the same batch in turn; "ours" is the explicit form. Fake devices share the cores:
the times say what the two forms cost beside each other, and how compiling grows, not what many chips would gain.
"""

import argparse
import json
import subprocess
import sys
import time

from afm_ref import containers

from . import _common

DEVICES = (1, 2, 4, 8, 16, 32, 64)
BATCH, SEQ_LEN = 64, 32
SHAPE = dict(d_model=64, n_layers=2, n_heads=8, n_kv_heads=8, head_dim=8, d_ff=128, vocab_size=512)


def meshes(n: int) -> dict[str, str]:
    """Return {strategy: mesh} on n devices; a strategy that they or the model do not allow is left out."""
    found = {"data": f"data={n}", "fsdp": f"fsdp={n}"}
    if n <= SHAPE["n_kv_heads"]:
        found["model"] = f"model={n}"
        found["seq"] = f"seq={n}"
    if n >= 4:
        found["data_model"] = f"data={n // 2},model=2"
    if n >= 8:
        found["data_fsdp_model"] = f"data={n // 4},fsdp=2,model=2"
    return found if n > 1 else {"data": "data=1"}


def batch_of(vocab_size):
    """Return one batch of random tokens."""
    import numpy as np

    from afm_ref.losses import Batch

    tokens = np.random.default_rng(0).integers(0, vocab_size, (BATCH, SEQ_LEN + 1)).astype(np.int32)
    return Batch(tokens[:, :-1], tokens[:, 1:], np.ones((BATCH, SEQ_LEN), np.float32))


def explicit(cfg, mesh, optimizer):
    """Return (a call that makes one step by shard_map, the seconds it took to lower and compile)."""
    from afm_ref import training, transformer
    from afm_ref.parallelism.sharded import strategies
    from afm_ref.training.layout import Layout

    plan = strategies.Plan(cfg, mesh, sequence="gather" if "seq" in mesh else None)
    layout = Layout(strategies.NextToken(plan), lambda p: strategies.place(p, plan), strategies.unplace, None)
    plain = transformer.init(cfg, 0)
    state = layout.place_state(training.TrainState(0, plain, optimizer.init(plain)))
    batch = strategies.place_batch(batch_of(cfg.vocab_size), plan)
    return compiled(training.make_step(layout.loss, optimizer, state[1:]), *state[1:], batch)


def annotated(cfg, mesh, optimizer):
    """Return (a call that makes one step as the compiler places it, the seconds it took to lower and compile)."""
    from functools import partial

    import jax

    from afm_ref import losses, training, transformer
    from afm_ref.parallelism.annotated import annotation
    from afm_ref.parallelism.mesh import MeshShape, make_mesh

    shape = MeshShape.parse(mesh)
    devices = make_mesh(shape)
    plain = transformer.init(cfg, 0)
    grouped = containers.group(plain.layers)
    plain = plain._replace(layers=containers.Remat(grouped) if shape.fsdp > 1 else grouped)  # as a Plan does
    params = annotation.shard(plain, devices)
    state = annotation.state_shapes(optimizer, params)
    step = training.make_step(partial(losses.next_token, cfg=cfg), optimizer, (params, state))
    state = jax.jit(optimizer.init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, state))(params)
    return compiled(step, params, state, annotation.shard_batch(batch_of(cfg.vocab_size), devices))


def compiled(step, weights, state, batch):
    """Return (a call that makes one step and waits for its loss, the seconds to trace, lower and compile it)."""
    from afm_ref import training

    frozen, start = training.split(weights)[1], time.perf_counter()
    run = step.lower(weights, state, frozen, batch).compile()
    seconds = time.perf_counter() - start
    held = [weights, state]

    def call():
        held[0], held[1], metrics = run(*held, frozen, batch)
        return float(metrics["loss"])

    return call, seconds


def on(n: int, rounds: int) -> None:
    """Print the comparisons on n fake devices, as one JSON line each. For a process of its own."""
    from afm_ref.parallelism.mesh import use_fake_devices

    use_fake_devices(n)
    from afm_ref.config import AFMConfig
    from afm_ref.pretraining import tiny_optimizer

    cfg = AFMConfig(**SHAPE)
    for strategy, mesh in meshes(n).items():
        optimizer = tiny_optimizer(cfg, 0.001, 1000)
        ours, ours_s = explicit(cfg, mesh, optimizer)
        peer, peer_s = annotated(cfg, mesh, optimizer)
        first = (ours(), peer())
        if abs(first[0] - first[1]) > 1e-4 * first[1]:
            raise AssertionError(f"{mesh}: the first losses are {first}: not the same step, no comparison")
        _common.compare(
            f"explicit_vs_annotation_{strategy}_{n}",
            ours,
            peer,
            unit="tokens/s",
            work_per_call=BATCH * SEQ_LEN,
            rounds=rounds,
            mesh=mesh,
            compile_s=[float(f"{ours_s:.3g}"), float(f"{peer_s:.3g}")],  # ours, peer
        )


def add_devices(parser):
    """Add this benchmark's own options."""
    parser.add_argument("--devices", default=",".join(map(str, DEVICES)), help="default %(default)s")
    parser.add_argument("--on", type=int, help=argparse.SUPPRESS)  # the child process of one number of devices


def main():
    """Run every number of devices in turn and print its lines as they come."""
    args = _common.arguments(__doc__, rounds=15, add=add_devices)
    if args.on is not None:
        return on(args.on, args.rounds)
    lines = []
    for n in args.devices.split(","):
        command = [sys.executable, "-m", "benchmarks.parallelism", "--on", n, "--rounds", str(args.rounds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                print(line, end="", flush=True)
                lines.append(json.loads(line))
        if child.returncode:
            raise SystemExit(f"{' '.join(command[1:])} ended with status {child.returncode}")
    _common.plot(lines, args.plot, "benchmark_parallelism.png")


if __name__ == "__main__":
    _common.prepare()
    main()
