"""Chapter 2's control on near-duplicates: the S-curve for bands and rows."""

from . import curation_figures, widgets

BANDS, ROWS = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 13, 16, 32)


def s_curve_explorer(
    alt: str, bands: int = 16, rows: int = 8, permutations: int = 128, threshold: float = 0.75
) -> None:
    """Display controls for bands and rows above the figure of `curation_figures.s_curve`.

    Bands and rows that do not fit into the signature are answered by a sentence; the figure stays.

    Source: as for `near_duplicates.candidate_probability`; the figure is ours [ours].
    Test: tests/teaching/test_curation_figures.py::test_the_explorer_has_controls
    """

    def draw(bands, rows):
        return curation_figures.s_curve(bands, rows, permutations, threshold)

    widgets.explore(
        draw,
        alt,
        bands=widgets.steps("bands b", list(BANDS), bands),
        rows=widgets.steps("rows r", list(ROWS), rows),
    )
