"""python -m afm_ref train."""

import sys
from functools import partial

import jax

from .. import assets, config, evaluation, losses, training
from ..data import packing, pretraining_text
from ..disk import targets
from ..interop import hugging_face
from ..parallelism import mesh, processes
from ..parallelism.mesh import MeshShape
from ..parallelism.sharded import strategies
from ..pretraining import tiny_optimizer
from ..training.layout import Layout
from ..transformer import init
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
    group = parser.add_argument_group("the run")
    number, place = partial(options.number, group), partial(options.place, group)
    options.of_training(
        group,
        steps=(
            1000,
            "optimizer steps of the whole run, which the learning rate's schedule spans",
        ),
        batch=(8, "rows a step, over all devices together"),
        seq_len=(256, "tokens in a row"),
    )
    group.add_argument(
        "--folder",
        metavar="TEXTS",
        help="train on the .txt and .md files there, not on Python's texts",
    )
    place("--checkpoint", "runs/train", "where the run is kept and continued from")
    number("--checkpoint-every", 100, "steps")
    number(
        "--evaluate-every",
        None,
        "steps between measures of the bits per byte of held-out text (default: none)",
    )
    place("--history", None, "write the losses of all steps there, as JSON", "FILE")
    place("--save", None, "write the trained model there, for `generate`")
    _add_devices(parser.add_argument_group("devices and processes"))


def _add_devices(group):
    number = partial(options.number, group)
    add = group.add_argument
    add(
        "--mesh",
        metavar="AXES",
        help="devices along data, fsdp, pipe, seq, model: data=2,fsdp=2 (default: data)",
    )
    add("--sequence", choices=("norm", "gather", "ring"),
        help="norm: cut the norms' regions over model; gather, ring: cut each row over seq")  # fmt: skip
    add(
        "--zero",
        type=int,
        choices=(1, 2, 3),
        default=3,
        help="what fsdp cuts (default: 3, all)",
    )
    number("--microbatches", None, "of the pipeline (default: as many as stages)")
    number(
        "--fake-devices",
        None,
        "let the CPU pass for N devices, over all processes together",
    )
    number("--processes", 1, "all are started here, unless there is a coordinator")
    add(
        "--coordinator",
        metavar="HOST:PORT",
        help="on several hosts: where process 0 listens",
    )
    number("--process-id", None, "on several hosts: which process this one is, from 0")


def run(args):
    """Train a fresh model on one device, on many, or in several processes."""
    _check(args)
    me = processes.member()
    if (args.process_id or 0 if me is None else me.index) == 0:  # one host writes
        _check_targets(args)
    if me is None and (args.processes > 1 or args.coordinator is not None):
        advice = (
            "Give the same command again to continue from the last checkpoint in "
            f"{args.checkpoint}, if there is one"
        )
        command = [sys.executable, "-m", "afm_ref", *args.argv]
        return processes.launch(
            command, args.processes, args.coordinator, args.process_id, advice
        )
    if args.fake_devices is not None:
        mesh.use_fake_devices(args.fake_devices // args.processes)
    if me is None:
        return _train(args)
    with processes.joined(me):
        return _train(args)


def _check(args):
    options.check(
        args,
        at_least_1=(
            "steps",
            "batch",
            "seq_len",
            "checkpoint_every",
            "evaluate_every",
            "processes",
        ),
    )
    if args.fake_devices is not None and (
        args.fake_devices < 1 or args.fake_devices % args.processes
    ):
        raise ValueError(
            f"--fake-devices {args.fake_devices} cannot be shared equally by {args.processes} process(es): give a "
            "multiple of --processes"
        )


def _check_targets(args):
    """Refuse where something cannot be written, before the training that would make it."""
    targets.check_apart(
        config=args.config, checkpoint=args.checkpoint, history=args.history, save=args.save
    )
    targets.check_folder(args.checkpoint, "--checkpoint")
    if args.history:
        targets.check_file(args.history, "--history")
    if args.save:
        targets.check_folder(args.save, "--save", without=hugging_face.OTHER_MODELS)


def _train(args):
    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)  # it can write any text
    cfg = options.read_config(args.config, tokenizer)
    layout, where = _layout(args, cfg)
    first = jax.process_index() == 0
    train, held_out = _rows(args, tokenizer, progress=first)
    if first:
        millions = config.parameters(cfg)["total"] / 1e6
        rows = f"{len(train.tokens)} rows of {args.seq_len} tokens"
        print(f"{millions:.2f} million weights on {where}; {rows}", file=sys.stderr)
    with options.resumable(args.checkpoint, tell=first):
        result = training.fit(
            init(cfg, args.seed), partial(losses.next_token, cfg=cfg), packing.batches(train, args.batch, args.seed),
            tiny_optimizer(cfg, args.learning_rate, args.steps), args.steps,
            layout=layout, checkpoint=args.checkpoint, checkpoint_every=args.checkpoint_every,
            evaluate=args.evaluate_every and partial(_measure, cfg=cfg, rows=held_out),
            evaluate_every=args.evaluate_every or args.steps, progress=first,
        )  # fmt: skip
    if first:
        _finish(args, cfg, result, tokenizer)


def _rows(args, tokenizer, progress):
    """Return (rows to train on, rows held out)."""
    if args.folder is None:
        train, held_out = pretraining_text.pretraining_documents(
            args.seed, progress=progress
        )
    else:
        train, held_out = pretraining_text.folder_documents(args.folder, args.seed)
    held_out = packing.pack_for_evaluation(held_out, tokenizer, args.seq_len)
    return packing.pack(train, tokenizer, args.seq_len), held_out


def _measure(params, cfg, rows):
    batches = packing.evaluation_batches(rows, 16)
    return {
        "bits_per_byte": evaluation.bits_per_byte(
            params, cfg, batches, rows.text_bytes, progress=False
        )
    }


def _layout(args, cfg):
    """Return (the layout, or None on one device; what it is in words)."""
    there = jax.device_count()
    shape = MeshShape(data=there) if args.mesh is None else MeshShape.parse(args.mesh)
    if shape.size > there:
        raise ValueError(
            f"--mesh {shape} needs {shape.size} devices and there are {there}: give a smaller mesh, or "
            f"--fake-devices {shape.size} to let the CPU pass for them"
        )
    if jax.process_count() > 1 and shape.size != there:
        raise ValueError(
            f"--mesh {shape} has {shape.size} devices, the {jax.process_count()} processes have {there}: "
            f"each must take part with all of its own, so give a mesh of {there}, or --fake-devices "
            f"{shape.size}"
        )
    if shape.size == 1:
        return None, "one device"
    plan = strategies.Plan(
        cfg, shape, sequence=args.sequence, zero=args.zero, microbatches=args.microbatches
    )
    layout = Layout(
        loss=strategies.NextToken(plan),
        place=partial(strategies.place, plan=plan),
        unplace=strategies.unplace,
        place_batch=partial(strategies.place_batch, plan=plan),
    )
    told = f"{shape.size} devices, {shape}"
    if jax.process_count() > 1:
        told += f", in {jax.process_count()} processes"
    return layout, told


def _finish(args, cfg, result, tokenizer):
    """Say how it went, and write what was asked for."""
    if args.history:
        result.history.save(args.history)
    if args.save:
        hugging_face.save(args.save, result.params, cfg, tokenizer=tokenizer)
    for row in result.history.evaluations:
        print(
            f"step {row['step']}: {row['bits_per_byte']:.3f} bits per byte of held-out text"
        )
    last = result.history.loss[-10:].mean()
    print(
        f"loss {last:.3f} nats a token over the last steps; checkpoints in {args.checkpoint}"
    )
