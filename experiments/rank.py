"""Is an adapter of rank 16 limited by its rank, or by how it is trained? Numbers of chapter 8.

    python -m experiments.rank                       # call it again to resume; about an hour of a CPU
    NPROC=1 python -m experiments.rank --share 0 2   # every second run only, and no recording: two side by side
    python -m experiments.rank --seeds 2 --steps 3 --rates 1 --held-out 6 --records 60 \\
        --folder runs/rank_smoke --models runs/rank_smoke --no-ship

Question  is a rank of 16 too small for what fine-tuning changes, or does training not find the best adapter of it?
Base      the instruct model; the three features of experiments.few_bits, harder than it has learnt, together
Arms      adapters of rank 1, 4, 16 and 64 beside all matrices (alpha = rank: the scale is 1 for all); the same matrices
          themselves ("matrices"); the embedding and the gains alone ("rank 0"); everything ("full"); and the change of
          "matrices" cut to each rank by SVD. The base without any training
Tries     4 rates each, on a seed of its own, by the loss on training records of another seed
Measured  nats per token of the answers to 300 held-out records a task, the mean of the tasks
Seeds     5, paired: a seed draws the records, their order and A
Primary   cut to 16 less trained at 16: below 0, a better adapter of this rank exists than training has found; and cut
          to 16 less "matrices": what the rank itself costs. Both 97.5% t-intervals over seeds
Smallest  sd over seeds of a difference was .004 nats in the recording before: five seeds give a half-width of 1.6 sd
"""

from functools import cache, partial

import numpy as np

from afm_ref import assets, evaluation, lora, losses
from afm_ref.config import MATRICES
from afm_ref.data import packing, tasks
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.teaching.chapters import lora as chapter
from afm_ref.training import fit
from afm_ref.training.step import where

from . import _record
from ._few_bits import FEATURES, SEQ_LEN, feature_rows

RANKS = (1, 4, 16, 64)
WHOLE = {  # arm: the leaves that it trains
    "rank 0": lambda path: path.split(".")[-1] not in MATRICES,
    "matrices": lambda path: path.split(".")[-1] in MATRICES,
    "full": lambda path: True,
}
ADAPTER_RATES, WHOLE_RATES = (0.002, 0.006, 0.018, 0.054), (0.0004, 0.0012, 0.0036, 0.0108)
TRY_SEED, TRY_RECORDS_SEED = 100, 20_000


def arguments(line=None):
    """Return the command line's options."""
    parser, add = _record.options("rank", __doc__)
    add("--seeds", type=int, default=5)
    add("--steps", type=int, default=120)
    add("--batch-size", type=int, default=8, help="conversations (default: %(default)s)")
    add("--rates", type=int, default=4, help="rates that an arm tries (default: %(default)s)")
    add("--records", type=int, default=1000, help="training records a task (default: %(default)s)")
    add("--held-out", type=int, default=300, help="held-out records a task (default: %(default)s)")
    return parser.parse_args(line)


class Bench:
    """The model, the records and the measure that all runs share."""

    def __init__(self, a):
        self.a = a
        self.params, self.cfg, self.tok = assets.load_instruct()
        self.loss = partial(losses.next_token, cfg=self.cfg)

    def rows(self, task, count, seed, split="train"):
        """Return a task's records as rows, a conversation each."""
        found = tasks.records(task, count, seed=seed, split=split, difficulty=FEATURES[task])
        chats = [tasks.chat_tokens(self.tok, record.prompt, record.reference) for record in found]
        return packing.pack_conversations(chats, self.tok, SEQ_LEN)

    @cache  # noqa: B019
    def measured_on(self, seed, split):
        """Return {task: batches}."""
        of = {task: self.rows(task, self.a.held_out, seed, split) for task in FEATURES}
        return {task: packing.evaluation_batches(rows, 25) for task, rows in of.items()}

    def nats(self, params, seed=10_000, split="held_out"):
        """Return the mean over tasks of nats per token of the answers."""
        batches = self.measured_on(seed, split).values()
        each = [np.divide(*evaluation.total_loss(params, self.loss, some, progress=False)) for some in batches]
        return round(float(np.mean(each)), 5)

    def tune(self, arm, rate, seed):
        """Return the params after training one arm."""
        a = self.a
        feed = packing.batches(feature_rows(self.tok, a.records, seed), a.batch_size, seed)
        start = self.params if arm in WHOLE else lora.attach(self.params, rank=arm, alpha=float(arm), seed=seed)
        select = where(WHOLE[arm]) if arm in WHOLE else lora.trainable
        optimizer = afm_optimizer(rate, warmup_cosine(max(1, a.steps // 10), a.steps), weight_decay=1e-5)
        return fit(start, self.loss, feed, optimizer, a.steps, select=select, progress=False).params


def rates_of(a, arm):
    """Return the rates that an arm tries."""
    return (WHOLE_RATES if arm in WHOLE else ADAPTER_RATES)[-a.rates :]


def try_jobs(bench, a):
    """Return {key: function} of all tries."""

    def tried(arm, rate):
        return {"nats": bench.nats(bench.tune(arm, rate, TRY_SEED), TRY_RECORDS_SEED, "train")}

    return {f"try_{arm}_{rate:g}": partial(tried, arm, rate) for arm in (*RANKS, *WHOLE) for rate in rates_of(a, arm)}


def chosen(a, runs):
    """Return the rate of each arm: that of the lowest loss of its tries."""
    return {
        str(arm): min(rates_of(a, arm), key=lambda rate: runs[f"try_{arm}_{rate:g}"]["nats"])
        for arm in (*RANKS, *WHOLE)
    }


def run(bench, arm, rate, seed):
    """Return the held-out loss of one arm; of "matrices" also when its change is cut to each rank."""
    tuned = bench.tune(arm, rate, seed)
    found = {"rate": rate, "nats": bench.nats(tuned)}
    if arm == "matrices":
        found["cut"] = {str(rank): bench.nats(lora.extract(bench.params, tuned, rank)) for rank in RANKS}
    return found


def main_jobs(bench, a, rates):
    """Return {key: function} of all runs but the tries, seed by seed."""
    jobs = {"base": lambda: {"nats": bench.nats(bench.params)}}
    for seed in range(a.seeds):
        jobs |= {f"{arm}_{seed}": partial(run, bench, arm, rates[str(arm)], seed) for arm in (*RANKS, *WHOLE)}
    return jobs


def verdict(numbers):
    """Return both comparisons, and what the base leaves to be gained, in thousandths of a nat."""
    runs = numbers["runs"]
    found = {name: np.multiply(1000, of) for name, of in chapter.rank_primary(runs).items()}
    gained = 1000 * (runs["base"]["nats"] - chapter.rank_losses(runs)["matrices"].mean())
    told = "; ".join(_record.told(*of) for of in found.items())
    return f"in thousandths of a nat, of which tuning the matrices gains {gained:.0f}: {told}"


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.models)
    bench = Bench(a)
    runs = _record.tried(try_jobs(bench, a), a)
    rates = chosen(a, runs)
    runs |= _record.finished(main_jobs(bench, a, rates), a.folder, tuple(a.share))
    for key, found in runs.items():
        print(f"{key:20} {found['nats']:.4f} {found.get('cut', '')}")
    _record.ship("rank", a, a.seeds, runs, lora.files.fingerprint(bench.params), chosen=rates)


if __name__ == "__main__":
    main()
