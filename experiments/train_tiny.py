"""Train AFM_TINY, the model that ships in afm_ref/assets, and measure it beside a 5-gram model and xz.

    python -m experiments.train_tiny               # about 20 minutes on two cores; call it again to resume
    python -m experiments.train_tiny --steps 200 --assets runs/short

Text: the standard library's English and code, and generated everyday text, so the weights
depend on the Python version whose library was read; the recording names it.
"""

import argparse
import lzma
import time
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref import evaluation, losses, transformer
from afm_ref.config import AFM_TINY, train_flops_per_token
from afm_ref.data import kneser_ney, packing, pretraining_text, tokenizer
from afm_ref.interop import hugging_face
from afm_ref.pretraining import tiny_optimizer
from afm_ref.training import fit

from . import _record

SEED = 0
SEQ_LEN = 256
SOURCES = {"english": ("topics", "docstrings"), "code": ("code",), "everyday": ("everyday",), "tasks": ("tasks",)}


def arguments():
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5800, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help=f"rows of {SEQ_LEN} tokens (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=0.006, help="peak (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/train_tiny"), help="default: %(default)s")
    parser.add_argument("--assets", type=Path, default=Path("afm_ref/assets/tiny"), help="default: %(default)s")
    return parser.parse_args()


def of_source(documents, part):
    """Return the documents of one part of the mixture."""
    return [document for document in documents if document.source in SOURCES[part]]


def xz_bits_per_byte(train, held_out) -> float:
    """Return the bits that xz at its strongest adds per byte of held-out text behind the training text."""
    before = "".join(document.text for document in train).encode()
    text = "".join(document.text for document in held_out).encode()
    return 8 * (_xz_bytes(before + text) - _xz_bytes(before)) / len(text)


def _xz_bytes(data):
    dictionary = max(2**16, len(data))  # the whole text stays in reach
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))


def measure(params, train, held_out, tok) -> dict:
    """Return held-out bits per byte of every part, for the model and for both baselines."""
    ngram = kneser_ney.train(train, tok)
    table = {}
    for part in SOURCES:
        documents = of_source(held_out, part)
        rows = packing.pack_for_evaluation(documents, tok, SEQ_LEN)
        batches = packing.evaluation_batches(rows, 16)
        table[part] = {
            "bytes": rows.text_bytes,
            "model": evaluation.bits_per_byte(params, AFM_TINY, batches, rows.text_bytes),
            "five_gram": kneser_ney.ngram_bits_per_byte(ngram, documents, tok),
            "xz_given_training_text": xz_bits_per_byte(train, documents),
        }
        print(part, {k: round(v, 3) for k, v in table[part].items()})
    return table


def main():
    """Train, measure, ship."""
    a = arguments()
    train, held_out = pretraining_text.pretraining_documents(SEED)
    tok = tokenizer.train((document.text for document in train), AFM_TINY.vocab_size)
    rows = packing.pack(train, tok, SEQ_LEN, progress=True)
    optimizer = tiny_optimizer(AFM_TINY, a.learning_rate, a.steps)
    loss = partial(losses.next_token, cfg=AFM_TINY)
    english = packing.pack_for_evaluation(of_source(held_out, "english"), tok, SEQ_LEN)
    batches = packing.evaluation_batches(english, 16)

    def english_bits(params):
        bits = evaluation.bits_per_byte(params, AFM_TINY, batches, english.text_bytes, progress=False)
        return {"english_bits_per_byte": bits}

    start = time.time()
    result = fit(
        transformer.init(AFM_TINY, SEED),
        loss,
        packing.batches(rows, a.batch_size, SEED),
        optimizer,
        a.steps,
        evaluate=english_bits,
        evaluate_every=580,
        checkpoint=a.checkpoint,
        checkpoint_every=580,
    )
    wall_s = time.time() - start
    hugging_face.save(a.assets, result.params, AFM_TINY, dtype="float16", tokenizer=tok)
    shipped, _ = hugging_face.load(a.assets)
    tokens = a.steps * a.batch_size * SEQ_LEN
    numbers = {
        "wall_s": wall_s,
        "tokens": tokens,
        "epochs": tokens / (len(rows.tokens) * SEQ_LEN),
        "train_flops": tokens * train_flops_per_token(AFM_TINY, SEQ_LEN),
        "train_bytes": pretraining_text.size_bytes(train),
        "loss_every_20_steps": np.asarray(result.history.loss).reshape(-1, 20).mean(1).round(4).tolist(),
        "english_bits_per_byte": [
            [int(s), round(float(v), 4)] for s, v in zip(*result.history.evaluation("english_bits_per_byte"))
        ],
        "held_out_bits_per_byte": measure(shipped, train, held_out, tok),
    }
    config = (
        AFM_TINY.to_dict()
        | {"seq_len": SEQ_LEN}
        | {k: str(v) if isinstance(v, Path) else v for k, v in vars(a).items()}
    )
    print(_record.save("train_tiny", "python -m experiments.train_tiny", config, [SEED], numbers))


if __name__ == "__main__":
    main()
