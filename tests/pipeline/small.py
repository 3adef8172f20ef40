"""A run of minute sizes on a model of 24,000 random weights, shared by these tests."""

import contextlib
from unittest import mock

import jax

from afm_ref import assets
from afm_ref.config import AFMConfig
from afm_ref.data import corpora
from afm_ref.interop import hugging_face
from afm_ref.pipeline import text
from afm_ref.pipeline.steps import PipelineSizes
from afm_ref.transformer import init

CACHE = "jax_compilation_cache_dir"
CFG = AFMConfig(d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=16, vocab_size=2048)
SIZES = PipelineSizes(
    held_out=2, sft_steps=2, records=2, backbone_records=4, backbone_steps=2, preference_records=4, reward_steps=2,
    committee_records=2, newest=8, member_steps=2, iterations=1, refresh_steps=2, samples=2, text_rows=2,
    mdloo_records=2, mdloo_iterations=6, conversations=16, sensitivity_rows=2, within=0.1, rank=2, recovery_steps=2,
    recovery_batch=2, feature_records=16, feature_steps=2, feature_batch=2,
)  # fmt: skip


def documents():
    """Return the language reference's own topics, without Python's other texts: quickly read."""
    topics = corpora.topics()
    return tuple([d for d in topics if corpora.is_held_out(d) == held][:4] for held in (False, True))


@contextlib.contextmanager
def model(compiled):
    """Let the pipeline find the small model where the shipped one is, and compile each program once for all runs."""
    shipped = init(CFG, 0), CFG, hugging_face.load_tokenizer(assets.FOLDER)
    quickly = {  # what it is, and what it was
        CACHE: (str(compiled), getattr(jax.config, CACHE)),
        "jax_persistent_cache_min_compile_time_secs": (0, jax.config.jax_persistent_cache_min_compile_time_secs),
        "jax_disable_most_optimizations": (True, False),
    }
    with mock.patch.object(assets, "load_tiny", return_value=shipped), mock.patch.object(text, "documents", documents):
        for name, (value, _) in quickly.items():
            jax.config.update(name, value)
        try:
            yield
        finally:
            for name, (_, value) in quickly.items():
                jax.config.update(name, value)
