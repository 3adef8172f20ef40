"""What ships with the package: the trained tiny model, and what experiments recorded."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "tiny"
RECORDED = Path(__file__).parent / "recorded"


def load_tiny():
    """Return (params, cfg, tokenizer) of the shipped AFM_TINY, weights in float32 NumPy.

    Trained by `python -m experiments.train_tiny`; stored in 16 bits.
    """
    from afm_ref.interop import hugging_face

    params, cfg = hugging_face.load(FOLDER)
    return params, cfg, hugging_face.load_tokenizer(FOLDER)


def recording(name: str) -> dict:
    """Return what `python -m experiments.<name>` recorded: config, seeds, numbers, ...

    Raises FileNotFoundError, which says how to make it.
    """
    path = RECORDED / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in RECORDED.glob("*.json")))
        raise FileNotFoundError(
            f"no recording {path.name}: run `python -m experiments.{name}` to make it; there are {known}"
        )
    return json.loads(path.read_text(encoding="utf-8"))
