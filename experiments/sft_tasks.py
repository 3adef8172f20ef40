"""Fine-tune the shipped model on all five tasks at once, and count how many held-out records it then does.

    python -m experiments.sft_tasks                  # three seeds; not recorded yet

Question  how many held-out records does the shipped model do when it is fine-tuned on all five tasks?
Arms      the shipped model as it is, and fine-tuned, three seeds

The tasks are to be neither trivial nor hopeless for what is built on them: between 30 and 70% each is the aim.
"""

import argparse
from functools import partial

import numpy as np

from afm_ref import assets, evaluation, generation, losses
from afm_ref.data import packing, tasks, tokenizer
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.training import fit

from . import _record

SEQ_LEN = 128
MAX_NEW_TOKENS = 80


def arguments():
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="independent runs (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1800, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--records", type=int, default=2000, help="training records a task (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=200, help="held-out records a task (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=0.003, help="peak (default: %(default)s)")
    return parser.parse_args()


def fine_tune(params, cfg, tok, a, seed):
    """Return the weights after supervised fine-tuning on records of this seed; only responses are targets."""
    conversations = [
        tasks.chat_tokens(tok, record.prompt, record.reference)
        for task in tasks.TASKS
        for record in tasks.records(task, a.records, seed=seed + 1)
    ]
    order = np.random.default_rng(seed).permutation(len(conversations))  # so that every row holds several tasks
    rows = packing.pack_conversations([conversations[i] for i in order], tok, SEQ_LEN)
    optimizer = afm_optimizer(a.learning_rate, warmup_cosine(a.steps // 10, a.steps), weight_decay=1e-5)
    batches = packing.batches(rows, batch_size=8, seed=seed)
    return fit(params, partial(losses.next_token, cfg=cfg), batches, optimizer, a.steps).params


def successes(params, cfg, tok, n) -> dict[str, float]:
    """Return each task's share of n held-out records that greedy decoding does wholly, and its mean score."""
    table = {}
    for task in tasks.TASKS:
        records = tasks.records(task, n, seed=10_000, split="held_out")
        prompts = [tasks.chat_tokens(tok, record.prompt).tokens for record in records]
        replies = generation.generate(params, cfg, prompts, MAX_NEW_TOKENS, stop=tokenizer.END)
        texts = [tok.decode([t for t in reply.tolist() if t != tokenizer.END]) for reply in replies]
        done = [tasks.success(record, text) for record, text in zip(records, texts)]
        scores = [tasks.score(record, text) for record, text in zip(records, texts)]
        table[task] = {"success": float(np.mean(done)), "score": float(np.mean(scores)), "example": texts[0]}
    return table


def verdict(numbers):
    """Return the share of held-out records that the fine-tuned models do, by task, with its interval over seeds."""
    return ", ".join(f"{task} {of[0]:.2f} [{of[1]:.2f}, {of[2]:.2f}]" for task, of in numbers["success"].items())


def main():
    """Fine-tune with each seed, measure, record."""
    a = arguments()
    params, cfg, tok = assets.load_tiny()
    base = successes(params, cfg, tok, a.held_out)
    runs = [successes(fine_tune(params, cfg, tok, a, seed), cfg, tok, a.held_out) for seed in range(a.seeds)]
    numbers = {"base": base, "runs": runs, "success": {}}
    for task in tasks.TASKS:
        values = [run[task]["success"] for run in runs]
        interval = evaluation.mean_interval(values) if a.seeds > 1 else values
        numbers["success"][task] = [round(float(v), 4) for v in interval]
        print(f"{task:10} base {base[task]['success']:.2f}   after SFT {numbers['success'][task]}")
        print(f"           first reply: {runs[0][task]['example']!r}")
    print(_record.save("sft_tasks", "python -m experiments.sft_tasks", vars(a), list(range(a.seeds)), numbers))


if __name__ == "__main__":
    main()
