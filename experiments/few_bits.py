"""Are 3.5 bits with recovery as good as 16? All stored bits counted, judged by what features do: for chapter 9.

    python -m experiments.few_bits                       # call it again to resume; about 3.5 CPU-hours
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
          95% t-interval over seeds lies above -0.02 (and, added with the own tasks, that over records)
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

from functools import partial

import numpy as np

from afm_ref import containers, lora
from afm_ref.quantization import alternatives, dequantize, int8, palettize, stored_bits_per_weight
from afm_ref.quantization.bits import sensitivity
from afm_ref.teaching.chapters.quantization import lead

from . import _record, train_instruct
from ._few_bits import (
    ARMS,
    FEATURES,
    NEW_TOKENS,
    TOTAL,
    Bench,
    all_done,
    before_features,
    feature,
    recovered,
    sensitivity_run,
)

MARGIN = 0.02
EQUAL_BITS = {2: (8, 1), 3: (4, 1), 4: (4, 2)}  # bits: (rows, blocks along a row) of a grid that takes a palette's bits
PLAIN = (2.1, 2.5, 3.0, 3.5, 4.0)  # stored bits of palettes alone
AT_TOTAL, AT_CODES = (1, 2, 4), (1, 4, 16)  # ranks, at TOTAL stored bits and beside palettes of TOTAL code bits
RANGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
OWN = ("summarise", "proofread", "tone", "answer")  # of the instruct model; it cannot do the fifth, sums
FRONTIER_SEEDS = 2
# name, how the keys of its runs begin, tasks
MEASURES = (("features", "", FEATURES), ("tone alone", "tone_", ("tone",)), ("own tasks", "own_", OWN))


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


def counted(palette):
    """Return (dense matrix, bits a weight) of a palette."""
    return palette.dense(), palette.bits_per_weight


def alternative(bench, scheme, moments):
    """Return the loss of the model with every matrix made anew by one scheme, and the mean of the bits it takes."""
    bits, weights = [], []

    def anew(name, w, numbers):
        dense, counted_bits = scheme(np.asarray(w), moments[name, numbers[0]])
        bits.append(counted_bits)
        weights.append(w.size)
        return dense

    params = containers.map_matrices(bench.params._replace(embed=int8(bench.params.embed).dense()), anew)
    return bench.measured(params) | {"counted_bits": round(float(np.average(bits, weights=weights)), 4)}


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


def alone_run(bench, arm, task, seed):
    """Return what an arm does of one task whose feature adapter sees no other task."""
    of = {task: FEATURES[task]}
    return all_done(bench, feature(bench, before_features(bench, arm, seed), seed, of), of, NEW_TOKENS)


def own_run(bench, arm, seed):
    """Return what an arm does of the instruct model's own tasks; without recovery there is nothing to draw."""
    params = bench.base(arm)[0] if arm == ARMS[2] else before_features(bench, arm, seed)
    return all_done(bench, params, dict.fromkeys(OWN), train_instruct.NEW_TOKENS)


def jobs(bench, a):
    """Return {key: function} of all runs."""
    runs = {"sensitivity": partial(sensitivity_run, bench)}
    for seed in range(a.seeds):
        runs |= {f"{arm}_{seed}": partial(arm_run, bench, arm, seed) for arm in ARMS}
    for seed in range(a.seeds):
        runs |= {f"own_{arm}_{seed}": partial(own_run, bench, arm, seed) for arm in ARMS[:2]}
        runs |= {f"tone_{arm}_{seed}": partial(alone_run, bench, arm, "tone", seed) for arm in ARMS[:2]}
    runs[f"own_{ARMS[2]}_0"] = partial(own_run, bench, ARMS[2], 0)
    runs |= {f"plain_{total or 16}": partial(plain_run, bench, total) for total in (None, *PLAIN)}
    runs |= {f"alternatives_{bits}": partial(alternatives_run, bench, bits) for bits in EQUAL_BITS}
    for seed in range(min(a.seeds, FRONTIER_SEEDS)):
        runs |= {f"rank_{r}_at_{TOTAL}_{seed}": partial(frontier_run, bench, r, seed, True) for r in AT_TOTAL}
        runs |= {f"rank_{r}_over_{TOTAL}_{seed}": partial(frontier_run, bench, r, seed, False) for r in AT_CODES}
    return runs


def verdict(numbers):
    """Return, per task, whether 3.5 bits with recovery are not worse than 16 by MARGIN."""
    runs, told = numbers["runs"], []
    for name, before, of in MEASURES:
        found = {task: lead(runs, "3.5", before, task)[1:] for task in of}
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
