"""tools.regenerate stores nothing that another run would change."""

import base64
import zlib

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import regenerate


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


HEADER, END = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)), chunk(b"IDAT", b"abc") + chunk(b"IEND", b"")


def stored(output, *tags):
    """Return the outputs that a cell with these tags keeps."""
    cell = new_code_cell("x", outputs=[output], metadata={"tags": list(tags), "execution": {"iopub": "12:00"}})
    (cell,) = regenerate.clean(new_notebook(cells=[cell]), "a.ipynb").cells
    assert set(cell.metadata) == {"tags"}
    return cell.outputs


def test_outputs_that_vary_are_not_stored():
    text = new_output("stream", name="stdout", text="0.31 s")
    assert stored(text) == [text]
    assert stored(text, "nbval-ignore-output", "volatile") == []
    assert stored(new_output("stream", name="stderr", text="50%"), "nbval-ignore-output") == []
    with pytest.raises(ValueError, match="writes to stderr"):  # no warning is swept under the carpet
        stored(new_output("stream", name="stderr", text="DeprecationWarning"))
    widget = new_output("display_data", data={regenerate.WIDGET: {"model_id": "a"}, "text/plain": "IntSlider()"})
    assert stored(widget) == []
    noisy = HEADER + chunk(b"tEXt", b"Software\0x") + END
    with pytest.raises(ValueError, match="checksum"):
        regenerate.plain_png(noisy[:-1] + b"x")
    png = base64.b64encode(noisy).decode()
    (figure,) = stored(new_output("display_data", data={regenerate.WIDGET: {"model_id": "a"}, "image/png": png}))
    assert set(figure.data) == {"image/png"}  # what GitHub shows in the widget's place
    (figure,) = stored(new_output("display_data", data={"image/png": png}), "nbval-ignore-output", "volatile")
    assert base64.b64decode(figure.data["image/png"]) == HEADER + END


def test_cell_ids_follow_the_source_and_metadata_is_reduced():
    def ids(*sources):
        notebook = new_notebook(cells=[new_code_cell(s) for s in sources], metadata={"widgets": {"a": 1}})
        notebook = regenerate.clean(notebook, "a.ipynb")
        assert notebook.metadata == regenerate.METADATA
        nbformat.validate(notebook)
        return [c.id for c in notebook.cells]

    before, after = ids("a", "b", "b"), ids("new", "a", "b", "b")
    assert len(set(after)) == 4 and after[1:] == before
    chosen = regenerate.clean(new_notebook(cells=[new_code_cell("a", id="set-up")]), "a.ipynb")
    assert chosen.cells[0].id == "set-up"


def test_two_runs_write_the_same_bytes_and_check_sees_a_change(tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    path, figures = tmp_path / "notebooks" / "00_a.ipynb", tmp_path / "figures"
    figures.mkdir()
    (figures / "old.png").write_bytes(HEADER + END)
    source = "import os, time, pathlib\nprint(os.environ['JAX_PLATFORMS'], hash('a'))\n"
    draw = f"pathlib.Path(os.environ['AFM_REF_FIGURES'], '00_a.png').write_bytes({HEADER + END!r})\n7"
    clock = new_code_cell("print(time.time())", metadata={"tags": ["volatile", "nbval-ignore-output"]})
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A"), new_code_cell(source + draw), clock]), path)

    assert regenerate.main([], tmp_path) == 0
    first = path.read_bytes()
    assert b'"execution_count": 2' in first and b'"7"' in first
    assert [p.name for p in figures.iterdir()] == ["00_a.png"]
    assert regenerate.main(["--check"], tmp_path) == 0
    path.write_bytes(first.replace(b'"7"', b'"8"'))
    assert regenerate.main(["--check"], tmp_path) == 1
    assert "notebooks/00_a.ipynb: changed" in capsys.readouterr().out
    assert b'"8"' in path.read_bytes()
