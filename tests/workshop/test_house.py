"""The rules of the house: no crowded folder, no module hidden by its package; wrapping changes no count."""

from pathlib import Path

from tools import size

ROOT = Path(__file__).resolve().parents[2]


def test_no_folder_is_crowded_and_no_module_hidden():
    found = size.house(size.read(ROOT / "afm_ref"))
    crowded = found[f"folders of more than {size.MODULES} modules"]
    assert crowded == found["modules shadowed by a name of their package"] == []


def tree(folder, **modules):
    """Return the modules of a package with these sources."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return size.read(folder)


def test_breaches_are_found(tmp_path):
    packed = "def pack():\n    pass\n\n\ndef unpack():\n    pass\n"
    found = size.house(tree(tmp_path, __init__="from .pack import pack\n", pack=packed, other="class pack: ...\n"))
    broken = {rule.split(" ")[-1]: len(where) for rule, where in found.items() if where}
    assert broken == {"package": 1, "modules": 1, "docstring": 3}
    assert found["modules shadowed by a name of their package"] == [str(tmp_path / "pack.py")]
    assert size.shadowed(tree(tmp_path, __init__="from . import pack\nfrom .pack import unpack\n")) == []


def test_wrapping_changes_no_count_of_tokens(tmp_path):
    one = 'def f(a, b):\n    """Add."""\n    return [a, b]\n'
    wrapped = 'def f(\n    a,\n    b,\n):\n    """Add\n    them.\n    """\n    return [a,  # first\n        b,\n    ]\n'
    counts = [size.count(file)["tokens"] for file in tree(tmp_path, one=one, wrapped=wrapped)]
    assert counts == [14, 14]
