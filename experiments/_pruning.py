"""What the pruning experiment trains on and measures: two sizes of model, text, bits per byte, statistics of masks."""

from functools import cache, lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from afm_ref import transformer
from afm_ref.config import AFMConfig
from afm_ref.data import packing, pretraining_text
from afm_ref.data.corpora import Document
from afm_ref.evaluation import bits_per_byte
from afm_ref.losses import next_token, token_log_probs
from afm_ref.pretraining import pruning, tiny_optimizer
from afm_ref.pretraining.pruning import top_k
from afm_ref.training import fit

WIDTH, KEPT = 1152, 384  # F of the parent and of the student: a third, about what the published sizes give
STUDENT = AFMConfig(d_model=128, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=32, d_ff=KEPT, vocab_size=2048)
PARENT = AFMConfig.from_dict(STUDENT.to_dict() | {"d_ff": WIDTH})
SEQ_LEN, ROWS = 128, 4
PART_BYTES = {"english": 18_000, "code": 10_000, "everyday": 8_000, "tasks": 4_000}  # the mixture's shares
PARTS = {"topics": "english", "docstrings": "english", "code": "code", "everyday": "everyday", "tasks": "tasks"}


@cache
def text():
    """Return (training rows, {"english", "rest": held-out rows}); the held-out text is a part of the whole."""
    from afm_ref import assets
    from afm_ref.interop import hugging_face

    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    train, held_out = pretraining_text.pretraining_documents(progress=False)
    chosen = {"english": [], "rest": []}
    for part, limit in PART_BYTES.items():
        size = 0
        for document in held_out:
            if PARTS[document.source] == part and size < limit:
                piece = Document(document.text[:3000], document.source, document.name, document.markers)
                chosen["english" if part == "english" else "rest"].append(piece)
                size += len(piece.text.encode())
    rows = {name: packing.pack_for_evaluation(of, tokenizer, SEQ_LEN) for name, of in chosen.items()}
    return packing.pack(train, tokenizer, SEQ_LEN), rows


LOSSES = {cfg: partial(next_token, cfg=cfg) for cfg in (STUDENT, PARENT)}  # one object each: compiled once
MEASURES = ("english", "all", "accuracy", "calibrated")
TEMPERATURES = (0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5)


@partial(jax.jit, static_argnames="cfg")
def counts(params, batch, cfg):
    """Return (nats at every temperature, true tokens that the model finds most likely, tokens) of weight 1."""
    z = transformer.forward(params, batch.tokens, cfg, attend=transformer.Causal(batch.documents))
    nats = [-(token_log_probs(z / T, batch.targets) * batch.weights).sum() for T in TEMPERATURES]
    return jnp.stack(nats), ((z.argmax(axis=-1) == batch.targets) * batch.weights).sum(), batch.weights.sum()


def measured(params, cfg) -> dict:
    """Return what a model is worth on the held-out text.

    english, all   bits per byte of the English, and of all of the text
    accuracy       share of its tokens that the model finds most likely
    calibrated     bits per byte of all at the best of some temperatures: a student of the teacher's top tokens is surer
                   of them than the text is, and one number takes the most of that back
    """
    found = {}
    for name, rows in text()[1].items():
        of_batches = [counts(params, batch, cfg) for batch in packing.evaluation_batches(rows, 16)]
        found[name] = [np.sum(np.array(x, np.float64), axis=0) for x in zip(*of_batches, strict=True)]
    sizes = {name: rows.text_bytes * np.log(2) for name, rows in text()[1].items()}
    nats, right, tokens = (sum(x) for x in zip(*found.values(), strict=True))
    plain, size = TEMPERATURES.index(1.0), sum(sizes.values())
    english = found["english"][0][plain] / sizes["english"]
    numbers = (english, nats[plain] / size, right / tokens, nats.min() / size)
    return {name: round(float(value), 4) for name, value in zip(MEASURES, numbers, strict=True)}


def train(params, cfg, rate, steps, batches, measures, loss=None):
    """Return (trained params, curve): {"steps"} and MEASURES, from before the first step on."""
    every = max(1, steps // measures)
    result = fit(
        params, loss or LOSSES[cfg], batches, tiny_optimizer(cfg, rate, steps), steps,
        evaluate=partial(measured, cfg=cfg), evaluate_every=every, progress=False,
    )  # fmt: skip
    found = {name: result.history.evaluation(name)[1].tolist() for name in MEASURES}
    return result.params, {"steps": result.history.evaluation("all")[0].tolist()} | found


def batches_of(seed, stage):
    """Return the batches of one stage of a seed: parent and masks, or student."""
    return packing.batches(text()[0], ROWS, seed=2 * seed + stage)


def keep_params(folder, name, params):
    """Write the leaves of plain params."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(params)]
    np.savez(folder / f"{name}.npz", **{str(i): leaf for i, leaf in enumerate(leaves)})


@lru_cache(maxsize=8)
def kept_params(folder, name, cfg):
    """Return the params that `keep_params` wrote."""
    tree = jax.tree.structure(transformer.init(cfg, 0))
    with np.load(folder / f"{name}.npz") as leaves:
        return jax.tree.unflatten(tree, [leaves[str(i)] for i in range(len(leaves.files))])


def masked_bits(params):
    """Return bits per byte of all held-out text under the soft masks."""
    batches = [batch for rows in text()[1].values() for batch in packing.evaluation_batches(rows, 16)]
    return bits_per_byte(params, PARENT, batches, sum(rows.text_bytes for rows in text()[1].values()), progress=False)


def by_eps(scores):
    """Return how binary these scores' masks are at several eps, and what sum the truncated iteration reaches."""
    scores, found = np.asarray(scores), {}
    for eps in (1.0, 0.3, 0.1, 0.03, 0.01):
        truncated = top_k.coordinate_descent(scores, KEPT, eps)
        found[f"{eps:g}"] = {
            "undecided": round(pruning.undecided(top_k.soft_top_k(scores, KEPT, eps)), 4),
            "exact": float(top_k.soft_top_k(scores, KEPT, eps).sum(-1).mean() / KEPT),
            "truncated": round(float(truncated.sum(-1).mean() / KEPT), 4),
        }
    return found


def overlap(scores, others):
    """Return the share of the channels kept by `scores` that `others` would keep."""
    pairs = [(top_k.hard_top_k(np.asarray(s), KEPT), top_k.hard_top_k(np.asarray(o), KEPT))
             for s, o in zip(scores, others, strict=True)]  # fmt: skip
    return round(float(np.mean([(s * o).sum() / KEPT for s, o in pairs])), 4)
