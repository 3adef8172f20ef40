"""The three stages of pre-training in miniature, the z-loss and a sweep of the mixture: numbers of chapter 4.

    python -m experiments.stages                     # call it again to resume; about 16 CPU-minutes
    NPROC=1 python -m experiments.stages --seeds 1 --first-seed 2 --no-ship         # side by side
    python -m experiments.stages --seeds 2 --core-steps 4 --continued-steps 3 --lengthening-steps 2 --sweep-steps 3 \\
        --z-steps 3 --long-documents 2 --answers 2 --folder runs/stages_smoke --no-ship

Question  what do the stages of pre-training, RoPE's new base, the z-loss and the share of code change?
Arms      the continued stage with its own mixture and with core's; RoPE's base changed and kept, and changed alone;
          three weights of the z-loss; five shares of code

Text: English (topics and docstrings of the standard library) and its code; worked sums and long documents of questions
and answers, generated. Shipped tokenizer, a model of 0.6 million weights, three seeds (of weights and batches).
  stages     core (window 128) -> continued (256; more code and maths, or the same mixture) -> lengthening (1024; long
             questions and answers in), with RoPE's base changed by the rule and without; after each the bits per byte
             of every part, and the loss by position in held-out documents of more than 2048 tokens; also with the base
             changed and nothing trained
  z          core with z-loss 0, 1e-6 (AXLearn's) and 1e-4: log Z along the way
  sweep      short core runs on English and code alone, by the share of code
"""

import argparse
import dataclasses
from functools import cache, partial
from pathlib import Path

import numpy as np

from afm_ref import assets, transformer
from afm_ref.config import AFMConfig
from afm_ref.data import corpora, long_qa, maths, packing, pretraining_text
from afm_ref.evaluation import bits_per_byte, mean_interval, total_loss
from afm_ref.interop import hugging_face
from afm_ref.pretraining import long_context, losses, stages

from . import _record

CFG = AFMConfig(d_model=96, n_layers=4, n_heads=3, n_kv_heads=1, head_dim=32, d_ff=288, vocab_size=2048)
HELD_OUT_SHARE = 0.2
SEQ_LEN, LONGEST = 128, 2048
LONG_QA_TOKENS = 1000
MIXTURES = {
    "core": {"english": 0.7, "code": 0.2, "maths": 0.1},
    "continued": {"english": 0.4, "code": 0.35, "maths": 0.25},
    "lengthening": {"english": 0.3, "code": 0.25, "maths": 0.15, "long_qa": 0.3},
}
CODE_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
Z_WEIGHTS = (0.0, 1e-6, 1e-4)
EDGES = [0, 16, 64, 128, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280, 1408, 1536, 1664, 1792, 1920, 2048]


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, type=int, help="default: %(default)s")
    add("--seeds", default=3)
    add("--first-seed", default=0)
    add("--core-steps", default=280)
    add("--continued-steps", default=70)
    add("--lengthening-steps", default=50)
    add("--z-steps", default=50)
    add("--sweep-steps", default=50)
    add("--long-documents", default=10, help="of each part, to measure the loss by position (default: %(default)s)")
    add("--answers", default=16, help="long documents to measure answers in (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/stages"), help="default: %(default)s")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser.parse_args(line)


class Text:
    """The text of all runs: rows to train on by part and window, rows held out, long documents.

    Sides are split by document alone: passages that stand in several modules may be on both.
    """

    def __init__(self, a, held_out_share=HELD_OUT_SHARE):
        self.tok = hugging_face.load_tokenizer(assets.FOLDER)
        real = corpora.embedded(progress=False)
        by_side = [[d for d in real if corpora.is_held_out(d, held_out_share) == side] for side in (False, True)]
        self.train, self.held_out = (self._parts(docs, split) for docs, split in zip(by_side, ("train", "held_out")))
        self.packed = {}
        self.questions = long_qa.long_qa_documents(a.answers, LONG_QA_TOKENS, self.tok, split="held_out")
        self.long = self._long(a.long_documents)

    def _parts(self, real, split):
        count = 400 if split == "train" else 30
        return {
            "english": [doc for doc in real if doc.source in pretraining_text.ENGLISH],
            "code": [doc for doc in real if doc.source == "code"],
            "maths": maths.maths_documents(count, 0, split),
            "long_qa": [d.document for d in long_qa.long_qa_documents(count, LONG_QA_TOKENS, self.tok, 0, split)],
        }

    def _long(self, count):
        """Return the first `count` long held-out documents of English and of code, cut to what is measured."""
        found = {}
        for part in ("english", "code"):
            long = (d for d in self.held_out[part] if len(self.tok.encode(d.text)) > LONGEST)
            found[part] = [doc for doc, _ in zip(long, range(count))]
        return found

    def rows(self, seq_len):
        """Return {part: Packed} to train on."""
        if seq_len not in self.packed:
            self.packed[seq_len] = {part: packing.pack(docs, self.tok, seq_len) for part, docs in self.train.items()}
        return self.packed[seq_len]

    @cache  # noqa: B019 - one Text lives as long as the script
    def evaluation(self, part, seq_len=256, limit=48):
        """Return (batches, bytes) of the part's first held-out rows."""
        rows = packing.pack_for_evaluation(self.held_out[part], self.tok, seq_len)
        batches = packing.evaluation_batches(packing.Packed(*(x[:limit] for x in rows[:3]), 0), 16)
        return batches, sum(int(self.tok.byte_lengths(b.targets[b.weights > 0]).sum()) for b in batches)

    def measured(self, params, cfg, parts=("english", "code", "maths")):
        """Return the bits per byte of each part's first held-out rows."""
        return {part: round(bits_per_byte(params, cfg, *self.evaluation(part), progress=False), 4) for part in parts}


def loss_of(stage, cfg, z_weight):
    """Return the loss with a z-loss of that weight."""
    return partial(losses.next_token_z, cfg=cfg, z_weight=z_weight)


def stage_run(text, a, seed):
    """Return all that is measured along the three stages, in their variants."""
    steps = {"core": a.core_steps, "continued": a.continued_steps, "lengthening": a.lengthening_steps}
    core, continued, changed = stages.tiny_stages(MIXTURES, steps, SEQ_LEN)
    kept = stages.tiny_stages(MIXTURES, steps, SEQ_LEN, change_base=False)[-1]
    same = dataclasses.replace(continued, weights=core.weights)
    go = partial(stages.run, rows=text.rows, seed=seed, progress=False)
    found = {}

    def note(name, params, cfg, long=True):
        found[name] = {"bits_per_byte": text.measured(params, cfg)}
        if long:
            found[name]["by_position"] = by_position(text, params, cfg)
            found[name]["answers"] = answers(text, params, cfg)

    first = go(transformer.init(CFG, seed), CFG, [core])
    note("core", first.params, first.cfg, long=False)
    other = go(first.params, first.cfg, [same])
    note("continued_same", other.params, other.cfg, long=False)
    second = go(first.params, first.cfg, [continued])
    note("continued", second.params, second.cfg)
    note("base_only", second.params, changed.config(second.cfg))
    for name, stage in (("lengthened", changed), ("lengthened_old_base", kept)):
        last = go(second.params, second.cfg, [stage])
        note(name, last.params, last.cfg)
    histories = {"core": first, "continued": second, "lengthening": last}
    found["loss"] = {name: np.round(r.histories[name].loss, 3).tolist() for name, r in histories.items()}
    return found


def by_position(text, params, cfg, seen=None):
    """Return the mean nats of each bin of positions in long held-out documents, by part."""
    found = {}
    for part, documents in text.long.items():
        nats = long_context.loss_by_position(params, cfg, documents, text.tok, LONGEST, EDGES, seen).nats
        found[part] = np.round(nats, 4).tolist()
    return found


def answers(text, params, cfg):
    """Return [distance, nats a digit, share of digits right] of the answers in held-out long documents."""
    found = long_context.answer_losses(params, cfg, text.questions)
    return [[x.distance, round(x.nats, 3), round(x.right, 3)] for x in found]


def z_run(text, a, seed, z_weight):
    """Return mean and root mean square of log Z along a core stage with that z-loss, and the bits per byte after it."""
    core = _core(a.z_steps, MIXTURES["core"])
    batches = packing.evaluation_batches(packing.Packed(*(x[:32] for x in text.rows(SEQ_LEN)["english"][:3]), 0), 16)

    def evaluate(stage, cfg):
        of_power = [partial(losses.log_z, cfg=cfg, power=power) for power in (1, 2)]  # compiled once each

        def measure(params):
            (log_z, count), (square, _) = (total_loss(params, loss, batches, progress=False) for loss in of_power)
            return {"log_z": log_z / count, "log_z_rms": (square / count) ** 0.5}

        return measure

    out = stages.run(
        transformer.init(CFG, seed), CFG, [core], text.rows, seed, loss=partial(loss_of, z_weight=z_weight),
        evaluate=evaluate, evaluate_every=max(1, a.z_steps // 5), progress=False,
    )  # fmt: skip
    rows = out.histories["core"].evaluations
    return {name: [round(row[name], 4) for row in rows] for name in ("step", "log_z", "log_z_rms")} | {
        "bits_per_byte": text.measured(out.params, out.cfg)
    }


def sweep_run(text, a, seed, share):
    """Return the bits per byte of English and code after a short stage with that share of code."""
    core = _core(a.sweep_steps, {"english": 1 - share, "code": share})
    out = stages.run(transformer.init(CFG, seed), CFG, [core], text.rows, seed, progress=False)
    return {"share": share, "bits_per_byte": text.measured(out.params, out.cfg, parts=("english", "code"))}


def _core(steps, weights):
    mixtures = MIXTURES | {"core": weights}
    return stages.tiny_stages(mixtures, dict.fromkeys(stages.NAMES, steps), SEQ_LEN)[0]


def jobs(text, a):
    """Return {key: function} of all runs."""
    found = {}
    for seed in range(a.first_seed, a.first_seed + a.seeds):
        found[f"stages_{seed}"] = partial(stage_run, text, a, seed)
        found |= {f"z_{z:g}_{seed}": partial(z_run, text, a, seed, z) for z in Z_WEIGHTS}
        found |= {f"sweep_{share:g}_{seed}": partial(sweep_run, text, a, seed, share) for share in CODE_SHARES}
    return found


def verdict(numbers):
    """Return what the continued stage's own mixture gives on maths, paired by seed."""
    runs = [run for key, run in numbers["runs"].items() if key.startswith("stages_")]
    less = [r["continued"]["bits_per_byte"]["maths"] - r["continued_same"]["bits_per_byte"]["maths"] for r in runs]
    return _record.told("the continued stage's mixture less core's, bits per byte of maths,", mean_interval(less))


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.folder)
    runs = _record.finished(jobs(Text(a), a), a.folder)
    if not a.no_ship:
        rope = stages.tiny_stages(MIXTURES, seq_len=SEQ_LEN)[-1].rope_theta
        config = _record.config_of(a) | {
            "model": CFG.to_dict(), "mixtures": MIXTURES, "edges": EDGES, "seq_len": SEQ_LEN, "new_base": rope
        }  # fmt: skip
        numbers = {"cpu_minutes": round(sum(r["cpu_s"] for r in runs.values()) / 60, 1), "runs": runs}
        seeds = list(range(a.first_seed, a.first_seed + a.seeds))
        print(_record.save("stages", "python -m experiments.stages", config, seeds, numbers))


if __name__ == "__main__":
    main()
