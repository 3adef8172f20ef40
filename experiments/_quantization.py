"""What `experiments.quantization` and `experiments.few_bits` share: held-out text in pieces, losses, costs as text."""

import numpy as np

from afm_ref.data import packing, pretraining_text

from .train_tiny import SEQ_LEN, SOURCES, of_source

PIECE = 10  # rows


def held_out_text(tok, rows_a_part):
    """Return the first held-out rows of every part of the pre-training text, in pieces: [(batch, bytes)]."""
    _, documents = pretraining_text.pretraining_documents(0, progress=False)
    pieces = []
    for part in SOURCES:
        rows = packing.pack_for_evaluation(of_source(documents, part), tok, SEQ_LEN)
        for start in range(0, min(rows_a_part, len(rows.tokens) // PIECE * PIECE), PIECE):
            chosen = np.arange(start, start + PIECE)
            pieces.append((packing.batch_of(rows, chosen), int(tok.byte_lengths(rows.tokens[chosen]).sum())))
    return pieces


def bits_per_byte(loss, params, pieces):
    """Return the bits per byte of each piece, and of all. loss: (params, batch) -> (sum, count) in nats, compiled."""
    bits = np.array([float(loss(params, batch)[0]) for batch, _ in pieces]) / np.log(2)
    count = np.array([n for _, n in pieces])
    return {
        "bits_per_byte": round(float(bits.sum() / count.sum()), 5),
        "by_piece": (bits / count).round(5).tolist(),
    }


def nats_per_token(loss, params, batches):
    """Return the nats per target token of all batches, and of each."""
    found = np.array([[float(x) for x in loss(params, batch)] for batch in batches])
    nats, count = found.T
    return {"nats": round(float(nats.sum() / count.sum()), 5), "nats_by_piece": (nats / count).round(5).tolist()}


def costs_as_text(costs):
    """Return {(matrix, layer): {bits: nats}} as JSON can hold it: {"0.wq": {"2": nats}}; chapter 9 reads it back."""
    return {f"{i}.{name}": {str(b): float(f"{x:.5g}") for b, x in row.items()} for (name, i), row in costs.items()}
