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


@settings(max_examples=60)
@given(data=st.data())
def test_a_file_cut_short_anywhere_is_refused(sound, data):
    folder, sound_bytes, _ = sound
    kept = data.draw(st.integers(0, len(sound_bytes) - 1))
    assert load_or_error(folder, sound_bytes[:kept])[0] is None


@settings(max_examples=300)
@given(data=st.data(), bit=st.integers(0, 7))
def test_a_bit_flipped_in_the_header_is_refused_or_harmless(sound, data, bit):
    folder, sound_bytes, params = sound
    damaged = bytearray(sound_bytes)
    header_bytes = 8 + int.from_bytes(sound_bytes[:8], "little")
    damaged[data.draw(st.integers(0, header_bytes - 1))] ^= 1 << bit
    loaded, _ = load_or_error(folder, bytes(damaged))
    assert loaded is None or same_weights(loaded, params)  # harmless: the free text of __metadata__


@settings(max_examples=60)
@given(data=st.data(), bit=st.integers(0, 7))
def test_a_bit_flipped_in_the_data_changes_one_number_or_is_refused(sound, data, bit):
    folder, sound_bytes, params = sound
    damaged = bytearray(sound_bytes)
    header_bytes = 8 + int.from_bytes(sound_bytes[:8], "little")
    damaged[data.draw(st.integers(header_bytes, len(damaged) - 1))] ^= 1 << bit
    loaded, complaint = load_or_error(folder, bytes(damaged))
    if loaded is None:
        assert "NaN or infinite" in complaint
    else:
        flat, other = (np.concatenate([w.reshape(-1) for w in named_tensors(p).values()]) for p in (params, loaded))
        assert (flat.view("u4") != other.view("u4")).sum() == 1


@settings(max_examples=60)
@given(garbage=st.binary(max_size=200), size=st.integers(0, 300))
def test_foreign_files_are_refused(sound, garbage, size):
    folder, sound_bytes, _ = sound
    for data in (garbage, size.to_bytes(8, "little") + garbage, sound_bytes + garbage + b"!"):
        assert load_or_error(folder, data)[0] is None
