"""Tables of the notebooks, as Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the table as Markdown."""
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)
    )


def show_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Display the table in a notebook."""
    from IPython.display import Markdown, display

    display(Markdown(markdown_table(head, rows)))
