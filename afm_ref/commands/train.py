"""python -m afm_ref train."""

import sys
from functools import partial
from pathlib import Path

from . import options

EPILOG = """\
examples
  python -m afm_ref train                                     one device, the tiny model, Python's own texts
  python -m afm_ref train --mesh data=2,fsdp=2,model=2 --fake-devices 8
  python -m afm_ref train --mesh data=2,fsdp=2,model=2 --fake-devices 8 --processes 2
  python -m afm_ref train --folder my_texts --save my_model   and then: generate --model my_model
  on two hosts, the same but for its number on each:
    python -m afm_ref train --processes 2 --coordinator 10.0.0.1:1234 --process-id 0

Ctrl-C saves a checkpoint and ends. The same command continues there, to the same numbers; with another --mesh,
--fake-devices or --processes too, equal but for the rounding of sums."""


def add_arguments(parser):
    """Add the options of `train`."""
    _add_run(parser.add_argument_group("the run"))
    _add_devices(parser.add_argument_group("devices and processes"))


def _add_run(group):
    add = partial(_add, group)
    add("--steps", 1000, "optimizer steps of the whole run, which the learning rate's schedule spans")
    add("--batch", 8, "rows a step, over all devices together")
    add("--seq-len", 256, "tokens in a row")
    group.add_argument("--learning-rate", type=float, default=0.006, metavar="X", help="peak (default: %(default)s)")
    add("--seed", 0, "of the first weights and of the order of the text")
    group.add_argument("--folder", metavar="TEXTS", help="train on the .txt and .md files there, not on Python's texts")
    group.add_argument("--config", type=Path, metavar="FILE", help="JSON of AFMConfig's fields (default: AFM_TINY)")
    group.add_argument("--checkpoint", type=Path, default=Path("runs/train"), metavar="FOLDER",
                       help="where the run is kept and continued from (default: %(default)s)")  # fmt: skip
    add("--checkpoint-every", 100, "steps")
    group.add_argument("--evaluate-every", type=int, metavar="N",
                       help="steps between measures of the bits per byte of held-out text (default: none)")  # fmt: skip
    group.add_argument("--history", type=Path, metavar="FILE", help="write the losses of all steps there, as JSON")
    group.add_argument("--save", type=Path, metavar="FOLDER", help="write the trained model there, for `generate`")


def _add_devices(group):
    group.add_argument("--mesh", metavar="AXES",
                       help="devices along data, fsdp, pipe, seq, model: data=2,fsdp=2 (default: data)")  # fmt: skip
    group.add_argument("--sequence", choices=("norm", "gather", "ring"),
                       help="norm: cut the norms' regions over model; gather, ring: cut each row over seq")  # fmt: skip
    group.add_argument("--zero", type=int, choices=(1, 2, 3), default=3, help="what fsdp cuts (default: 3, all)")
    group.add_argument("--microbatches", type=int, metavar="N", help="of the pipeline (default: as many as stages)")
    group.add_argument("--fake-devices", type=int, metavar="N",
                       help="let the CPU pass for N devices, over all processes together")  # fmt: skip
    group.add_argument(
        "--processes", type=int, default=1, metavar="N", help="default: 1; all are started here, unless:"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="on several hosts: where process 0 listens")
    group.add_argument(
        "--process-id", type=int, metavar="I", help="on several hosts: which process this one is, from 0"
    )


def _add(group, name, default, help_text):
    group.add_argument(name, type=int, default=default, metavar="N", help=f"{help_text} (default: %(default)s)")


def run(args):
    """Train a fresh model on one device, on many, or in several processes, with checkpoints."""
    from ..parallelism import processes

    _check(args)
    me = processes.member()
    if (args.process_id or 0 if me is None else me.index) == 0:  # of several hosts one alone writes
        _check_targets(args)
    if me is None and (args.processes > 1 or args.coordinator is not None):
        advice = (
            f"Give the same command again to continue from the last checkpoint in {args.checkpoint}, if there is one"
        )
        command = [sys.executable, "-m", "afm_ref", *args.argv]
        return processes.launch(command, args.processes, args.coordinator, args.process_id, advice)
    if args.fake_devices is not None:
        from ..parallelism.mesh import use_fake_devices

        use_fake_devices(args.fake_devices // args.processes)
    if me is None:
        return _train(args)
    with processes.joined(me):
        return _train(args)


def _check(args):
    options.at_least_one(args, ("steps", "batch", "seq_len", "checkpoint_every", "evaluate_every", "processes"))
    if args.fake_devices is not None and (args.fake_devices < 1 or args.fake_devices % args.processes):
        raise ValueError(
            f"--fake-devices {args.fake_devices} cannot be shared equally by {args.processes} process(es): give a "
            "multiple of --processes"
        )


def _check_targets(args):
    """Refuse where something cannot be written, before the training that would make it."""
    from .. import targets
    from ..interop import tensor_files

    targets.check_apart(config=args.config, checkpoint=args.checkpoint, history=args.history, save=args.save)
    targets.check_folder(args.checkpoint, "--checkpoint")
    if args.history is not None:
        targets.check_file(args.history, "--history")
    if args.save is not None:
        targets.check_folder(args.save, "--save", without=tensor_files.OTHER_MODELS)


def _train(args):
    import jax

    from ..training import fit
    from ..transformer import init

    cfg = options.read_config(args.config)
    layout, where = _layout(args, cfg)
    first = jax.process_index() == 0
    train, held_out, tokenizer = _text(args, cfg, progress=first)
    if first:
        print(f"{_millions(cfg)} on {where}; {len(train.tokens)} rows of {args.seq_len} tokens", file=sys.stderr)
    try:
        result = fit(
            init(cfg, args.seed),
            _loss(cfg),
            _batches(train, args),
            _optimizer(args, cfg),
            args.steps,
            layout=layout,
            evaluate=None if args.evaluate_every is None else _bits_per_byte(cfg, held_out),
            evaluate_every=args.evaluate_every or args.steps,
            checkpoint=args.checkpoint,
            checkpoint_every=args.checkpoint_every,
            progress=first,
        )
    except KeyboardInterrupt:
        if first:
            print(f"\ninterrupted; the same command continues from {args.checkpoint}", file=sys.stderr)
        raise
    if first:
        _finish(args, cfg, result, tokenizer)


def _finish(args, cfg, result, tokenizer):
    """Say how it went, and write what was asked for."""
    if args.history is not None:
        result.history.save(args.history)
    if args.save is not None:
        from ..interop import hugging_face

        hugging_face.save(args.save, result.params, cfg, tokenizer=tokenizer)
    for row in result.history.evaluations:
        print(f"step {row['step']}: {row['bits_per_byte']:.3f} bits per byte of held-out text")
    last = result.history.loss[-10:].mean()
    print(f"loss {last:.3f} nats a token over the last steps; checkpoints in {args.checkpoint}")


def _layout(args, cfg):
    """Return (the layout, or None on one device; what it is in words)."""
    import jax

    from ..layout import Layout
    from ..parallelism import strategies
    from ..parallelism.mesh import MeshShape

    shape = MeshShape(data=jax.device_count()) if args.mesh is None else MeshShape.parse(args.mesh)
    if shape.size > jax.device_count():
        raise ValueError(
            f"--mesh {shape} needs {shape.size} devices and there are {jax.device_count()}: give a smaller mesh, or "
            f"--fake-devices {shape.size} to let the CPU pass for them"
        )
    if jax.process_count() > 1 and shape.size != jax.device_count():
        raise ValueError(
            f"--mesh {shape} has {shape.size} devices, the {jax.process_count()} processes have {jax.device_count()}: "
            f"each must take part with all of its own, so give a mesh of {jax.device_count()}, or --fake-devices "
            f"{shape.size}"
        )
    if shape.size == 1:
        return None, "one device"
    plan = strategies.Plan(cfg, shape, sequence=args.sequence, zero=args.zero, microbatches=args.microbatches)
    layout = Layout(
        loss=strategies.NextToken(plan),
        place=partial(strategies.place, plan=plan),
        unplace=strategies.unplace,
        place_batch=partial(strategies.place_batch, plan=plan),
    )
    several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return layout, f"{shape.size} devices, {shape},{several}".rstrip(",")


def _text(args, cfg, progress):
    """Return (rows to train on, rows held out, the tokenizer): the shipped one, for it can write any text."""
    from .. import assets
    from ..data import mixture, packing
    from ..interop import hugging_face

    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    if cfg.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"vocab_size {cfg.vocab_size} of {args.config} is less than the tokenizer's {tokenizer.vocab_size}"
        )
    if args.folder is None:
        train, held_out = mixture.pretraining_documents(args.seed, progress=progress)
    else:
        train, held_out = mixture.folder_documents(args.folder, args.seed)
    return (
        packing.pack(train, tokenizer, args.seq_len),
        packing.pack_for_evaluation(held_out, tokenizer, args.seq_len),
        tokenizer,
    )


def _loss(cfg):
    from ..losses import next_token

    return partial(next_token, cfg=cfg)


def _batches(rows, args):
    from ..data.packing import batches

    return batches(rows, args.batch, args.seed)


def _optimizer(args, cfg):
    from ..pretraining import tiny_optimizer

    return tiny_optimizer(cfg, args.learning_rate, args.steps)


def _bits_per_byte(cfg, held_out):
    from ..data.packing import evaluation_batches
    from ..evaluation import bits_per_byte

    batches = evaluation_batches(held_out, 16)
    return lambda params: {"bits_per_byte": bits_per_byte(params, cfg, batches, held_out.text_bytes, progress=False)}


def _millions(cfg):
    from ..config import parameters

    return f"{parameters(cfg)['total'] / 1e6:.2f} million weights"
