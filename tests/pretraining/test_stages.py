"""The three stages: the published numbers and their cost, what changes between stages, and stopping anywhere."""

import dataclasses
import math
import zlib
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from afm_ref import assets
from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, AFMConfig, train_flops_per_token
from afm_ref.data import corpora, long_qa
from afm_ref.data.mixing import mix
from afm_ref.data.packing import Packed
from afm_ref.interop import hugging_face
from afm_ref.losses import token_log_probs
from afm_ref.ops import rope_frequencies
from afm_ref.pretraining import compute, long_context, stage_data, stages
from afm_ref.pretraining.long_context import rope_base
from afm_ref.pretraining.mup import mup_scales
from afm_ref.pretraining.optimizer import afm_optimizer, warmup_cosine
from afm_ref.pretraining.stages import APPLE_TOKENS, apple_stages, tiny_stages
from afm_ref.training import fit
from afm_ref.transformer import forward, init

CFG = AFMConfig(d_model=8, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=4, d_ff=8, vocab_size=32)
MIXTURES = {"core": {"web": 3, "code": 1}, "continued": {"web": 1, "code": 1}, "lengthening": {"code": 1, "qa": 1}}
SMALL = tiny_stages(MIXTURES, {"core": 5, "continued": 4, "lengthening": 3}, seq_len=8, batch_size=8)


def rows(seq_len):
    """Return rows of random tokens, other ones for each part."""
    shape, parts = (9, seq_len + 1), ("web", "code", "qa")
    tokens = [np.random.default_rng((seq_len, k)).integers(0, 32, shape, np.int32) for k in range(3)]
    return {part: Packed(t, np.zeros_like(t), np.ones(shape, bool), 9) for part, t in zip(parts, tokens)}


def pairs_of_tokens(params, batch, base):
    """Return (sum, count) of a next-token loss that sees one token and the RoPE base: it compiles in no time."""
    logits = params["embed"][batch.tokens] @ params["embed"].T + params["base"] * math.log(base)
    return -(token_log_probs(logits, batch.targets) * batch.weights).sum(), batch.weights.sum()


START = {"embed": init(CFG, 0).embed, "base": np.full(32, 0.1, np.float32)}
go = partial(stages.run, START, CFG, rows=rows, seed=4, progress=False, checkpoint_every=2)
go = partial(go, loss=lambda stage, cfg: partial(pairs_of_tokens, base=cfg.rope_theta))


@pytest.fixture(scope="module")
def whole():
    """The run that nothing stops."""
    return go(SMALL)


def bits(out):
    """Return all that must be equal: weights, optimizer state, histories but for the time."""
    histories = [(past.loss, past.count, past.grad_norm, past.changed) for past in out.histories.values()]
    return [np.asarray(a).tobytes() for a in jax.tree.leaves((out.params, out.optimizer_state, histories))]


def test_the_rule_gives_the_published_base():
    assert round(rope_base(500_000, 8192, 32_768)) == 6_315_089
    assert rope_base(500_000, 4096, 32_768) == pytest.approx(33.7e6, rel=2e-3)  # not the core stage's window
    assert rope_base(500_000, 8192, 8192) == pytest.approx(500_000)
    for bad in ((1, 64, 128), (500_000, 6, 128), (500_000, 64, 0)):  # they have no logarithm
        with pytest.raises(ValueError, match="2 pi"):
            rope_base(*bad)


@pytest.mark.parametrize("cfg", [AFM_ON_DEVICE, AFM_TINY])
def test_the_rule_keeps_the_share_of_pairs_that_turn(cfg):
    """Counted from the model's own frequencies: as many pairs complete a turn in the new window as did in the old."""

    def turning(base, window):
        return int((2 * math.pi / rope_frequencies(cfg.head_dim, base) <= window).sum())

    new = rope_base(500_000, 8192, 32_768)
    assert turning(new, 32_768) == turning(500_000, 8192) < turning(500_000, 32_768) < cfg.head_dim // 2
    # and the critical pair itself, at a real number of pairs, has a wavelength of just the window
    critical = math.log(8192 / (2 * math.pi)) / math.log(500_000)
    assert 2 * math.pi * new**critical == pytest.approx(32_768)


def test_apple_stages_hold_the_published_numbers():
    assert [s.tokens for s in apple_stages()] == pytest.approx([6.3e12, 1e12, 100e9], rel=1e-4)
    found = [(s.learning_rate, s.warmup_steps, s.final, s.weight_decay) for s in apple_stages()[:2]]
    assert found == [(0.01, 5000, 0.005, 3.16e-4), (3e-4, 1000, 0.001, 1e-5)]
    windows = [(s.seq_len, s.rope_theta, s.weights) for s in apple_stages()]
    assert windows == [(4096, 5e5, {}), (8192, 5e5, {}), (32_768, 6_315_089, {})]


def test_the_miniature_has_apples_ratios():
    for small, large in zip(tiny_stages(MIXTURES), apple_stages()):
        assert small.name == large.name and small.seq_len / 128 == large.seq_len / 4096
        assert small.learning_rate / 0.006 == pytest.approx(large.learning_rate / 0.01)
        assert (small.final, small.weight_decay) == (large.final, large.weight_decay)
        assert small.batch_size * small.seq_len == 2048
    exponent = math.log(1024 / 6.2832) / math.log(256 / 6.2832)
    assert tiny_stages(MIXTURES)[2].rope_theta == pytest.approx(500_000**exponent, rel=1e-4)
    assert tiny_stages(MIXTURES, change_base=False)[2].rope_theta == 500_000


def test_a_stage_changes_what_it_should_and_nothing_else(whole):
    """Each stage is one call of fit that we make here by hand, from the weights that the stage before left."""
    params, cfg = START, CFG
    for stage in SMALL:
        assert (stage.rope_theta != cfg.rope_theta) == (stage.name == "lengthening")
        cfg = dataclasses.replace(cfg, rope_theta=stage.rope_theta)
        seed = (4, zlib.crc32(stage.name.encode()))
        batches = mix(rows(stage.seq_len), stage.weights, stage.batch_size, seed)
        assert batches(0).tokens.shape == (stage.batch_size, stage.seq_len)
        schedule = warmup_cosine(stage.steps // 20, stage.steps, stage.final)
        optimizer = afm_optimizer(stage.learning_rate, schedule, stage.weight_decay, update_scale=mup_scales(CFG))
        loss = partial(pairs_of_tokens, base=stage.rope_theta)
        result = fit(params, loss, batches, optimizer, stage.steps, progress=False)
        np.testing.assert_array_equal(result.history.loss, whole.histories[stage.name].loss)
        params = result.params
    assert whole.cfg == cfg and list(whole.histories) == ["core", "continued", "lengthening"]
    jax.tree.map(np.testing.assert_array_equal, params, whole.params)


def test_stopped_anywhere_continues_to_the_same_numbers(tmp_path, whole):
    """One folder, stopped four times: within a stage, at its end, before the next one's first checkpoint, in the last.

    Each call continues what the one before it left: so every stop is one that a stopped run goes on to.
    """
    now = []
    for at, step in ("core", 3), ("core", 5), ("continued", 1), ("lengthening", 2):

        def callback(history, at=at, step=step):
            if now[-1] == at and len(history) == step:
                raise ZeroDivisionError  # nothing is saved on its way out

        with pytest.raises(ZeroDivisionError):
            go(SMALL, callback=callback, callback_every=1, checkpoint=tmp_path, announce=lambda s: now.append(s.name))
        assert now[-1] == at
    done = []
    again = go(SMALL, checkpoint=tmp_path, announce=lambda s: done.append(s.name))
    assert bits(again) == bits(whole) and done == list(stages.NAMES)
    with pytest.raises(ValueError, match="another run"):
        go([dataclasses.replace(SMALL[0], weights={"web": 1})], checkpoint=tmp_path)


def test_a_carried_optimizer_keeps_its_moments_and_begins_the_schedule_anew(whole):
    """Its count goes on, 5 + 4, and is the last stage's 3 if each begins anew.

    The first loss is before any update, and so the same; all later ones differ.
    """
    carried, fresh = go(SMALL[:2], optimizer="carried"), whole
    assert [int(out.optimizer_state.count) for out in (carried, fresh)] == [9, 3]
    later = stages.delayed(SMALL[1].schedule, 5)
    np.testing.assert_allclose([later(t) for t in range(6, 10)], [SMALL[1].schedule(t) for t in range(1, 5)])
    same = carried.histories["continued"].loss == fresh.histories["continued"].loss
    assert same.tolist() == [True, False, False, False]


def test_a_stage_may_have_its_own_loss_and_batches():
    """The targets are replaced by token 0: the first loss is that of token 0, by NumPy, and no other."""
    seen = []

    def batches(stage, cfg, drawn):
        seen.append((stage.name, cfg.rope_theta))
        return lambda step: drawn(step)._replace(targets=0 * drawn(step).targets)

    out = go(SMALL[:1], batches=batches)
    batch = mix(rows(8), SMALL[0].weights, 8, (4, zlib.crc32(b"core")))(0)
    total, count = pairs_of_tokens(START, batch._replace(targets=0 * batch.targets), 5e5)
    assert out.histories["core"].loss[0] == pytest.approx(total / count, rel=1e-6) and seen == [("core", 5e5)]


def encode(text, markers=False):
    return np.array([ord(c) - 94 for c in text], np.int32)


LETTERS = SimpleNamespace(encode=encode)  # a tokenizer of letters: a is 3, b is 4, ...


def nats_after(params, ids, token):
    """Return -log p of a token after these ids, in NumPy."""
    z = forward(jax.tree.map(np.float64, params), np.array([ids]), CFG)[0, -1]
    return np.log(np.exp(z).sum()) - z[token]


def test_loss_by_position_by_hand():
    """A model that knows nothing of its input (no layers' output, equal logits) needs ln V everywhere; counts are
    documents times bin widths, the short document left out. Then a real one, one position at a time, in NumPy."""
    documents = [corpora.Document(text, "folder", text) for text in ("abcabcabc", "bca", "cbacbacba", "aaaabbbbcc")]
    by_position = partial(long_context.loss_by_position, cfg=CFG, documents=documents, tok=LETTERS)
    params = init(CFG, 1)
    flat = params._replace(embed=np.zeros_like(params.embed))
    found = by_position(flat, length=6, bins=[0, 2, 6])
    np.testing.assert_allclose(found.nats, math.log(32), rtol=1e-6)
    assert found.counts.tolist() == [6, 12] and found.edges.tolist() == [0, 2, 6]
    long = [[1, *encode(doc.text)] for doc in documents if doc.text != "bca"]
    want = [np.mean([nats_after(params, ids[:t], ids[t]) for ids in long]) for t in range(1, 7)]
    assert by_position(params, length=6, bins=6).nats == pytest.approx(want, rel=1e-4)
    for length, bins, message in ((90, 6, "no document is longer than 90"), (6, [0, 4, 4, 6], "rise from 0 to 6")):
        with pytest.raises(ValueError, match=message):
            by_position(params, length=length, bins=bins)


def test_a_moving_window_shows_the_last_tokens_alone():
    """Windows of 4 tokens that begin at 0, 2 and 4: each token from the first window that holds it."""
    rows = np.array([[1, *encode("abcbacba")], [1, *encode("aaaabbbb")]])
    params = init(CFG, 1)
    found = long_context.truncated_nats(params, CFG, rows, 4)
    assert found.shape == (2, 8)
    for row, nats in zip(rows, found):
        for t, start in zip(range(1, 9), (0, 0, 0, 0, 2, 2, 4, 4)):
            assert nats[t - 1] == pytest.approx(nats_after(params, [1, *row[start + 1 : t]], row[t]), rel=1e-4)
    documents = [corpora.Document("abcbacbab", "folder", "")]
    cut = long_context.loss_by_position(params, CFG, documents, LETTERS, 8, 8, seen=4)
    np.testing.assert_allclose(cut.nats, found[0])
    for seen in (0, 3, 6):
        with pytest.raises(ValueError, match=f"whole halves, got {seen}"):
            long_context.truncated_nats(params, CFG, rows, seen)


def test_bad_stages_are_refused():
    for change, more, message in (
        (dict(steps=0), {}, "steps is 0"),
        (dict(warmup_steps=9), {}, "warmup_steps 9"),
        (dict(name="continued"), {}, "its own name"),
        (dict(weights={}), {}, "above 0"),
        ({}, dict(optimizer="old"), "'fresh' or 'carried'"),
    ):
        with pytest.raises(ValueError, match=message):
            go([dataclasses.replace(SMALL[0], **change), SMALL[1]], **more)


def test_answers_are_measured_where_they_stand():
    """By hand: of tokens 1 5 6 7 5 6 2 the answer is "5 6" at 4, told at 1; its nats are those of two tokens."""
    tokens, params = np.array([1, 5, 6, 7, 5, 6, 2], np.int32), init(CFG, 2)
    long = long_qa.LongDocument(None, tokens, (long_qa.Answer((1, 3), (4, 6)),))
    (found,) = long_context.answer_losses(params, CFG, [long])
    nats = [[nats_after(params, tokens[:t], y) for y in range(32)] for t in (4, 5)]
    assert found.distance == 3 and found.nats == pytest.approx((nats[0][5] + nats[1][6]) / 2, rel=1e-4)
    assert found.right == np.mean(np.argmin(nats, axis=1) == (5, 6))


def test_long_questions_fill_a_row_of_any_window():
    """Documents are of 4000 tokens at most, however long the window is, and at least so many tokens in all."""
    tok = hugging_face.load_tokenizer(assets.FOLDER)
    for window, tokens in ((300, 1000), (9000, 100)):
        found = stage_data.token_counts({"long_qa": stage_data.long_questions(tok, window, tokens)}, tok)["long_qa"]
        assert found > window and found > 0.9 * tokens


def test_windows_shrink_to_what_the_corpus_fills():
    for code, short in ((1025, []), (1024, ["code"])):
        assert stage_data.choose_window({"text": 5000, "code": code}) == (128, short)
    assert [stage_data.choose_window({"text": n}) for n in (600, 129)] == [(64, []), (16, [])]
    with pytest.raises(ValueError, match=r"corpus too short.*129: give more text$"):
        stage_data.choose_window({"text": 128})


def test_default_mixtures_by_hand():
    """text : code = 300 : 100. Continued: 0.75 / 2 and 0.25 * 2, that is 3 : 4. Lengthening: 0.7 of it and 0.3."""
    found = stage_data.default_mixtures({"text": 300, "code": 100})
    assert found["core"] == pytest.approx({"text": 0.75, "code": 0.25})
    assert found["continued"] == pytest.approx({"text": 3 / 7, "code": 4 / 7})
    assert found["lengthening"] == pytest.approx({"text": 0.3, "code": 0.4, "long_qa": 0.3})
    given = stage_data.default_mixtures({"text": 1}, {"text": 1, "code": 3}, {"code": 2}, long_qa=False)
    assert given == {"core": {"text": 0.25, "code": 0.75}, "continued": {"code": 1}, "lengthening": {"code": 1}}


def test_steps_of_the_three_stages():
    found = [compute.step_count(APPLE_TOKENS[s.name], s.batch_size, s.seq_len) for s in apple_stages()]
    assert found == [375_509, 29_802, 745]
    assert compute.step_count(6.3e12, 2048, 4096) == pytest.approx(750_000, rel=2e-3)  # AXLearn's 3B


def test_axlearns_step_times():
    """36.6% by 6 N, 41.0% with attention at 1024 chips; 39.6% and 31.2% by 6 N at 512 and 2048."""
    cases = ((1024, False), (1024, True), (512, False), (2048, False))
    found = [compute.axlearn_mfu(chips, attention) for chips, attention in cases]
    np.testing.assert_allclose(found, [0.366, 0.410, 0.396, 0.312], atol=5e-4)
    # 1000 tokens of 6e9 FLOPs in 2 s on 3 chips of 2e12: half of what they could
    assert compute.mfu(1000, 6e9, 2.0, 3, 2e12) == 0.5


def test_flops_of_the_on_device_core_stage():
    assert compute.training_flops(2.73e9, 6.3e12) == pytest.approx(1.03e23, rel=5e-3)
    assert compute.forward_flops(6.4e9, 6.3e12) == pytest.approx(8.1e22, rel=5e-3)
    alone, distilled = compute.on_device_core(0.4, teacher=1e-9), compute.on_device_core(0.4)
    assert distilled.flops - alone.flops == pytest.approx(8.064e22)
    assert alone.flops == pytest.approx(6 * 2_737_739_264 * 6.3e12)
    # 6 N leaves attention's scores out and counts gains and the tied head: 11% below the products of a 4096 window
    assert alone.flops / (train_flops_per_token(AFM_ON_DEVICE, 4096) * 6.3e12) == pytest.approx(0.893, abs=0.002)


def test_days_by_hand():
    """1000 v4 at a half: 1.375e17 FLOP/s; a day of it is 1.188e22 FLOPs, and 24,000 chip-hours."""
    found = compute.bill(1.188e22, 1000, "v4", 0.5)
    assert found.cluster_flops == pytest.approx(1.375e17) and found.days == pytest.approx(1.0)
    assert found.chip_hours == pytest.approx(24_000)
    assert compute.bill(1, 8192, "v4", compute.SERVER_MFU).cluster_flops == pytest.approx(1.17e18, rel=2e-3)
    with pytest.raises(ValueError, match="share of the peak"):
        compute.bill(1, 1, "v4", 50)
