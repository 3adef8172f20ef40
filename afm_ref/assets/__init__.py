"""What ships with the package: two trained models, and what experiments recorded."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "tiny"
INSTRUCT = Path(__file__).parent / "instruct"
RECORDED = Path(__file__).parent / "recorded"


def load_tiny():
    """Return (params, cfg, tokenizer) of the shipped AFM_TINY, weights in float32 NumPy.

    Trained by `python -m experiments.train_tiny`; stored in 16 bits.
    """
    return _load(FOLDER)


def load_instruct():
    """Return the same of AFM_TINY fine-tuned on the five tasks, which it does.

    Trained by `python -m experiments.train_instruct`; the tokenizer is AFM_TINY's.
    """
    return _load(INSTRUCT)


def _load(folder):
    from afm_ref.interop import hugging_face

    params, cfg = hugging_face.load(folder)
    return params, cfg, hugging_face.load_tokenizer(folder)


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
