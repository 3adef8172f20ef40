"""A run of minute sizes on a model of some 17,000 random weights, shared by these tests."""

import contextlib
import dataclasses
from functools import partial
from types import SimpleNamespace
from unittest import mock

from afm_ref import assets
from afm_ref.config import AFMConfig
from afm_ref.data import corpora
from afm_ref.interop import hugging_face, reward_files
from afm_ref.post_training.reward_model import init_reward_model
from afm_ref.transformer import init
from afm_ref.whole_road import bench, online_rl, text, workshops
from afm_ref.whole_road.steps import RoadSizes

CFG = AFMConfig(d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=16, vocab_size=2048)
SIZES = RoadSizes(
    held_out=3, scaled_on=8, samples=2, text_rows=2, online_prompts=4, mdloo_iterations=5, conversations=16,
    sensitivity_rows=2, within=0.1, rank=2, recovery_steps=2, recovery_batch=2, feature_records=16,
    feature_steps=2, feature_batch=2,
)  # fmt: skip
ROWS = 8  # of every batch that is sampled or scored, so that all are the same programs


def documents():
    """Return the language reference's own topics, without Python's other texts: quickly read."""
    topics = corpora.topics()
    return tuple([d for d in topics if corpora.is_held_out(d) == held][:4] for held in (False, True))


def student(self, seed=0):
    """Return other weights, kept as a student is: to make one takes more compiling than all else together."""
    return self.kept(f"student_{seed}", lambda: init(CFG, 1))


def reward(self, seed=0):
    """Return a reward model that nobody trained, kept as one is."""
    make = partial(init_reward_model, init(CFG, 2), CFG, seed)
    return self.kept(f"reward_{seed}", make, reward_files)


def teach(of, judge, seed):
    return [SimpleNamespace(student=init(CFG, 3))]


@contextlib.contextmanager
def model():
    """Let the pipeline find the small model where the shipped one is."""
    shipped = init(CFG, 0), CFG, hugging_face.load_tokenizer(assets.FOLDER)
    settings = dataclasses.replace(workshops.SETTINGS, n=2, prompts=4, inner_steps=2, parts=2, batch_size=ROWS)
    with (
        mock.patch.object(assets, "load_tiny", return_value=shipped),
        mock.patch.object(assets, "load_instruct", return_value=(init(CFG, 4), *shipped[1:])),
        mock.patch.object(text, "documents", documents),
        mock.patch.object(bench, "SAMPLE_ROWS", ROWS),
        mock.patch.multiple(online_rl, SAMPLE_ROWS=ROWS, SETTINGS=settings),
        mock.patch.multiple(workshops, SAMPLE_ROWS=ROWS, SETTINGS=settings),
        mock.patch.multiple(bench.Bench, student=student, reward=reward),
        mock.patch.object(workshops, "teach", teach),
    ):
        yield
