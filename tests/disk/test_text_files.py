"""Reading UTF-8 that others wrote: a byte-order mark is no text, another encoding is named."""

import codecs
import json

import pytest

from afm_ref.disk.text_files import read_json, read_json_lines, read_lines, read_text

TEXT = 'a "quote"\r\nStraße\u2028 \u0085 \U0001f600\n\ufeff'


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_text_arrives_as_it_was_written(tmp_path, mark):
    """Line ends stay, and so does a mark that is not at the head: there it is a character."""
    (tmp_path / "text").write_bytes(mark + TEXT.encode())
    assert read_text(tmp_path / "text") == TEXT


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ('{"a": "ü"}'.encode("utf-16"), r"UTF-16 \(line 1 holds"),
        ('{"a":\n"ü"}'.encode("utf-16-be"), r"UTF-16 \(line 1 holds"),
        ('{"a":\n "ü"}'.encode("latin-1"), "not UTF-8 at byte 8, in line 2"),
        (codecs.BOM_UTF8 + b'{"a":\n"\xff"}', "not UTF-8 at byte 7, in line 2"),
        ("日本語".encode("utf-16"), "not UTF-8 at byte 0, in line 1"),
    ],
)
def test_another_encoding_is_named_with_the_file(tmp_path, data, why):
    path = tmp_path / "notes.json"
    path.write_bytes(data)
    for read in (read_text, read_json):
        with pytest.raises(ValueError, match=why) as caught:
            read(path)
        assert str(path) in str(caught.value) and "UTF-8" in str(caught.value)


ENDS_FOR_STR = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"  # str.splitlines cuts at these too


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
