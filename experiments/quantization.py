"""What each matrix costs in few bits, whether that adds up, and what 8-bit keys and values cost: for chapter 9.

    python -m experiments.quantization   # call it again to resume; about 2 CPU-minutes
    python -m experiments.quantization --text-rows 10 --sensitivity-rows 8 --folder runs/quantization_smoke --no-ship

Question  may what each matrix alone costs in few bits be added up, and do 8-bit keys and values cost any loss?
Model     AFM_TINY; sensitivities on training text, every loss on held-out text
Arms      each matrix alone at 2 and at 4 bits, measured and predicted by the Fisher diagonal; the whole model at ten
          averages, bits by the exact, the greedy and the Lagrangian choice; keys and values in 8 bits, weights in 16
          and in 3.5
"""

import argparse
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np

from afm_ref import assets, evaluation, lora, losses
from afm_ref.config import kv_cache_bytes_per_token
from afm_ref.data import packing, pretraining_text
from afm_ref.quantization import eight_bit_cache, quantize
from afm_ref.quantization.bits import allocation, sensitivity
from afm_ref.teaching.chapters.quantization import costs_of_text
from afm_ref.whole_road.artifacts import plain

from . import _quantization, _record
from .train_tiny import SEQ_LEN

AVERAGES = (2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 3.7, 3.75, 4.0)
WAYS = {"exact": allocation.allocate, "greedy": allocation.greedy, "lagrangian": allocation.lagrangian}


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--text-rows", type=int, default=30, help="held-out rows of each part of the text (default: %(default)s)")
    add("--sensitivity-rows", type=int, default=32, help="rows of training text (default: %(default)s)")
    add("--folder", type=Path, default=Path("runs/quantization"), help="finished runs are there (default: %(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


class Bench:
    """The model, the text and the loss that all runs share."""

    def __init__(self, a):
        self.a = a
        self.params, self.cfg, self.tok = assets.load_tiny()
        self.compiled = jax.jit(partial(losses.next_token, cfg=self.cfg))

    @cache  # noqa: B019
    def pieces(self):
        """Return the held-out text in pieces."""
        return _quantization.held_out_text(self.tok, self.a.text_rows)

    def bits_per_byte(self, params, loss=None):
        """Return bits per byte of each piece of the held-out text, and of all."""
        return _quantization.bits_per_byte(loss or self.compiled, plain(params), self.pieces())

    def costs(self):
        """Return each matrix's measured cost: {(matrix, layer): {bits: nats}}."""
        found = _record.kept(self.a.folder, "sensitivity", partial(sensitivity_run, self))
        return costs_of_text(found["measured"])

    def quantized(self, average):
        """Return the model at this average, bits by the exact choice; None: as it ships."""
        if average is None:
            return self.params
        return quantize(self.params, allocation.allocate(self.costs(), allocation.weight_counts(self.cfg), average))


def sensitivity_run(bench):
    """Return each matrix's cost in nats per token at 2 and 4 bits: measured, and predicted by the Fisher diagonal."""
    documents, _ = pretraining_text.pretraining_documents(0, progress=False)
    batch = packing.batches(packing.pack(documents, bench.tok, SEQ_LEN), 8, seed=99)
    batches = [batch(step) for step in range(bench.a.sensitivity_rows // 8)]
    measured = sensitivity.measured_costs(bench.params, bench.cfg, batches, progress=False)
    fisher = sensitivity.fisher(bench.params, bench.cfg, batches, progress=False)
    predicted = sensitivity.predicted_costs(bench.params, fisher)
    return {"measured": _quantization.costs_as_text(measured), "predicted": _quantization.costs_as_text(predicted)}


def average_run(bench, average):
    """Return the summed cost of three ways to choose the bits for an average, and the exact one's held-out loss."""
    if average is None:
        return bench.bits_per_byte(bench.params)
    costs, weights, row = bench.costs(), allocation.weight_counts(bench.cfg), {}
    for name, choose in WAYS.items():
        bits = choose(costs, weights, average)
        row[name] = {
            "average_bits": round(sum(b * weights[k] for k, b in bits.items()) / sum(weights.values()), 4),
            "cost": round(sum(costs[k][b] for k, b in bits.items()), 5),
        }
    return row | bench.bits_per_byte(bench.quantized(average))


def kv_cache_run(bench):
    """Return the held-out loss with keys and values in 8 bits, of the 16-bit and the 3.5-bit model."""
    rounded = jax.jit(
        lambda p, b: losses.next_token(p, b, bench.cfg, attend=eight_bit_cache.QuantizedKeys(b.documents))
    )
    return {
        "bytes_per_token": {
            "16": kv_cache_bytes_per_token(bench.cfg),
            "8": eight_bit_cache.cache_bytes_per_token(bench.cfg),
        },
        "loss": {str(bits or 16): bench.bits_per_byte(bench.quantized(bits), rounded) for bits in (None, 3.5)},
    }


def jobs(bench):
    """Return {key: function} of all runs."""
    runs = {"sensitivity": partial(sensitivity_run, bench)}
    runs |= {f"bits_{average or 16}": partial(average_run, bench, average) for average in (None, *AVERAGES)}
    return runs | {"kv_cache": partial(kv_cache_run, bench)}


def added(runs):
    """Return (summed cost in nats per token, rise of the held-out bits per byte) of each average: [averages, 2]."""
    rows = [runs[f"bits_{average}"] for average in AVERAGES]
    return np.array([(r["exact"]["cost"], r["bits_per_byte"] - runs["bits_16"]["bits_per_byte"]) for r in rows])


def kv_cost(runs, bits):
    """Return the interval over pieces of text of what 8-bit keys and values cost, in bits per byte."""
    pieces = runs["kv_cache"]["loss"][bits]["by_piece"]
    return evaluation.mean_interval(np.subtract(pieces, runs[f"bits_{bits}"]["by_piece"]))


def verdict(numbers):
    """Return how far the whole model's loss is from proportional to the sum, and what 8-bit keys and values cost."""
    cost, rise = added(numbers["runs"]).T
    off = rise / (cost * (cost * rise).sum() / (cost**2).sum())
    kv = _record.told("8-bit keys and values less 16-bit ones, bits per byte,", kv_cost(numbers["runs"], "16"))
    return f"the loss is {off.min():.2f} to {off.max():.2f} of proportional to the sum; {kv}"


def main():
    """Run what has not been run yet, then record."""
    a = arguments()
    bench = Bench(a)
    bench.costs()
    runs = _record.finished(jobs(bench), a.folder)
    numbers = {"cpu_minutes": round(sum(run["cpu_s"] for run in runs.values()) / 60, 1), "runs": runs}
    print(verdict(numbers))
    if not a.no_ship:
        config = _record.config_of(a) | {"base": lora.files.fingerprint(bench.params)}
        print(_record.save("quantization", "python -m experiments.quantization", config, [0], numbers))


if __name__ == "__main__":
    main()
