"""A damaged safetensors file is refused or makes no difference, whatever the damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.interop import hugging_face
from tests.interop.files import named_tensors, write_folder
from tests.interop.models import LLAMA, random_params, same_weights


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(a folder to damage, the sound bytes, the sound weights)"""
    folder, params = tmp_path_factory.mktemp("damaged"), random_params(LLAMA)
    write_folder(folder, LLAMA, named_tensors(params))
    return folder, (folder / "model.safetensors").read_bytes(), params


def load_or_error(folder, data):
    """Return (params, None), or (None, message) of a ValueError that names the file or folder."""
    (folder / "model.safetensors").write_bytes(data)
    try:
        return hugging_face.load(folder)[0], None
    except ValueError as error:
        assert str(folder) in str(error)  # noqa: PT017
        return None, str(error)


@settings(max_examples=100)
@given(data=st.data(), bit=st.integers(0, 7), garbage=st.binary(max_size=200), part=st.sampled_from(["header", "data"]))
def test_every_damage_is_refused_or_makes_no_difference(sound, data, bit, garbage, part):
    """A flipped bit, a cut anywhere, something at the end, something else altogether."""
    folder, good, params = sound
    start = 8 + int.from_bytes(good[:8], "little")
    at = data.draw(st.integers(0, start - 1) if part == "header" else st.integers(start, len(good) - 1))
    for other in (good[:at], garbage, at.to_bytes(8, "little") + garbage, good + garbage + b"!"):
        assert load_or_error(folder, other)[0] is None
    loaded, complaint = load_or_error(folder, good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
    if part == "header":
        assert loaded is None or same_weights(loaded, params)  # the free text of __metadata__
    elif loaded is None:
        assert "NaN or infinite" in complaint
    else:
        flat, other = (np.concatenate([w.reshape(-1) for w in named_tensors(p).values()]) for p in (params, loaded))
        assert (flat.view("u4") != other.view("u4")).sum() == 1
