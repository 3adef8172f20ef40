"""The steps from the shipped model to one on a phone, each from the folders before it.

    base -> SFT -> reward model -> committee -> MDLOO
         -> palettes of 3.5 bits -> recovery adapter -> feature adapters

A step is three functions: make(run, folder) writes the folder; made(run, folder) reads back
what is then measured, or is None where no policy has changed; more(run, folder) returns
further numbers.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from .. import lora, rlhf
from ..interop import hugging_face, palettized, reward_files
from ..post_training.sft import examples_of, fine_tune
from ..quantization import (
    allocate,
    dequantize,
    measured_costs,
    quantize,
    recovery,
    weight_counts,
)
from . import artifacts, workshops
from .artifacts import ADAPTER, HISTORY
from .bench import BenchSizes
from .recipes import TASKS, adam, afm
from .text import SEQ_LEN


@dataclasses.dataclass(frozen=True)
class RoadSizes(BenchSizes):
    """How much of everything, ours."""

    samples: int = 4  # of a held-out prompt, to measure with
    text_rows: int = 32  # of held-out English, likewise
    mdloo_iterations: int = 8
    conversations: int = 300  # a task, answered for the text of the steps below
    average_bits: float = 3.5
    within: float = 0.01  # how far the average may lie below that
    sensitivity_rows: int = 16
    rank: int = 16
    recovery_steps: int = 60
    recovery_rate: float = 0.004
    recovery_weight: float = 0.9  # the teacher's share of the loss
    recovery_batch: int = 4  # rows
    feature_records: int = 600
    feature_steps: int = 60
    feature_rate: float = 0.003
    feature_batch: int = 2  # rows of some two conversations


FAST = RoadSizes(  # most of its time goes into compiling
    held_out=8, start_records=100, start_steps=40, judged=32, scaled_on=16, committee_records=4, newest=20,
    member_steps=3, iterations=1, online_prompts=8, samples=2, text_rows=8, mdloo_iterations=2, conversations=16,
    sensitivity_rows=2, recovery_steps=3, feature_records=40, feature_steps=4,
)  # fmt: skip


class RoadStep(NamedTuple):
    """One step; see above."""

    make: Callable = lambda run, folder: None
    made: Callable | None = None
    more: Callable = lambda run, folder: {}


def make_sft(run, folder):
    """Write the model after SFT, first on many records, then on answers of mixed quality:
    the start of chapters 10 and 11.
    """
    _save(run, folder, run.bench.student(run.seed))


def make_reward(run, folder):
    """Write a reward model of simulated annotators' preferences among the student's
    responses.
    """
    reward_files.save(folder, run.bench.reward(run.seed), run.bench.cfg)


def make_committee(run, folder):
    """Write the committee's last student."""
    _save(run, folder, workshops.teach(run.bench, run.judge, run.seed)[-1].student)


def make_mdloo(run, folder):
    """Write the policy after MDLOO from the committee's student on, on prompts of its own.

    fit keeps checkpoints, so that a killed run continues within.
    """
    bench, s = run.bench, run.sizes
    settings = dataclasses.replace(workshops.SETTINGS, prompts=s.online_prompts)
    records = bench.records(s.mdloo_iterations * s.online_prompts // 2, seed=300 + run.seed)
    judge, truth = (
        workshops.shops(bench, records, name).online for name in (run.judge, "utility")
    )
    optimizer = adam(workshops.learning_rate(), s.mdloo_iterations * settings.inner_steps)
    done = rlhf.run(
        run.policy("3_committee"), bench.cfg, bench.tok, [record.prompt for record in records],
        partial(judge.score, bench.reward(run.seed)), optimizer, s.mdloo_iterations, settings=settings,
        watch={"utility": partial(truth.score, None)}, seed=run.seed, checkpoint=run.checkpoints,
        checkpoint_every=2 * settings.inner_steps, progress=False,
    )  # fmt: skip
    _save(run, folder, done.policy)
    done.history.save(folder / HISTORY)


def make_palettized(run, folder):
    """Write the policy with 2 or 4 bits a weight, 3.5 on average, 8 in the embedding.

    Which matrix gets how many follows from the loss that each costs, on text that the
    policy is to be good at.
    """
    bench = run.bench
    policy = run.policy("4_mdloo")
    costs = measured_costs(policy, bench.cfg, run.sensitivity_batches(), progress=False)
    counts = weight_counts(bench.cfg)
    s = run.sizes
    bits = allocate(costs, counts, s.average_bits, within=s.within)
    palettized.save(folder, quantize(policy, bits), bench.cfg, bench.tok)


def make_recovered(run, folder):
    """Write an adapter that gives back what the palettes took, taught by the policy before."""
    s = run.sizes
    palettes = run.palettes()
    done = recovery.recover(
        dequantize(palettes), run.policy("4_mdloo"), run.bench.cfg, run.recovery_batches(),
        afm(s.recovery_rate, s.recovery_steps), s.recovery_steps,
        rank=s.rank, weight=s.recovery_weight, start="residual", seed=run.seed, progress=False,
    )  # fmt: skip
    lora.files.save(folder / ADAPTER, done.params, base=lora.files.fingerprint(palettes))


def make_features(run, folder):
    """Write an adapter for each task, from the recovery adapter on."""
    s = run.sizes
    bench = run.bench
    base = lora.files.fingerprint(run.palettes())
    start = _over_dense(artifacts.adapted(run, run.step("6_recovered") / ADAPTER))
    for task in TASKS:
        examples = examples_of(
            bench.records(s.feature_records, seed=90 + run.seed, only=(task,)), bench.tok
        )
        done = fine_tune(
            start, bench.cfg, bench.tok, examples, afm(s.feature_rate, s.feature_steps), s.feature_steps,
            batch_size=s.feature_batch, seq_len=SEQ_LEN, seed=run.seed, select=lora.trainable, progress=False,
        )  # fmt: skip
        lora.files.save(folder / f"{task}.safetensors", done.params, base=base)


def _save(run, folder, params):
    hugging_face.save(folder, params, run.bench.cfg, tokenizer=run.bench.tok)


def _over_dense(params):
    """Return the same with dense float32 arrays below the adapters: what trains fast."""

    def over(name, w, numbers):
        a, b = (np.asarray(m, np.float32) for m in (w.a, w.b))
        return dataclasses.replace(w, base=w.base.dense(np.float32), a=a, b=b)

    return dequantize(lora.adapter.map_matrices(params, over))


STEPS = {
    "0_base": RoadStep(made=artifacts.of_base),
    "1_sft": RoadStep(make_sft, artifacts.of_policy),
    "2_reward": RoadStep(make_reward, more=artifacts.reward_accuracy),
    "3_committee": RoadStep(make_committee, artifacts.of_policy),
    "4_mdloo": RoadStep(make_mdloo, artifacts.of_policy, artifacts.iterations),
    "5_palettized": RoadStep(make_palettized, artifacts.of_palettes, artifacts.bits_of),
    "6_recovered": RoadStep(make_recovered, artifacts.of_recovered),
    "7_features": RoadStep(make_features, artifacts.of_features),
}
