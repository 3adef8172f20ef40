"""What chapter 9 draws: every matrix's bits under a budget, a palette and its weights; and
how it reads the recordings `quantization` and `few_bits`.
"""

import numpy as np

from ...config import MATRICES, AFMConfig
from ...evaluation import mean_and_bound
from ...quantization import frontier, palettize, weight_counts
from ...quantization.bits import storage
from .. import widgets
from ..figures import BLACK, BLUE, RED, SEQUENTIAL, SKY, box, subplots

GIGABYTES_PER_S = 40.0
NONE = "none"
WIDTHS = (1, 2, 3, 4, 5, 6)


def talaria(
    costs: dict,
    cfg: AFMConfig,
    average_bits: float,
    fixed: dict | None = None,
    gigabytes_per_s: float = GIGABYTES_PER_S,
):
    """Draw every matrix's bits at an average, and the loss, size and time they should give.

    costs: {(matrix, layer): {bits: nats per token}}, as `measured_costs` and
    `predicted_costs` return them. fixed: bits set by hand, framed in the figure. Size and
    time count codes, an 8-bit embedding and gains. ValueError: a budget that the fewest
    bits exceed.

    Source: BLOG24 (Talaria: latency and power guide the choice of bits) [confirmed]; the
        figure is ours [ours].
    Test: tests/teaching/chapters/test_quantization.py::test_talaria_shows_the_allocation
    """
    weights, fixed = weight_counts(cfg), fixed or {}
    (point,) = frontier(costs, weights, [average_bits], fixed)
    average, widths = point.average_bits, _widths(costs)
    fig, (left, right) = subplots(1, 2, figsize=(9.4, 3.9), width_ratios=[1.5, 1])
    _bits_map(left, point.bits, cfg.n_layers, fixed, widths)
    rate = storage.tokens_per_s(cfg, average, gigabytes_per_s * 1e9)
    size = _size(storage.weight_bytes_per_token(cfg, average))
    left.set_title(
        f"{average:.2f} bits a weight, {size} in all\n"
        f"{1e3 / rate:.3g} ms a token at {gigabytes_per_s:g} GB/s",
        loc="left",
    )
    averages = np.linspace(max(map(min, costs.values())), widths[-1], 41)
    best = [(p.average_bits, p.loss) for p in frontier(costs, weights, averages)]
    right.plot(*zip(*best), color=BLUE, label="the least possible")
    right.plot([average], [point.loss], "o", color=RED, ms=9, label="on the left")
    right.set_title(f"predicted loss: {point.loss:+.3g} nats\nfor every token", loc="left")
    right.set(
        xlabel="bits a projection weight",
        ylabel="predicted loss over the plain\nmodel's, nats per token",
    )
    right.legend(loc="upper right")
    return fig


def _widths(costs):
    return sorted({b for cost in costs.values() for b in cost})


def _bits_map(ax, bits, n_layers, fixed, widths):
    """Draw the bits as a map of layers by matrices, those fixed by hand in a frame."""
    layers, least, most = range(n_layers), widths[0], widths[-1]
    table = np.array([[bits[name, layer] for name in MATRICES] for layer in layers])
    ax.imshow(table, cmap=SEQUENTIAL, vmin=least, vmax=most, aspect="auto")
    for (layer, column), b in np.ndenumerate(table):
        color = "white" if b < (least + most) / 2 else BLACK
        ax.text(column, layer, b, ha="center", va="center", color=color)
    for name, layer in fixed:
        place = MATRICES.index(name) - 0.44, layer - 0.44, 0.88, 0.88
        box(ax, *place, fill=False, edgecolor=RED, lw=3)
    ax.set_xticks(range(len(MATRICES)), MATRICES, fontsize=10)
    ax.set(yticks=layers, xlabel="matrix", ylabel="layer")


def _size(n_bytes):
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.2f} MB"


def explore_bits(costs: dict, cfg: AFMConfig, alt: str) -> None:
    """Display controls for the budget and for one matrix set by hand, above `talaria`.

    The matrix by hand is at first the one that costs most at the fewest bits, at its most
    bits: the optimum's choice.
    """
    widths = _widths(costs)
    names = {f"{name}, layer {layer}": (name, layer) for name, layer in costs}
    dearest = max(names, key=lambda name: costs[names[name]][widths[0]])

    def draw(average_bits, matrix, bits, gigabytes_per_s):
        fixed = {} if matrix == NONE else {names[matrix]: bits}
        return talaria(costs, cfg, average_bits, fixed, gigabytes_per_s)

    averages = [tenths / 10 for tenths in range(10 * widths[0], 10 * widths[-1] + 1)]
    widgets.explore(
        draw,
        alt,
        average_bits=widgets.stops("average bits", averages, 3.5),
        matrix=widgets.choice("by hand", [NONE, *names], dearest),
        bits=widgets.stops("its bits", widths, widths[-1]),
        gigabytes_per_s=widgets.stops(
            "memory, GB/s", [10.0, 20.0, 40.0, 50.0, 100.0, 400.0], GIGABYTES_PER_S
        ),
    )


def table_and_error(matrix, bits: int, rows_per_table: int):
    """Draw the first table's weights and entries, and the matrix's error at every width.

    matrix: [out, in]. rows_per_table: how many rows share a table.
    """
    w = np.asarray(matrix, np.float32)
    found = {b: palettize(w, b, rows_per_table) for b in sorted({*WIDTHS, bits})}
    points = {
        b: (p.bits_per_weight, 100 * relative_error(w, p.dense())) for b, p in found.items()
    }
    first, (size, percent) = w[:rows_per_table], points[bits]
    entries = np.unique(found[bits].dense()[:rows_per_table])
    fig, (left, right) = subplots(1, 2, figsize=(9.4, 3.6), width_ratios=[1.6, 1])
    left.hist(first.ravel(), bins=60, color=SKY)
    left.vlines(entries, 0, 1, transform=left.get_xaxis_transform(), color=RED, lw=1.4)
    left.set(xlabel="weight", ylabel="count")
    left.set_title(
        f"{len(entries)} entries (lines) for the {first.size:,} weights of {len(first)} rows"
    )
    right.plot(*zip(*points.values()), "o-", color=BLUE)
    right.plot([size], [percent], "o", color=RED, ms=10)
    right.set(
        xlabel="bits a weight, tables included",
        ylabel="error $|W - Q|$ / $|W|$, %",
        ylim=(0, None),
        title=f"{size:.2f} bits, error {percent:.2g}%",
    )
    return fig


def relative_error(w: np.ndarray, q: np.ndarray) -> float:
    """Return |W - Q| / |W|, Frobenius norms; 0 for a matrix of zeros that is kept."""
    error, size = np.linalg.norm(w - q), np.linalg.norm(w)
    return float(error / size) if size else float(error)


def explore_palette(matrices: dict[str, np.ndarray], name: str, alt: str) -> None:
    """Display controls for matrix, bits and rows a table above `table_and_error`."""
    widgets.explore(
        lambda matrix, bits, rows: table_and_error(matrices[matrix], bits, rows),
        alt,
        matrix=widgets.choice("matrix", list(matrices), name),
        bits=widgets.slider("bits", WIDTHS[0], WIDTHS[-1], 4),
        rows=widgets.stops("rows a table", [1, 2, 4, 8, 16, 32, 64], 16),
    )


def costs_of_text(table: dict) -> dict:
    """Return {(matrix, layer): {bits: nats}} of a recording's {"0.wq": {"2": nats}}."""
    split = {tuple(key.split(".")): row for key, row in table.items()}
    return {
        (name, int(layer)): {int(bits): nats for bits, nats in row.items()}
        for (layer, name), row in split.items()
    }


def records_done(run: dict, task: str) -> np.ndarray:
    """Return which held-out records a recorded run does wholly: [records] 0 or 1."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(run["records"][task]), np.uint8))


def lead(runs: dict, arm: str, before: str, task: str) -> tuple[np.ndarray, float, float]:
    """Return an arm's success less that of 16 bits, paired by seed and record: (of each
    seed, mean, what it is at least), as `evaluation.mean_and_bound` has it.

    before: how the keys of the measure's runs begin. What draws nothing has one run, of
    seed 0, for all.
    """
    theirs = [key for key in runs if key.startswith(f"{before}16_")]
    ours = (runs.get(key.replace("16", arm), runs[f"{before}{arm}_0"]) for key in theirs)
    less = np.array(
        [
            records_done(run, task).astype(float) - records_done(runs[key], task)
            for run, key in zip(ours, theirs)
        ]
    )
    return less.mean(axis=1), *mean_and_bound(less)
