"""python -m afm_ref adapt."""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from .. import evaluation, lora, losses, training
from ..data import packing, tasks
from ..data.tokenizer import Tokenizer
from ..disk import targets, text_files
from ..interop import peft
from ..pretraining import tiny_optimizer
from . import generate, options

EPILOG = """\
the task file has a JSON object on each line: {"prompt": "Make formal: hi Jo!", "completion": "Dear Jo,"}

examples
  python -m afm_ref adapt --task mine.jsonl --rank 16
  python -m afm_ref generate --adapter runs/adapter.safetensors --prompt "Make formal: hi Max!"

Ctrl-C saves a checkpoint and ends; the same command continues there."""


def add_arguments(parser):
    """Add the options of `adapt`."""
    number, place = partial(options.number, parser), partial(options.place, parser)
    parser.add_argument(
        "--task",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON lines of prompt and completion",
    )
    parser.add_argument(
        "--model", metavar="FOLDER", help="the base (default: the shipped tiny model)"
    )
    number("--rank", 16, "of the adapter")
    number("--alpha", 16.0, "the scale is alpha / rank")
    number("--steps", 400, "optimizer steps")
    number("--batch", 4, "rows a step")
    number("--learning-rate", 0.006, "peak")
    number("--held-out", 0.1, "share of the pairs that is measured and not trained on")
    number("--seed", 0, "of the first weights and of the order")
    place(
        "--save",
        "runs/adapter.safetensors",
        "file of the adapter, or with --peft a folder",
        "PATH",
    )
    parser.add_argument(
        "--peft", action="store_true", help="save in the format of Hugging Face's PEFT"
    )
    place(
        "--checkpoint",
        None,
        "where the run is kept and continued from (default: beside --save)",
    )


def run(args):
    """Train an adapter on pairs of prompt and completion, the base frozen."""
    checkpoint = args.checkpoint or args.save.with_name(args.save.name + ".checkpoints")
    _check(args, checkpoint)
    params, cfg, tokenizer = generate.load_model(args.model)
    trained, held_out = _rows(args, tokenizer)
    adapted = lora.attach(params, rank=args.rank, alpha=args.alpha, seed=args.seed)
    count = lora.costs.adapter_parameters(cfg, args.rank)
    print(f"rank {args.rank}: {count:,} numbers, {2 * count / 1e6:.2f} MB in 16 bits; {len(trained.tokens)} rows of "
          f"{trained.tokens.shape[1] - 1} tokens", file=sys.stderr)  # fmt: skip
    with options.resumable(checkpoint):
        result = training.fit(
            adapted, partial(losses.next_token, cfg=cfg),
            packing.batches(trained, min(args.batch, len(trained.tokens)), args.seed),
            tiny_optimizer(cfg, args.learning_rate, args.steps), args.steps,
            select=lora.trainable, checkpoint=checkpoint,
            evaluate=partial(_measure, cfg=cfg, rows=held_out), evaluate_every=args.steps,
        )  # fmt: skip
    if args.peft:
        peft.save(args.save, result.params, dtype="float16", base_model=args.model or "")
    else:
        lora.files.save(args.save, result.params)
    for row in result.history.evaluations:
        print(f"step {row['step']}: {row['nats']:.3f} nats a token of held-out completions")
    print(f"adapter in {args.save}")


def _check(args, checkpoint):
    """Refuse what is wrong with the options, and places that cannot be written."""
    options.check(args, at_least_1=("rank", "steps", "batch"))
    if not 0 < args.held_out < 1:
        raise ValueError(
            f"--held-out is {args.held_out}: give a share between 0 and 1, such as 0.1"
        )
    targets.check_apart(
        task=args.task, model=args.model, save=args.save, checkpoint=checkpoint
    )
    (targets.check_folder if args.peft else targets.check_file)(args.save, "--save")
    targets.check_folder(checkpoint, "--checkpoint")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the (prompt, completion) pairs of a JSON-lines file; ValueError names a bad
    line.
    """
    pairs = []
    for number, record in text_files.read_json_lines(path):
        record = record if isinstance(record, dict) else {}
        texts = [record.get(key) for key in ("prompt", "completion")]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(
                f'{path}, line {number}: expected {{"prompt": "...", "completion": "..."}}, both with text'
            )
        pairs.append(tuple(texts))
    if len(pairs) < 2:
        raise ValueError(
            f"{path} holds {len(pairs)} pairs: give at least 2, one of them to measure with"
        )
    return pairs


def _rows(args, tokenizer):
    """Return (rows to train on, rows held out), as long as the longest pair needs."""
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(
            "this model's tokenizer has no turn markers: adapt needs a model that this project trained"
        )
    pairs = read_pairs(args.task)
    order = np.random.default_rng(args.seed).permutation(len(pairs))
    chats = [tasks.chat_tokens(tokenizer, *pairs[i]) for i in order]
    seq_len = max(128, *(len(tokens) - 1 for tokens, _ in chats))
    cut = max(1, round(args.held_out * len(chats)))
    return tuple(
        packing.pack_conversations(part, tokenizer, seq_len)
        for part in (chats[cut:], chats[:cut])
    )


def _measure(params, cfg, rows):
    loss = partial(losses.next_token, cfg=cfg)
    batches = packing.evaluation_batches(rows, 8)
    total, count = evaluation.total_loss(params, loss, batches, progress=False)
    return {"nats": total / count}
