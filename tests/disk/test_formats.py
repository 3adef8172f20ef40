"""Sealed files of tensors, of which every damage is refused, and UTF-8 that others wrote."""

import codecs
import json
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize

from afm_ref.disk import tensor_files
from afm_ref.disk.text_files import read_json, read_json_lines, read_lines, read_text

NUMBERS = 9 * np.random.default_rng(0).standard_normal((3, 20))
TENSORS = {kind: NUMBERS[:, :i].astype(dtype) for i, (kind, dtype) in enumerate(tensor_files.KINDS.items())}
TENSORS |= {"scalar": np.array(-0.0, ml_dtypes.bfloat16), "turned": np.arange(6.0).reshape(2, 3).T}
TEXT = 'a "quote"\r\nStraße\u2028 \u0085 \U0001f600\n\ufeff'
ENDS_FOR_STR = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"  # str.splitlines cuts at these too


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


def test_text_arrives_as_it_was_written(tmp_path):
    """Line ends stay, and so does a mark that is not at the head: there it is a character."""
    for mark in (b"", codecs.BOM_UTF8):
        (tmp_path / "text").write_bytes(mark + TEXT.encode())
        assert read_text(tmp_path / "text") == TEXT


def test_another_encoding_is_named_with_the_file(tmp_path):
    path = tmp_path / "notes.json"
    for data, why in (
        ('{"a": "ü"}'.encode("utf-16"), r"UTF-16 \(line 1 holds"),
        ('{"a":\n"ü"}'.encode("utf-16-be"), r"UTF-16 \(line 1 holds"),
        ('{"a":\n "ü"}'.encode("latin-1"), "not UTF-8 at byte 8, in line 2"),
        (codecs.BOM_UTF8 + b'{"a":\n"\xff"}', "not UTF-8 at byte 7, in line 2"),
        ("日本語".encode("utf-16"), "not UTF-8 at byte 0, in line 1"),
    ):
        path.write_bytes(data)
        for read in (read_text, read_json):
            with pytest.raises(ValueError, match=why) as caught:
                read(path)
            assert str(path) in str(caught.value) and "UTF-8" in str(caught.value)


def test_lines_end_at_line_feeds_alone(tmp_path):
    file, other = tmp_path / "a.jsonl", f"one{ENDS_FOR_STR}line"
    file.write_bytes(f"\ufeff\n{other}\r\n  \nlast".encode())
    assert list(read_lines(file)) == [(2, other), (4, "last")]
    rows = [{"text": f"a{c}b"} for c in ENDS_FOR_STR if c >= " "]
    file.write_text("\ufeff" + "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert list(read_json_lines(file)) == list(enumerate(rows, start=1))
    for bad in ('{"text"', '{"text": "a \\ud83d b"}', '{"\\uDE00": 1}'):
        file.write_text('{"text": "\\ud83d\\uDE00"}\n\n' + bad + "\n")
        with pytest.raises(ValueError, match=r"a.jsonl, line 3: no JSON"):
            list(read_json_lines(file))


def test_marks_of_joined_files_are_no_text(tmp_path):
    """As `cat` leaves them, of files that begin with one; within a line it is a character."""
    (tmp_path / "a").write_bytes(b"".join(codecs.BOM_UTF8 + text.encode() for text in ("a\n", "b\ufeff c\r\n", "\n")))
    assert list(read_lines(tmp_path / "a")) == [(1, "a"), (2, "b\ufeff c")]
    (tmp_path / "a").write_bytes(2 * (codecs.BOM_UTF8 + b'{"a": 1}\n'))
    assert list(read_json_lines(tmp_path / "a")) == [(1, {"a": 1}), (2, {"a": 1})]
