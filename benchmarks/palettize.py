"""Palettization: a 3072x3072 matrix beside coremltools and kmeans1d, and AFM-on-device's 2.59B weights to disk.

    python -m benchmarks.palettize [--rounds N] [--plot [FILE]]
    python -m benchmarks.palettize --on-device       # minutes: 3.5 bits, generated and written matrix by matrix

16 rows share a table. coremltools is its PostTrainingPalettizer with one worker (two were slower), kmeans1d the exact
optimum, called in as many threads as ours. `relative_error` is |W - W'|^2 / |W|^2. Both peers need the extra `oracles`.
"""

import json
import logging
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import _common

SIDE, ROWS, EXACT_TABLES = 3072, 16, 8


def matrix(kind):
    """Return weights of std about 0.02: Gaussian, or Student's t with 4 degrees of freedom, of heavier tails."""
    import numpy as np

    rng = np.random.default_rng(0)
    draw = {"gauss": lambda shape: rng.standard_normal(shape), "t4": lambda shape: rng.standard_t(4, shape)}[kind]
    return (0.02 * draw((SIDE, SIDE))).astype(np.float32)


def relative_error(w, palettized):
    """Return |W - W'|^2 / |W|^2, summed in float64."""
    import numpy as np

    return float(np.square(w - palettized, dtype=np.float64).sum() / np.square(w, dtype=np.float64).sum())


def coremltools_palettizer(w, bits):
    """Return a call that palettizes the matrix with coremltools and returns it palettized."""
    import numpy as np
    import torch
    from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig

    torch.set_num_threads(_common.THREADS)
    settings = {"n_bits": bits, "granularity": "per_grouped_channel", "group_size": ROWS, "channel_axis": 0}
    model = torch.nn.Sequential(torch.nn.Linear(SIDE, SIDE, bias=False))
    model[0].weight.data = torch.from_numpy(w.copy())
    palettizer = PostTrainingPalettizer(model, PostTrainingPalettizerConfig.from_dict({"global_config": settings}))
    return lambda: np.asarray(palettizer.compress(num_kmeans_workers=1)[0].weight.detach())


def kmeans1d_palettizer(w, bits):
    """Return a call that palettizes the matrix with kmeans1d, a table for every ROWS rows."""
    import kmeans1d
    import numpy as np

    def table(rows):
        codes, centres = kmeans1d.cluster(rows.reshape(-1), 2**bits)
        return np.array(centres)[np.array(codes)].reshape(rows.shape)

    def call():
        with ThreadPoolExecutor(_common.THREADS) as pool:
            return np.concatenate(list(pool.map(table, np.split(w, len(w) // ROWS))))

    return call


def lines(rounds):
    """Compare at 4 and 2 bits, fast against coremltools, exact against kmeans1d on some of the rows."""
    import coremltools

    from afm_ref.quantization import palettize

    for kind in ("gauss", "t4"):
        w = matrix(kind)
        for bits in (4, 2):
            for peer, method, rows in (("coremltools", "fast", SIDE), ("kmeans1d", "exact", EXACT_TABLES * ROWS)):
                part = w[:rows]
                theirs = {"coremltools": coremltools_palettizer, "kmeans1d": kmeans1d_palettizer}[peer](part, bits)
                ours = lambda part=part, bits=bits, method=method: palettize(part, bits, ROWS, method=method)  # noqa: E731
                yield _common.compare(
                    f"palettize{bits}_vs_{peer}" + ("" if kind == "gauss" else f"_{kind}"),
                    ours,
                    theirs,
                    unit="weights/s",
                    work_per_call=part.size,
                    rounds=rounds,
                    warmup=1,
                    relative_error=[relative_error(part, ours().dense()), relative_error(part, theirs())],
                    coremltools=coremltools.__version__,
                )


def on_device():
    """Palettize random weights of AFM-on-device's shapes into a temporary folder; return the line."""
    import numpy as np
    from tqdm.auto import tqdm

    from afm_ref.config import AFM_ON_DEVICE as CFG
    from afm_ref.config import parameters
    from afm_ref.interop import hugging_face, palettized
    from afm_ref.quantization import allocate, int8, palettize, weight_counts

    weights = weight_counts(CFG)
    bits = allocate({key: {2: 0.1176, 4: 0.0095} for key in weights}, weights, 3.5)  # those of Gaussian weights
    packed = {hugging_face.layer_tensor(i, name): (b, ROWS) for (name, i), b in bits.items()}
    rng = np.random.default_rng(0)

    def arrays():
        for name, shape in tqdm(hugging_face.tensor_shapes(CFG).items(), desc="palettize", unit="tensor"):
            w = rng.standard_normal(shape, dtype=np.float32)
            w = palettize(w, *packed[name]) if name in packed else int8(w) if w.ndim == 2 else w
            yield from palettized.parts(name, w).items()

    contents = palettized.planned(CFG, packed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        palettized.write(folder, contents, arrays())
        file_bytes = (Path(folder) / palettized.FILE).stat().st_size
    took = time.perf_counter() - start
    total = parameters(CFG)["total"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
    line = dict(name="palettize_on_device", ours=round(total / took), peer=None, ratio=None, unit="weights/s",
                share_of_peak=None, rounds=1, versions=_common.versions(), seconds=round(took, 1), peak_rss_bytes=peak,
                file_bytes=file_bytes, predicted_bytes=contents.file_bytes(), parameters=total)  # fmt: skip
    print(json.dumps(line), flush=True)
    return line


def main():
    """Print a JSON line for each comparison."""
    args = _common.arguments(__doc__, 5, lambda parser: parser.add_argument("--on-device", action="store_true"))
    if args.on_device:
        on_device()
        return
    logging.disable(logging.INFO)  # coremltools tells of every block
    _common.plot(list(lines(args.rounds)), args.plot, "palettize.png")


if __name__ == "__main__":
    _common.prepare()
    main()
