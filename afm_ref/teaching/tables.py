"""Tables of the notebooks, as Markdown."""

from collections.abc import Iterable, Sequence


def show_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Display the table in a notebook."""
    from IPython.display import Markdown, display

    lines = (f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
    display(Markdown("\n".join(lines)))
