"""Train the model that chapters 9 to 12 build on: AFM_TINY, fine-tuned on the five tasks until it does them.

    nice -n 5 python -m experiments.train_instruct             # about 40 CPU-minutes; call it again to resume
    python -m experiments.train_instruct --steps 8 --records 40 --held-out 8 --assets runs/instruct_short --no-ship

Why: AFM_TINY has seen the tasks in a tenth of its text and answers almost none of them rightly, for it cannot yet copy
a name or a time out of a prompt. Copying comes suddenly in training, at a step that differs from seed to seed:
adapters, rewards and few bits, measured before it, measure chance. So all three start from a model that has learnt to
copy. It is an asset of its own; AFM_TINY and its tokenizer stay as they are.

Rows of 128 tokens: records of every difficulty that the pre-training text has (targets are the responses), and in every
eighth step that text itself. Chosen by pilots on training records: the rate (0.0015 was ahead of 0.003) and the steps.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref import assets, containers, evaluation, generation, losses
from afm_ref.data import packing, pretraining_text, tasks, tokenizer
from afm_ref.data.tasks.builders import PRETRAINING_DIFFICULTY
from afm_ref.interop import hugging_face
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.training import fit

from . import _record
from .train_tiny import SOURCES, of_source

SEED, SEQ_LEN, BATCH_SIZE = 0, 128, 8
TEXT_EVERY = 8  # steps: of this many one is on pre-training text
NEW_TOKENS = 72


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--steps", type=int, default=5000)
    add("--records", type=int, default=3000, help="training records a task and difficulty (default: %(default)s)")
    add("--held-out", type=int, default=400, help="held-out records a task (default: %(default)s)")
    add("--learning-rate", type=float, default=0.0015, help="peak (default: %(default)s)")
    add("--checkpoint", type=Path, default=Path("runs/train_instruct"))
    add("--assets", type=Path, default=Path("afm_ref/assets/instruct"))
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


def training_rows(tok, records):
    """Return so many records of each task and difficulty as rows, in random order."""
    found = [record for task, hardest in PRETRAINING_DIFFICULTY.items() for difficulty in range(hardest + 1)
             for record in tasks.records(task, records, seed=SEED + 1, difficulty=difficulty)]  # fmt: skip
    order = np.random.default_rng(SEED).permutation(len(found))
    chats = (tasks.chat_tokens(tok, found[i].prompt, found[i].reference) for i in order)
    return packing.pack_conversations([chat for chat in chats if len(chat.tokens) <= SEQ_LEN + 1], tok, SEQ_LEN)


def alternating(rows, text, seed=SEED, batch_size=BATCH_SIZE):
    """Return step -> batch: of rows, and in every TEXT_EVERY-th step of text."""
    of_rows, of_text = (packing.batches(of, batch_size, seed) for of in (rows, text))

    def batch(step):
        turn, place = divmod(step, TEXT_EVERY)
        return of_text(turn) if place == TEXT_EVERY - 1 else of_rows(step - turn)

    return batch


def successes(params, cfg, tok, records):
    """Return the share of records whose greedy answer does the whole task, by task."""
    table = {}
    for task in {record.task: None for record in records}:
        some = [record for record in records if record.task == task]
        table[task] = round(float(done(params, cfg, tok, some).mean()), 4)
    return table


def done(params, cfg, tok, records, new_tokens=NEW_TOKENS):
    """Return which records the model's greedy answers do wholly: [records] bool."""
    found = []
    for first in range(0, len(records), 64):
        some = records[first : first + 64]
        prompts = [tasks.chat_tokens(tok, record.prompt).tokens for record in some]
        said = generation.generate(params, cfg, prompts, new_tokens, stop=tokenizer.END)
        texts = [tok.decode([t for t in tokens.tolist() if t != tokenizer.END]) for tokens in said]
        found += [tasks.success(*pair) for pair in zip(some, texts, strict=True)]
    return np.array(found)


def held_out(count, seed=10_000):
    """Return held-out records of every task, of the difficulty that SFT is measured with."""
    return [record for task in tasks.TASKS for record in tasks.records(task, count, seed=seed, split="held_out")]


def bits_per_byte(params, cfg, tok, documents):
    """Return held-out bits per byte of each part of the pre-training text."""
    table = {}
    for part in SOURCES:
        rows = packing.pack_for_evaluation(of_source(documents, part), tok, 256)
        batches = packing.evaluation_batches(rows, 16)
        table[part] = evaluation.bits_per_byte(params, cfg, batches, rows.text_bytes, progress=False)
    return table


def main():
    """Train, measure, ship."""
    a = arguments()
    start, cfg, tok = assets.load_tiny()
    train, held_out_text = pretraining_text.pretraining_documents(0, progress=False)
    watched = [record for task in tasks.TASKS for record in tasks.records(task, a.held_out // 4, seed=20_000)]

    def watch(params):
        return successes(params._replace(layers=containers.ungroup(params.layers)), cfg, tok, watched)

    result = fit(
        start._replace(layers=containers.group(start.layers)),
        partial(losses.next_token, cfg=cfg),
        alternating(training_rows(tok, a.records), packing.pack(train, tok, SEQ_LEN)),
        afm_optimizer(a.learning_rate, warmup_cosine(max(1, a.steps // 10), a.steps), weight_decay=1e-5),
        a.steps,
        evaluate=watch,
        evaluate_every=max(1, a.steps // 10),
        checkpoint=a.checkpoint,
        checkpoint_every=max(1, a.steps // 10),
        callback=lambda history: print(history.evaluations[-1], flush=True),
        callback_every=max(1, a.steps // 10),
    )
    trained = result.params._replace(layers=containers.ungroup(result.params.layers))
    hugging_face.save(a.assets, trained, cfg, dtype="float16", tokenizer=tok)
    shipped, _ = hugging_face.load(a.assets)
    both = {"tiny": start, "instruct": shipped}
    numbers = {
        "steps": result.history.evaluation(next(iter(tasks.TASKS)))[0].tolist(),
        "training_success": {task: result.history.evaluation(task)[1].tolist() for task in tasks.TASKS},
        "success": {name: successes(p, cfg, tok, held_out(a.held_out)) for name, p in both.items()},
        "bits_per_byte": {name: bits_per_byte(p, cfg, tok, held_out_text) for name, p in both.items()},
    }
    print(numbers)
    if not a.no_ship:
        print(
            _record.save(
                "train_instruct", "python -m experiments.train_instruct", _record.config_of(a), [SEED], numbers
            )
        )


if __name__ == "__main__":
    main()
