"""Are 3.5 bits with recovery as good as 16? All stored bits counted, judged by what features do: for chapter 9.

    python -m experiments.few_bits                       # call it again to resume; about 2.5 CPU-hours
    NPROC=1 python -m experiments.few_bits --share 0 2   # every second run only, and no recording: two side by side
    python -m experiments.few_bits --seeds 2 --steps 3 --feature-steps 4 --held-out 6 --text-rows 10 \\
        --folder runs/few_bits_smoke --models runs/few_bits_smoke --no-ship

Question  is a model of 3.5 stored bits a projection weight (codes, tables and adapter), with recovery, within 2 points
          of success of the 16-bit model on every task?
Base      the instruct model. Bits: measured sensitivities on training text, the exact allocation
Recovery  an adapter from the residual, 600 steps of 512 tokens of the instruct model's own training text, taught by it.
          Rank 1 costs 0.13 bits here, as rank 16 does at AFM's size (0.14): so the model in question is palettes of
          about 3.3 bits and rank 1. The 16-bit arm trains an adapter of rank 1 on the same tokens in the same order
Features  one adapter for summaries, proofreading and tone, all harder than the instruct model has learnt; it starts
          from the arm's adapter and takes its place. As many steps as bring the 16-bit arm's success to 0.8 on each
          task on training records of another seed (a pilot)
Measured  greedy answers to 2,000 held-out records a task. For the frontier, held-out loss: of pre-training text, and
          of the instruct model's own tasks (added when the palettes alone and the first three arms had run, and no
          adapter of the frontier: of recovery's batches one in eight is text)
Arms      16 bits; 3.5 bits in all with rank 1; the same palettes without recovery (the feature's adapter starts from 0)
Seeds     5, of everything that is drawn in training
Primary   success less that of 16 bits, paired by record and seed, per task: not worse if the lower end of the one-sided
          95% t-interval over seeds lies above -0.02
Smallest  if the answers to a tenth of the records differ, a seed's difference has an se of sqrt(.1 / 2000) = .007, and
          the bound lies .007 x 2.13 / sqrt(5) = .007 below the mean; the margin of .02 is three times that
Own tasks the same arms, measure, margin and bound before any feature adapter: on the four tasks that the instruct model
          itself does. Added after two seeds, whose features of tone differed (.70 to .88) by more than the margin: the
          primary may end undecided there. What recovery alone trains hardly differs by seed
Tone      decided after the primary runs: of 28 closing sentences an adapter had learnt to begin those with some first
          words, in each seed others, which decides .69 or .88; without such a sentence every arm does every record. So
          tone once more by an adapter for tone alone, which sees three times as many of its records (a pilot: .99)
Frontier  held-out loss against all stored bits: palettes alone from 2.1 to 4; ranks 1, 2 and 4 at 3.5 bits in all;
          ranks 1, 4 and 16 over palettes of 3.5; the clipped grid and GPTQ, whole models of 2, 3 and 4 bits, inputs
          from the same mix as sensitivities (in a first run it had no text, by which it was measured: run again). Two
          seeds where adapters are trained; intervals over pieces of text
"""

from functools import cache, partial

import jax
import numpy as np

from afm_ref import assets, containers, evaluation, lora, losses
from afm_ref.data import packing, pretraining_text, tasks
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.quantization import alternatives, dequantize, palettize, quantize, recovery, stored_bits_per_weight
from afm_ref.quantization.bits import allocation, sensitivity
from afm_ref.training import fit
from afm_ref.whole_road.artifacts import plain

from . import _record, train_instruct
from ._quantization import (
    EQUAL_BITS,
    PIECE,
    alternative,
    bits_per_byte,
    costs_as_text,
    costs_of_text,
    counted,
    held_out_text,
    nats_per_token,
)

FEATURES = {"summarise": 3, "proofread": 3, "tone": 3}  # and their difficulty: the instruct model's is 1 at most
SEQ_LEN, NEW_TOKENS = 128, 56  # of 36,000 records the longest conversation has 124 tokens, the longest answer 53
TOTAL, MARGIN = 3.5, 0.02
PLAIN = (2.1, 2.5, 3.0, 3.5, 4.0)  # stored bits of palettes alone
AT_TOTAL, AT_CODES = (1, 2, 4), (1, 4, 16)  # ranks, at TOTAL stored bits and beside palettes of TOTAL code bits
RANGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
ARMS = ("16", "3.5", "3.5 without recovery")
OWN = ("summarise", "proofread", "tone", "answer")  # of the instruct model; it cannot do the fifth, sums
FRONTIER_SEEDS = 2
MEASURES = (
    ("features", "", FEATURES),
    ("tone alone", "tone_", ("tone",)),
    ("own tasks", "own_", OWN),
)  # and their runs


def arguments(line=None):
    """Return the command line's options."""
    parser, add = _record.options("few_bits", __doc__)
    add("--seeds", type=int, default=5)
    add("--steps", type=int, default=600, help="of recovery (default: %(default)s)")
    add("--batch-size", type=int, default=4, help="rows, of recovery (default: %(default)s)")
    add("--learning-rate", type=float, default=0.002, help="peak, of recovery (default: %(default)s)")
    add("--weight", type=float, default=0.9, help="the teacher's share of recovery's loss (default: %(default)s)")
    add("--feature-steps", type=int, default=300)
    add("--feature-batch-size", type=int, default=12, help="conversations (default: %(default)s)")
    add("--feature-learning-rate", type=float, default=0.015, help="peak (default: %(default)s)")
    add("--records", type=int, default=2000, help="training records a task (default: %(default)s)")
    add("--held-out", type=int, default=2000, help="held-out records a task (default: %(default)s)")
    add("--answers", type=int, default=100, help="held-out records a task of the model's own (default: %(default)s)")
    add("--text-rows", type=int, default=60, help="held-out rows a part of the text, at most (default: %(default)s)")
    return parser.parse_args(line)


class Bench:
    """The model, the text, the records and the measures that all runs share."""

    def __init__(self, a):
        self.a = a
        self.params, self.cfg, self.tok = assets.load_instruct()
        self.loss = partial(losses.next_token, cfg=self.cfg)
        self.compiled = jax.jit(self.loss)
        a.models.mkdir(parents=True, exist_ok=True)

    @cache  # noqa: B019
    def pieces(self):
        """Return the held-out text in pieces."""
        return held_out_text(self.tok, self.a.text_rows)

    @cache  # noqa: B019
    def training(self):
        """Return the instruct model's own training rows, and the pre-training text among them."""
        documents, _ = pretraining_text.pretraining_documents(0, progress=False)
        rows = train_instruct.training_rows(self.tok, train_instruct.arguments([]).records)
        return rows, packing.pack(documents, self.tok, train_instruct.SEQ_LEN)

    def feed(self, seed, batch_size=None):
        """Return step -> batch of the training rows, in a seed's order."""
        return train_instruct.alternating(*self.training(), seed, batch_size or self.a.batch_size)

    @cache  # noqa: B019
    def answers(self):
        """Return held-out records of the instruct model's own tasks as batches in which only answers count."""
        records = train_instruct.held_out(self.a.answers)
        order = np.random.default_rng(0).permutation(len(records))
        chats = [tasks.chat_tokens(self.tok, records[i].prompt, records[i].reference) for i in order]
        return packing.evaluation_batches(packing.pack_conversations(chats, self.tok, SEQ_LEN), PIECE)

    def measured(self, params):
        """Return the held-out losses: bits per byte of text, nats per token of answers, of each piece and of all."""
        params = plain(params)
        text = bits_per_byte(self.compiled, params, self.pieces())
        return text | nats_per_token(self.compiled, params, self.answers())

    def sample(self, seed, steps):
        """Return batches of training text, for sensitivities and inputs."""
        return [self.feed(seed, 8)(step) for step in range(steps)]

    @cache  # noqa: B019
    def costs(self):
        """Return each matrix's measured cost at 2 and 4 bits: {(matrix, layer): {bits: nats}}."""
        return costs_of_text(_record.kept(self.a.folder, "sensitivity", partial(sensitivity_run, self))["measured"])

    @cache  # noqa: B019
    def palettes(self, stored_bits, beside=0.0):
        """Return the palettes of the most code bits of which so many bits a weight are stored, with those `beside`."""
        shapes = {key: w.shape for key, w in containers.matrices(self.params).items()}
        stored = {(key, b): palettize(np.zeros(shape), b).stored_bits for key, shape in shapes.items() for b in (2, 4)}
        weights = allocation.weight_counts(self.cfg)
        low, high = 2.0, 4.0
        for _ in range(12):
            middle = (low + high) / 2
            bits = allocation.allocate(self.costs(), weights, middle)
            fits = sum(stored[item] for item in bits.items()) / sum(weights.values()) + beside <= stored_bits
            low, high = (middle, high) if fits else (low, middle)
        return self.quantized(low)

    @cache  # noqa: B019
    def quantized(self, average):
        """Return the model palettized at an average of code bits."""
        bits = allocation.allocate(self.costs(), allocation.weight_counts(self.cfg), average)
        return quantize(self.params, bits)

    def adapter_bits(self, rank):
        """Return the bits a weight that an adapter of this rank stores."""
        both = (stored_bits_per_weight(p) for p in (lora.attach(self.params, rank=rank), self.params))
        return float(np.subtract(*both))

    def base(self, arm):
        """Return (the weights that stay as they are, as plain arrays; the bits a weight that they store)."""
        if arm == "16":
            return self.params, 16.0
        palettes = self.palettes(TOTAL, self.adapter_bits(1))
        return dequantize(palettes), stored_bits_per_weight(palettes)


def sensitivity_run(bench):
    """Return each matrix's cost in nats per token at 2 and 4 bits, on training text."""
    found = sensitivity.measured_costs(bench.params, bench.cfg, bench.sample(99, 8), progress=False)
    return {"measured": costs_as_text(found)}


def plain_run(bench, total):
    """Return the loss of palettes alone."""
    palettes = bench.params if total is None else bench.palettes(total)
    bits = 16.0 if total is None else stored_bits_per_weight(palettes)
    return {"stored_bits": round(bits, 4)} | bench.measured(palettes)


def alternatives_run(bench, bits):
    """Return the loss and the stored bits of every scheme where all matrices have this width, the embedding 8 bits."""
    moments = sensitivity.input_moments(bench.params, bench.cfg, bench.sample(98, 32), full=True, progress=False)
    rows, blocks = EQUAL_BITS[bits]
    grid = partial(alternatives.uniform_grid, bits=bits, rows=rows)
    schemes = {
        "palette": lambda w, h: counted(palettize(w, bits)),
        "gptq palette": lambda w, h: counted(alternatives.gptq_palette(w, bits, h)),
        "grid": lambda w, h: grid(w, inputs=w.shape[1] // blocks),
        "clipped grid": lambda w, h: grid(w, inputs=w.shape[1] // blocks, ranges=RANGES),
        "gptq clipped grid": lambda w, h: grid(w, hessian=h, inputs=w.shape[1] // blocks, ranges=RANGES),
    }
    return {name: alternative(bench, scheme, moments) for name, scheme in schemes.items()}


def recovered(bench, base, rank, seed):
    """Return the base with an adapter trained to answer as the 16-bit model does; on 16 bits from B = 0."""
    a = bench.a
    start = "zero" if base is bench.params else "residual"
    optimizer = afm_optimizer(a.learning_rate, warmup_cosine(max(1, a.steps // 10), a.steps), weight_decay=1e-5)
    feed = bench.feed(seed)
    return recovery.recover(base, bench.params, bench.cfg, feed, optimizer, a.steps, rank=rank, alpha=float(rank),
                            weight=a.weight, start=start, seed=seed, progress=False).params  # fmt: skip


def frontier_run(bench, rank, seed, at_total):
    """Return the loss of palettes with a recovery adapter."""
    base = bench.palettes(TOTAL, bench.adapter_bits(rank)) if at_total else bench.quantized(TOTAL)
    bits = stored_bits_per_weight(base) + bench.adapter_bits(rank)
    return {"stored_bits": round(bits, 4)} | bench.measured(recovered(bench, dequantize(base), rank, seed))


def arm_run(bench, arm, seed):
    """Return what one arm does in one seed: the loss after recovery, and the success of its feature adapter."""
    base, bits = bench.base(arm)
    start = lora.attach(base, rank=1, alpha=1.0, seed=seed) if arm == ARMS[2] else before_features(bench, arm, seed)
    done = all_done(bench, feature(bench, start, seed, FEATURES), FEATURES, NEW_TOKENS)
    return {"stored_bits": round(bits + bench.adapter_bits(1), 4), "loss": bench.measured(start)} | done


def before_features(bench, arm, seed):
    """Return an arm's model after recovery, trained once for all its measures."""
    base, _ = bench.base(arm)
    path = bench.a.models / f"{arm}_{seed}.safetensors"
    if not path.exists():
        lora.files.save(path, recovered(bench, base, 1, seed), dtype="float32")
    return lora.files.put(base, lora.files.load(path))


def alone_run(bench, arm, task, seed):
    """Return what an arm does of one task whose feature adapter sees no other task."""
    of = {task: FEATURES[task]}
    return all_done(bench, feature(bench, before_features(bench, arm, seed), seed, of), of, NEW_TOKENS)


def own_run(bench, arm, seed):
    """Return what an arm does of the instruct model's own tasks; without recovery there is nothing to draw."""
    params = bench.base(arm)[0] if arm == ARMS[2] else before_features(bench, arm, seed)
    return all_done(bench, params, dict.fromkeys(OWN), train_instruct.NEW_TOKENS)


def all_done(bench, params, difficulties, new_tokens):
    """Return, for each {task: difficulty}, the share of held-out records done wholly, and which they are, as bits."""
    done, params = {}, plain(params)
    for task, level in difficulties.items():
        records = tasks.records(task, bench.a.held_out, seed=10_000, split="held_out", difficulty=level)
        done[task] = train_instruct.done(params, bench.cfg, bench.tok, records, new_tokens)
    return {
        "success": {task: round(float(of.mean()), 5) for task, of in done.items()},
        "records": {task: np.packbits(of).tobytes().hex() for task, of in done.items()},
    }


def feature(bench, start, seed, of):
    """Return the params after training the adapter on the tasks {task: difficulty}."""
    a, steps = bench.a, bench.a.feature_steps
    optimizer = afm_optimizer(a.feature_learning_rate, warmup_cosine(max(1, steps // 10), steps), weight_decay=1e-5)
    feed = packing.batches(
        feature_rows(bench.tok, a.records * len(FEATURES) // len(of), seed, of), a.feature_batch_size, seed
    )
    return fit(start, bench.loss, feed, optimizer, steps, select=lora.trainable, progress=False).params


def feature_rows(tok, count, seed, of=FEATURES):
    """Return so many training records of each task as rows, in a seed's order."""
    records = [r for task, level in of.items() for r in tasks.records(task, count, seed + 1, difficulty=level)]
    order = np.random.default_rng(seed).permutation(len(records))
    chats = [tasks.chat_tokens(tok, records[i].prompt, records[i].reference) for i in order]
    return packing.pack_conversations(chats, tok, SEQ_LEN)


def jobs(bench, a):
    """Return {key: function} of all runs."""
    runs = {"sensitivity": partial(sensitivity_run, bench)}
    for seed in range(a.seeds):
        runs |= {f"{arm}_{seed}": partial(arm_run, bench, arm, seed) for arm in ARMS}
    for seed in range(a.seeds):
        runs |= {f"own_{arm}_{seed}": partial(own_run, bench, arm, seed) for arm in ARMS[:2]}
    for seed in range(a.seeds):
        runs |= {f"tone_{arm}_{seed}": partial(alone_run, bench, arm, "tone", seed) for arm in ARMS[:2]}
    runs[f"own_{ARMS[2]}_0"] = partial(own_run, bench, ARMS[2], 0)
    runs |= {f"plain_{total or 16}": partial(plain_run, bench, total) for total in (None, *PLAIN)}
    runs |= {f"alternatives_{bits}": partial(alternatives_run, bench, bits) for bits in EQUAL_BITS}
    for seed in range(min(a.seeds, FRONTIER_SEEDS)):
        runs |= {f"rank_{r}_at_{TOTAL}_{seed}": partial(frontier_run, bench, r, seed, True) for r in AT_TOTAL}
        runs |= {f"rank_{r}_over_{TOTAL}_{seed}": partial(frontier_run, bench, r, seed, False) for r in AT_CODES}
    return runs


def less_16(runs, arm, task, seeds, before=""):
    """Return (mean, lower end) of an arm's success less that of 16 bits: the one-sided 95% interval over seeds.

    before: "own_" for the model's own tasks, where the arm without recovery is the same in every seed; "tone_" for the
    adapters of tone alone.
    """
    theirs = [runs[f"{before}16_{s}"]["success"][task] for s in seeds]
    ours = [runs.get(f"{before}{arm}_{s}", runs[f"{before}{arm}_0"])["success"][task] for s in seeds]
    mean, low, _ = evaluation.mean_interval(np.subtract(ours, theirs), 0.9)
    return mean, low


def verdict(numbers):
    """Return, per task, whether 3.5 bits with recovery are not worse than 16 by MARGIN."""
    runs, told = numbers["runs"], []
    seeds = sorted({int(key.split("_")[-1]) for key in runs if key.startswith("16_")})
    for name, before, of in MEASURES:
        found = {task: less_16(runs, "3.5", task, seeds, before) for task in of}
        each = ", ".join(f"{task} {mean:+.3f} (at least {low:+.3f})" for task, (mean, low) in found.items())
        shown = [task for task, (_, low) in found.items() if low > -MARGIN]
        told.append(f"{name}: not worse on {', '.join(shown) or 'none'}; {each}")
    return "; ".join(told)


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.models)
    bench = Bench(a)
    bench.costs()
    runs = _record.finished(jobs(bench, a), a.folder, tuple(a.share))
    for key, run in runs.items():
        print(f"{key:32} {run.get('success') or run.get('bits_per_byte')}")
    _record.ship("few_bits", a, a.seeds, runs, lora.files.fingerprint(bench.params))


if __name__ == "__main__":
    main()
