"""python -m afm_ref adapt."""

import sys
from functools import partial
from pathlib import Path

EPILOG = """\
the task file has a JSON object on each line: {"prompt": "Make formal: hi Jo!", "completion": "Dear Jo,"}

examples
  python -m afm_ref adapt --task mine.jsonl --rank 16
  python -m afm_ref generate --adapter runs/adapter.safetensors --prompt "Make formal: hi Max!"

Ctrl-C saves a checkpoint and ends; the same command continues there."""


def add_arguments(parser):
    """Add the options of `adapt`."""

    def add(name, default, text, kind=int):
        parser.add_argument(name, type=kind, default=default, metavar="N" if kind is int else "X",
                            help=f"{text} (default: %(default)s)")  # fmt: skip

    parser.add_argument("--task", type=Path, required=True, metavar="FILE", help="JSON lines of prompt and completion")
    parser.add_argument("--model", metavar="FOLDER", help="the base (default: the shipped tiny model)")
    add("--rank", 16, "of the adapter")
    add("--alpha", 16.0, "the scale is alpha / rank", float)
    add("--steps", 400, "optimizer steps")
    add("--batch", 4, "rows a step")
    add("--learning-rate", 0.006, "peak", float)
    add("--held-out", 0.1, "share of the pairs that is measured and not trained on", float)
    add("--seed", 0, "of the first weights and of the order")
    parser.add_argument("--save", type=Path, default=Path("runs/adapter.safetensors"), metavar="PATH",
                        help="file of the adapter, or with --peft a folder (default: %(default)s)")  # fmt: skip
    parser.add_argument("--peft", action="store_true", help="save in the format of Hugging Face's PEFT")
    parser.add_argument("--checkpoint", type=Path, metavar="FOLDER",
                        help="where the run is kept and continued from (default: beside --save)")  # fmt: skip


def run(args):
    """Train an adapter on pairs of prompt and completion, the base frozen."""
    from .. import lora
    from ..interop import peft
    from ..losses import next_token
    from ..pretraining import tiny_optimizer
    from ..training import fit
    from .generate import load_model

    checkpoint = args.save.with_name(args.save.name + ".checkpoints") if args.checkpoint is None else args.checkpoint
    _check(args)
    _check_targets(args, checkpoint)
    params, cfg, tokenizer = load_model(args.model)
    trained, held_out = _rows(args, tokenizer)
    adapted = lora.attach(params, rank=args.rank, alpha=args.alpha, seed=args.seed)
    count = lora.costs.adapter_parameters(cfg, args.rank)
    print(f"rank {args.rank}: {count:,} numbers, {2 * count / 1e6:.2f} MB in 16 bits; {len(trained.tokens)} rows of "
          f"{trained.tokens.shape[1] - 1} tokens", file=sys.stderr)  # fmt: skip
    try:
        result = fit(
            adapted,
            partial(next_token, cfg=cfg),
            _batches(trained, args),
            tiny_optimizer(cfg, args.learning_rate, args.steps),
            args.steps,
            select=lora.trainable,
            evaluate=partial(_measure, cfg=cfg, rows=held_out),
            evaluate_every=args.steps,
            checkpoint=checkpoint,
        )
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command continues from {checkpoint}", file=sys.stderr)
        raise
    if args.peft:
        peft.save(args.save, result.params, dtype="float16", base_model=args.model or "")
    else:
        lora.files.save(args.save, result.params)
    for row in result.history.evaluations:
        print(f"step {row['step']}: {row['nats']:.3f} nats a token of held-out completions")
    print(f"adapter in {args.save}")


def _check(args):
    for name in ("rank", "steps", "batch"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is {getattr(args, name)}: give at least 1")
    if not 0 < args.held_out < 1:
        raise ValueError(f"--held-out is {args.held_out}: give a share between 0 and 1, such as 0.1")


def _check_targets(args, checkpoint):
    """Refuse where the adapter or its checkpoints cannot be written, before there are any."""
    from .. import targets

    targets.check_apart(task=args.task, model=args.model, save=args.save, checkpoint=checkpoint)
    (targets.check_folder if args.peft else targets.check_file)(args.save, "--save")
    targets.check_folder(checkpoint, "--checkpoint")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the (prompt, completion) pairs of a JSON-lines file; ValueError names the line that is wrong."""
    from .. import text_files

    pairs = []
    for number, record in text_files.read_json_lines(path):
        texts = [record.get(key) for key in ("prompt", "completion")] if isinstance(record, dict) else []
        if not (texts and all(isinstance(text, str) and text.strip() for text in texts)):
            raise ValueError(
                f'{path}, line {number}: expected {{"prompt": "...", "completion": "..."}}, both with text'
            )
        pairs.append(tuple(texts))
    if len(pairs) < 2:
        raise ValueError(f"{path} holds {len(pairs)} pairs: give at least 2, one of them to measure with")
    return pairs


def _rows(args, tokenizer):
    """Return (rows to train on, rows held out), as long as the longest conversation needs."""
    import numpy as np

    from ..data import packing, tasks
    from ..data.tokenizer import Tokenizer

    if not isinstance(tokenizer, Tokenizer):
        raise ValueError("this model's tokenizer has no turn markers: adapt needs a model that this project trained")
    pairs = read_pairs(args.task)
    order = np.random.default_rng(args.seed).permutation(len(pairs))
    chats = [tasks.chat_tokens(tokenizer, *pairs[i]) for i in order]
    seq_len = max(128, *(len(tokens) - 1 for tokens, _ in chats))
    cut = max(1, round(args.held_out * len(chats)))
    return tuple(packing.pack_conversations(part, tokenizer, seq_len) for part in (chats[cut:], chats[:cut]))


def _batches(rows, args):
    from ..data.packing import batches

    return batches(rows, min(args.batch, len(rows.tokens)), args.seed)


def _measure(params, cfg, rows):
    from ..data.packing import evaluation_batches
    from ..evaluation import total_loss
    from ..losses import next_token

    total, count = total_loss(params, partial(next_token, cfg=cfg), evaluation_batches(rows, 8), progress=False)
    return {"nats": total / count}
