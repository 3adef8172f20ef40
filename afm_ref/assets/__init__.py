"""The trained tiny model that ships with the package, loaded in one call."""

from pathlib import Path

FOLDER = Path(__file__).parent / "tiny"


def load_tiny():
    """Return (params, cfg, tokenizer) of the shipped AFM_TINY, weights as float32 NumPy arrays.

    Trained by `python -m experiments.train_tiny`; stored in 16 bits.
    """
    from afm_ref.interop import hugging_face

    params, cfg = hugging_face.load(FOLDER)
    return params, cfg, hugging_face.load_tokenizer(FOLDER)
