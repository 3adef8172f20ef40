"""What the runs of `experiments.few_bits` share: the model, its text and tasks, recovery and features."""

from functools import cache, partial

import jax
import numpy as np

from afm_ref import assets, containers, lora, losses
from afm_ref.data import packing, pretraining_text, tasks
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.quantization import dequantize, palettize, quantize, recovery, stored_bits_per_weight
from afm_ref.quantization.bits import allocation, sensitivity
from afm_ref.teaching.chapters.quantization import costs_of_text
from afm_ref.training import fit
from afm_ref.whole_road.artifacts import plain

from . import _record, train_instruct
from ._quantization import PIECE, bits_per_byte, costs_as_text, held_out_text, nats_per_token

ARMS = ("16", "3.5", "3.5 without recovery")
TOTAL = 3.5  # stored bits
FEATURES = {"summarise": 3, "proofread": 3, "tone": 3}  # and their difficulty: the instruct model's is 1 at most
SEQ_LEN, NEW_TOKENS = 128, 56  # of 36,000 records the longest conversation has 124 tokens, the longest answer 53


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


def recovered(bench, base, rank, seed):
    """Return the base with an adapter trained to answer as the 16-bit model does; on 16 bits from B = 0."""
    a = bench.a
    start = "zero" if base is bench.params else "residual"
    optimizer = afm_optimizer(a.learning_rate, warmup_cosine(max(1, a.steps // 10), a.steps), weight_decay=1e-5)
    feed = bench.feed(seed)
    return recovery.recover(base, bench.params, bench.cfg, feed, optimizer, a.steps, rank=rank, alpha=float(rank),
                            weight=a.weight, start=start, seed=seed, progress=False).params  # fmt: skip


def before_features(bench, arm, seed):
    """Return an arm's model after recovery, trained once for all its measures."""
    base, _ = bench.base(arm)
    path = bench.a.models / f"{arm}_{seed}.safetensors"
    if not path.exists():
        lora.files.save(path, recovered(bench, base, 1, seed), dtype="float32")
    return lora.files.put(base, lora.files.load(path))


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
