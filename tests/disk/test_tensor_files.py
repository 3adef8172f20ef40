"""Sealed files of tensors: bit for bit, read by safetensors too, and every damage refused."""

import json
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize

from afm_ref.disk import tensor_files

NUMBERS = 9 * np.random.default_rng(0).standard_normal((3, 20))
TENSORS = {kind: NUMBERS[:, :i].astype(dtype) for i, (kind, dtype) in enumerate(tensor_files.KINDS.items())}
TENSORS |= {"scalar": np.array(-0.0, ml_dtypes.bfloat16), "turned": np.arange(6.0).reshape(2, 3).T}


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_what_is_saved_is_loaded_whatever_its_dtype(tmp_path):
    tensor_files.save(tmp_path / "a" / "file", TENSORS, {"format": "f.1", "said": "ü"})
    tensors, about = tensor_files.load(tmp_path / "a" / "file", "f.1")
    same(tensors, TENSORS)
    assert about == {"format": "f.1", "said": "ü"}
    for name, by_the_library in deserialize((tmp_path / "a" / "file").read_bytes()):
        assert by_the_library["dtype"] == tensor_files.KIND_OF[tensors[name].dtype]
        assert bytes(by_the_library["data"]) == tensors.pop(name).tobytes()
    assert tensors == {}


def test_another_format_and_a_file_without_a_checksum_are_named(tmp_path):
    path = tmp_path / "file"
    tensor_files.save(path, {}, {"format": "f.1"})
    with pytest.raises(ValueError, match=r"file: is of the format 'f\.1', expected 'f\.2'"):
        tensor_files.load(path, "f.2")
    tensor_files.write(path, {"a": np.zeros(2)}, {"format": "f.1"})
    with pytest.raises(ValueError, match=r"file: has no checksum of ours"):
        tensor_files.load(path, "f.1")
    assert tensor_files.read(path, {"a": (2,)}, "float32")["a"].tolist() == [0, 0]


@settings(max_examples=60)
@given(st.data())
def test_every_flipped_bit_and_every_cut_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "sealed"
    tensor_files.save(path, TENSORS, {"format": "f.1"})
    whole = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    for damaged in (whole[:at], whole + whole[:1], whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]):
        with pytest.raises(ValueError, match=r"cut short|no checksum"):
            tensor_files.decode(damaged)


def with_header(path, change):
    """Change a file's header and make its checksum fit, as nobody but a program gone wrong would."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    index = json.loads(data[8:start])
    about = index.pop("__metadata__")
    del about["crc32"]
    change(index)
    about["crc32"] = str(zlib.crc32(data[start:], zlib.crc32(json.dumps([about, index], sort_keys=True).encode())))
    path.write_bytes(tensor_files.header(index, about) + data[start:])


@pytest.mark.parametrize("change", [{}, {"dtype": "I8"}, {"dtype": "F9"}, {"shape": [3, 3]}, {"data_offsets": [0]}])
def test_a_header_that_contradicts_itself_is_refused(tmp_path, change):
    path = tmp_path / "file"
    tensor_files.save(path, {"a": np.ones((2, 2))}, {"format": "f.1"})
    with_header(path, lambda index: index["a"].update(change))
    if not change:
        return same(tensor_files.load(path, "f.1")[0], {"a": np.ones((2, 2))})
    with pytest.raises(ValueError, match=r"file: holds tensors that cannot be read"):
        tensor_files.load(path, "f.1")


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data):
    for damaged in (data, len(data).to_bytes(8, "little") + data):
        with pytest.raises(ValueError):
            tensor_files.decode(damaged)
