"""The runs of `experiments.quantization`: what each trains and measures, on one bench."""

import copy
import math
from functools import lru_cache, partial

import jax
import numpy as np

from afm_ref import containers, evaluation, lora, losses
from afm_ref.config import kv_cache_bytes_per_token
from afm_ref.data import packing, pretraining_text, tasks
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.quantization import alternatives, dequantize, eight_bit_cache, int8, palettize, quantize, recovery, sizes
from afm_ref.quantization.bits import allocation, sensitivity
from afm_ref.training import fit
from afm_ref.whole_road.artifacts import plain

from . import _record
from . import lora as chapter5
from .train_tiny import SEQ_LEN, SOURCES, of_source

AVERAGES = {"16": None, "4": 4.0, "3.7": 3.7, "3.5": 3.5, "2": 2.0}
WITHIN = 0.01  # how far an average may lie below what is asked for
RANKS, RANK = (4, 16, 32), 16
FEATURES, FEATURE_SEQ_LEN = chapter5.FEATURES, chapter5.SEQ_LEN
FROM_ZERO = ("16", "3.5", "2")
STARTS = ("16_bits", "zero", "recovery")
FRONTIER = (2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 3.7, 3.75, 4.0)
EQUAL_BITS = {2: (8, 1), 3: (4, 1), 4: (4, 2)}  # bits: (rows, blocks along a row) of a grid that takes a palette's bits


class Bench(chapter5.Bench):
    """The model, the text, the tasks and the measures that all parts share."""

    def __init__(self, a):
        super().__init__(a)
        self.train, held_out = pretraining_text.pretraining_documents(0, progress=False)
        self.text, self.text_bytes = [], []
        for part in SOURCES:
            self.add_text(packing.pack_for_evaluation(of_source(held_out, part), self.tok, SEQ_LEN))
        self.compiled = jax.jit(self.loss)

    def add_text(self, rows, per_batch=10):
        """Take the first rows of one part of the held-out text, as batches of one shape."""
        for start in range(0, self.a.text_rows, per_batch):
            chosen = np.arange(start, start + per_batch)
            self.text.append(packing.batch_of(rows, chosen))
            self.text_bytes.append(int(self.tok.byte_lengths(rows.tokens[chosen]).sum()))

    @lru_cache(maxsize=1)  # noqa: B019
    def train_rows(self):
        """Return the pre-training text, packed."""
        return packing.pack(self.train, self.tok, SEQ_LEN)

    def sample(self):
        """Return batches of training text for sensitivities: the held-out text is for the results alone."""
        batch = packing.batches(self.train_rows(), 8, seed=99)
        return [batch(step) for step in range(self.a.sensitivity_rows // 8)]

    def costs(self):
        """Return {(matrix, layer): {bits: nats}} as the part `sensitivity` measured them."""
        table = _record.kept(self.a.folder, "sensitivity", partial(sensitivity_run, self))["measured"]
        return {tuple_of(key): {int(b): nats for b, nats in row.items()} for key, row in table.items()}

    @lru_cache(maxsize=8)  # noqa: B019
    def base(self, name):
        """Return the model at one of AVERAGES, its bits chosen by the exact allocation, as dense arrays."""
        return self.params if name == "16" else dequantize(self.palettes(name))

    def palettes(self, name):
        """Return the quantized model."""
        return quantize(self.params, self.bits(AVERAGES[name], WITHIN))

    def bits(self, average, within=None):
        """Return the bits of every matrix."""
        return allocation.allocate(self.costs(), allocation.weight_counts(self.cfg), average, within=within)

    def alone(self, task):
        """Return this bench with one task only."""
        one = copy.copy(self)
        one.held_out = {task: self.held_out[task]}
        return one

    def bits_per_byte(self, params):
        """Return bits per byte of the held-out text, in all and batch by batch."""
        nats = np.array([float(self.compiled(params, batch)[0]) for batch in self.text]) / math.log(2)
        by_batch = [round(float(x), 5) for x in nats / self.text_bytes]
        return {"bits_per_byte": round(float(nats.sum() / sum(self.text_bytes)), 5), "by_batch": by_batch}

    def report(self, params, scores=True):
        """Return the measures of a model, of any weights; all are compiled once, for plain ones."""
        params = plain(params)
        table = self.bits_per_byte(params) | {"nats": self.nats(params)}
        return table | ({"scores": self.scores(params)} if scores else {})


def text_of(key):
    """Return ("wq", 0) as "0.wq"."""
    return f"{key[1]}.{key[0]}"


def tuple_of(text):
    """Return "0.wq" as ("wq", 0)."""
    layer, name = text.split(".")
    return name, int(layer)


def sensitivity_run(bench):
    """Return each matrix's cost in nats per token at 2 and 4 bits: measured, and predicted by the Fisher diagonal."""
    batches = bench.sample()
    measured = sensitivity.measured_costs(bench.params, bench.cfg, batches, progress=False)
    fisher = sensitivity.fisher(bench.params, bench.cfg, batches, progress=False)
    predicted = sensitivity.predicted_costs(bench.params, fisher)
    return {
        name: {text_of(key): {str(b): float(f"{x:.5g}") for b, x in row.items()} for key, row in table.items()}
        for name, table in (("measured", measured), ("predicted", predicted))
    }


def frontier_run(bench):
    """Return, for each average, the summed cost of three ways to choose the bits, and the exact one's held-out loss."""
    costs, weights = bench.costs(), allocation.weight_counts(bench.cfg)
    ways = {"exact": allocation.allocate, "greedy": allocation.greedy, "lagrangian": allocation.lagrangian}
    table = {}
    for average in FRONTIER:
        row = {}
        for name, choose in ways.items():
            bits = choose(costs, weights, average)
            row[name] = {
                "average_bits": round(sum(b * weights[k] for k, b in bits.items()) / sum(weights.values()), 4),
                "cost": round(sum(costs[k][b] for k, b in bits.items()), 5),
            }
        bits = bench.bits(average)
        row["bits_per_byte"] = bench.bits_per_byte(plain(quantize(bench.params, bits)))["bits_per_byte"]
        row["at_2_bits"] = sorted(text_of(key) for key, b in bits.items() if b == 2)
        table[str(average)] = row
    return table


def bits_run(bench, name):
    """Return the measures and sizes of the model at one average, without an adapter."""
    half = jax.tree.map(np.float16, bench.params)
    size = sizes(half if name == "16" else bench.palettes(name))
    return bench.report(bench.base(name)) | {
        "projection_bits": round(size.projection_bits, 4),
        "model_bits": round(size.model_bits, 4),
        "stored_bytes": size.stored_bytes,
    }


def recovered_run(bench, name, rank, seed, start="residual"):
    """Train one recovery adapter, keep it, and return its measures."""
    a = bench.a
    result = recovery.recover(
        bench.base(name),
        bench.params,
        bench.cfg,
        packing.batches(bench.train_rows(), a.batch_size, seed),
        afm_optimizer(a.learning_rate, warmup_cosine(a.steps // 10, a.steps), weight_decay=1e-5),
        a.steps,
        rank=rank,
        weight=a.weight,
        start=start,
        seed=seed,
        progress=False,
    )
    lora.files.save(adapter_file(bench, name, rank, seed, start), result.params, dtype="float32")
    first = recovery.from_residual(bench.base(name), bench.params, rank) if start == "residual" and seed == 0 else None
    untrained = {} if first is None else {"untrained_bits_per_byte": bench.bits_per_byte(plain(first))["bits_per_byte"]}
    return bench.report(result.params, scores=rank == RANK) | untrained


def adapter_file(bench, name, rank, seed, start="residual"):
    """Return where a recovery adapter is kept."""
    return bench.a.folder / f"{name}_{rank}_{start}_{seed}.safetensors"


def recovered(bench, name, rank, seed):
    """Return the base with the recovery adapter that `recovered_run` kept."""
    return lora.files.put(bench.base(name), lora.files.load(adapter_file(bench, name, rank, seed)))


def feature_run(bench, task, start, seed):
    """Train one task's adapter from one start, and return its loss along the way and its score."""
    a, one = bench.a, bench.alone(task)
    if start == "recovery":
        params = recovered(bench, "3.5", RANK, seed)
    else:
        params = lora.attach(bench.base("3.5" if start == "zero" else "16"), rank=RANK, seed=seed)
    rows = bench.rows(tasks.records(task, a.records, seed=seed + 1), FEATURE_SEQ_LEN)
    optimizer = afm_optimizer(
        a.feature_learning_rate, warmup_cosine(a.feature_steps // 10, a.feature_steps), weight_decay=1e-5
    )
    result = fit(params, bench.loss, packing.batches(rows, a.feature_batch_size, seed), optimizer, a.feature_steps,
                 select=lora.trainable, evaluate=lambda p: one.nats(plain(p)),
                 evaluate_every=max(1, a.feature_steps // 4), progress=False)  # fmt: skip
    at, nats = result.history.evaluation(task)
    return {"steps": [int(s) for s in at], "nats": [round(float(x), 5) for x in nats]} | one.scores(
        plain(result.params)
    )[task]


def alternatives_run(bench):
    """Return held-out loss and counted bits of every scheme at every width; the embedding has 8 bits in all."""
    moments = sensitivity.input_moments(bench.params, bench.cfg, bench.sample(), full=True, progress=False)
    table = {}
    for bits, (rows, blocks) in EQUAL_BITS.items():
        schemes = {
            "palette": lambda w, h: quantized(w, bits),  # noqa: B023
            "palette_weighted": lambda w, h: quantized(w, bits, np.diag(h)),  # noqa: B023
            "gptq_palette": lambda w, h: counted(alternatives.gptq_palette(w, bits, h)),  # noqa: B023
            "grid": lambda w, h: alternatives.uniform_grid(w, bits, None, rows, w.shape[1] // blocks),  # noqa: B023
            "gptq_grid": lambda w, h: alternatives.uniform_grid(w, bits, h, rows, w.shape[1] // blocks),  # noqa: B023
        }
        table[str(bits)] = {name: alternative(bench, scheme, moments) for name, scheme in schemes.items()}
    return table


def quantized(w, bits, importance=None):
    """Return a palette as the alternatives return theirs: a dense matrix with its bits."""
    return counted(palettize(w, bits, importance=importance))


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
    return bench.bits_per_byte(params) | {"counted_bits": round(float(np.average(bits, weights=weights)), 4)}


def kv_cache_run(bench):
    """Return the held-out loss with keys and values in 8 bits, of the 16-bit and the 3.5-bit model."""
    rounded = copy.copy(bench)
    rounded.compiled = jax.jit(
        lambda p, b: losses.next_token(p, b, bench.cfg, attend=eight_bit_cache.QuantizedKeys(b.documents))
    )
    return {
        "bytes_per_token": {
            "16": kv_cache_bytes_per_token(bench.cfg),
            "8": eight_bit_cache.cache_bytes_per_token(bench.cfg),
        },
        "loss": {name: rounded.bits_per_byte(plain(bench.base(name))) for name in ("16", "3.5")},
    }


def merged_run(bench, seed):
    """Return what becomes of a recovered model when its adapter is merged and the sum palettized again."""
    beside = recovered(bench, "3.5", RANK, seed)
    merged = plain(beside)
    again = plain(quantize(merged, bench.bits(AVERAGES["3.5"], WITHIN)))

    kl = partial(recovery.recovery_loss, cfg=bench.cfg, weight=1.0)
    total, count = evaluation.total_loss(recovery.StudentAndTeacher(again, merged), kl, bench.text, progress=False)
    table = {"beside": bench.bits_per_byte(merged), "palettized_again": bench.bits_per_byte(again)}
    return table | {"kl_nats_per_token": round(total / count, 5)}
