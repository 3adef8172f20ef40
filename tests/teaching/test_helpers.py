"""What notebooks call: `check`, `show_source` and the glossary, and the lens over attention."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from nbval.plugin import get_sanitize_patterns

from afm_ref import config, ops, transformer
from afm_ref.config import AFMConfig
from afm_ref.teaching import check, glossary, show_source
from afm_ref.teaching.lens import Watching, attention_weights
from afm_ref.teaching.source import source_text
from afm_ref.transformer import Causal

MEASURED = Path(__file__).parents[2] / "tools" / "measured.cfg"


def test_what_holds_prints_a_line_that_ends_in_what_was_measured(capsys):
    for ok, settings, line in (
        (True, {}, "it holds"),
        (np.bool_(True), {"reason": "by definition"}, "it holds (by definition)"),
        (
            np.array([0, -3e-7]),
            {"tolerance": 1e-6, "reason": "f32"},
            "it holds (difference at most 1e-06; f32) [measured 3e-07]",
        ),
        (np.zeros(0), {"tolerance": 0.0}, "it holds (difference at most 0) [measured 0]"),
        (2.123456, {"between": (2, 2.5)}, "it holds (between 2 and 2.5) [measured 2.12]"),
    ):
        check("it holds", ok, **settings)
        assert capsys.readouterr().out == f"✓ {line}\n"


def test_nbval_leaves_out_the_measured_size_and_nothing_else(capsys):
    (regex, instead), *others = get_sanitize_patterns(MEASURED.read_text())
    seen = []
    for size in (0.0, 3.14159e-7, -2e5):
        check("a [range] of 0.5", np.array(size), tolerance=1e6, reason="f32")
        seen.append(re.sub(regex, instead, capsys.readouterr().out))
    assert others == [] and set(seen) == {"✓ a [range] of 0.5 (difference at most 1e+06; f32) [measured]\n"}


def test_what_does_not_hold_raises_and_says_what_was_measured():
    for ok, settings, words in (
        (False, {}, "this does not hold: a claim"),
        (np.array([0.0, -0.5]), {"tolerance": 0.4}, "measured: 0.5"),
        (math.nan, {"tolerance": 1.0}, "measured: nan"),
        (np.array([0.0, math.nan]), {"tolerance": 1.0}, "measured: nan"),
        (math.inf, {"tolerance": 1.0}, "measured: inf"),
        (math.nan, {"between": (0, 1)}, "measured: nan"),
        (1.23456, {"between": (2, 3), "reason": "seeds"}, "measured: 1.23\n    expected: between 2 and 3; seeds"),
    ):
        with pytest.raises(AssertionError, match=words):
            check("a claim", ok, **settings)


def test_a_check_needs_a_claim_and_one_criterion():
    with pytest.raises(TypeError, match="tolerance= or between="):
        check("a difference of zero would pass as False", 0.0)
    with pytest.raises(ValueError, match="needs a claim"):
        check("", True)
    with pytest.raises(ValueError, match="not both"):
        check("a claim", 1.0, tolerance=1.0, between=(0, 2))


def test_the_text_is_the_code_that_runs():
    names = {"wide": ops.wide, "narrow": ops.narrow}
    exec(source_text(ops.silu).replace('Float[Array, "*batch F"]', "object"), names)
    x = np.array([1.0, 2.0, -3.0])
    assert np.array_equal(names["silu"](x), ops.silu(x))


def test_only_the_lines_that_name_tests_are_left_out():
    def double(x):
        """Return 2 x.

        Source: Euclid [standard].
        Test: tests/a.py::test_one,
        tests/a.py::test_two
        """
        return 2 * x  # Test: by hand

    head = 'def double(x):\n    """Return 2 x.\n\n    Source: Euclid [standard].\n    """\n'
    assert source_text(double) == head + "    return 2 * x  # Test: by hand"
    assert "Source: TR24 section 2" in source_text(ops.rms_norm)


def bare(x):
    return x


def test_a_class_and_a_function_without_docstring():
    assert source_text(transformer.Causal).startswith("class Causal:")
    assert source_text(bare) == "def bare(x):\n    return x"


def test_it_displays_markdown_that_names_the_file(shown):
    show_source(ops.softmax, ops.silu)
    texts = [markdown.data for (markdown,), _ in shown]
    assert [text.split("\n")[0] for text in texts] == ["`afm_ref/ops.py`"] * 2
    assert all("\n\n```python\ndef " in text and "width: max-content" in text for text in texts)


def test_every_axis_letter_of_the_config_is_in_the_legend():
    letters = re.findall(r"\b([A-Z])\s+\(", config.AFMConfig.__doc__)
    assert len(letters) == 7 and set(letters) <= set(glossary.AXES)


def test_tables_have_a_row_for_each_entry_and_no_stray_columns(shown):
    glossary.show_axes()
    glossary.show_terms()
    for ((table,), _), entries in zip(shown, (glossary.AXES, glossary.TERMS), strict=True):
        lines = table.data.splitlines()
        assert len(lines) == len(entries) + 2
        assert all(line.count("|") == 3 for line in lines)
    assert list(glossary.TERMS) == sorted(glossary.TERMS, key=str.lower)


def test_weights_average_the_values_as_attention_does():
    rng = np.random.default_rng((7, 0))
    B, T, N, K, H = 2, 11, 4, 2, 4  # more keys than channels, and not a multiple
    q, k, v = (rng.standard_normal((B, T, heads, H)) for heads in (N, K, K))
    positions = np.arange(T)[None]
    mask = Causal().mask(positions, positions)
    weights = attention_weights(q, k, mask)
    values = np.repeat(v, N // K, axis=2)
    assert np.allclose(np.einsum("btns,bsnh->btnh", weights, values), ops.attention(q, k, v, mask), atol=1e-12)
    assert weights.shape == (B, T, N, T) and np.allclose(weights.sum(-1), 1, atol=1e-12)
    assert np.all(weights[:, 0, :, 1:] == 0)


def test_watching_changes_nothing():
    cfg = AFMConfig(d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=16, vocab_size=20)
    params = transformer.init(cfg, seed=0)
    tokens = np.arange(10)[None] % cfg.vocab_size
    watching = Watching()
    seen = transformer.forward(params, tokens, cfg, attend=watching)
    assert np.array_equal(seen, transformer.forward(params, tokens, cfg))
    assert len(watching.weights) == cfg.n_layers and watching.weights[0].shape == (1, 10, 4, 10)
