"""Chapter 1's pictures show the shapes, weights and angles that they are given."""

import numpy as np
import pytest

from afm_ref import ops
from afm_ref.config import AFM_ON_DEVICE, AFM_TINY
from afm_ref.teaching.chapters import transformer


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_block_diagram_has_the_shapes_of_both_models():
    (ax,) = transformer.block_diagram({"tiny": AFM_TINY, "true": AFM_ON_DEVICE}).axes
    found = texts(ax)
    for size, times in (("64 x 192", 2), ("1,024 x 3,072", 2), ("8,064 x 3,072", 2), ("3,072 x 8,064", 1)):
        assert found.count(size) == times
    assert {"tiny", "true", "4", "26", "N 24, K 8, H 128"} <= set(found)


def test_equal_vectors_fall_as_rope_turns_them():
    fig = transformer.rotations((0, 3), 8, (10.0, 50.0))
    *_, curves, bar = fig.axes
    assert bar.get_xlabel() == "position" and len(curves.lines) == 3  # two bases and the zero line
    distance, mean = transformer._falling(8, 50.0, longest=4)
    ones = ops.rope(np.ones((1, 5, 1, 8)), np.arange(5)[None], 50.0, "interleaved")[0, :, 0]
    assert list(distance) == [1, 2, 3]
    assert mean == pytest.approx(ones[1:4] @ ones[0] / 8)


def test_queries_are_drawn_to_the_key_head_that_they_read():
    (ax,) = transformer.grouped_queries(6, {"two": 2}).axes
    assert [line.get_xdata().tolist() for line in ax.lines] == [[n, 1 if n < 3 else 4] for n in range(6)]
    assert texts(ax).count("kv1") == 1


def test_the_cache_is_marked_where_it_weighs_as_much_as_the_weights():
    (ax,) = transformer.kv_cache(AFM_ON_DEVICE, {"AFM": 8, "one": 1}, 106_496e4).axes
    assert texts(ax) == ["10,000"] and ax.lines[1].get_xdata() == [10_000]  # the other's lies outside


def test_heads_show_their_weights_on_one_scale():
    weights = np.tril(np.ones((3, 3))) / np.arange(1, 4)[:, None]
    first, second, _ = transformer.heads(["a", "$", "c"], {"one": weights, "two": weights.T}).axes
    assert np.array_equal(first.images[0].get_array(), weights)
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 1)
    assert [label.get_text() for label in first.get_xticklabels()] == ["a", "$", "c"]
