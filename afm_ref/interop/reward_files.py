"""A reward model on disk: the folder of its language model, and its heads in a file beside."""

from functools import partial
from pathlib import Path

import numpy as np

from ..config import AFMConfig
from ..disk import atomic, tensor_files
from ..post_training.reward_model import RewardModel, init_reward_model
from . import hugging_face

HEADS = "heads.safetensors"
FIELDS = RewardModel._fields[1:]  # all but the language model


def save(folder: str | Path, model: RewardModel, cfg: AFMConfig) -> None:
    """Write a reward model: what `hugging_face.save` writes of its language model, and
    heads.safetensors.

    Nothing in the folder changes unless all could be written. The heads come last: a folder
    that lacks them was not written to the end, and `load` refuses it.
    """
    heads = {name: np.asarray(getattr(model, name)) for name in FIELDS}
    write_heads = partial(tensor_files.write, tensors=heads, about=tensor_files.PYTORCH)
    contents = hugging_face.contents(Path(folder), model.params, cfg)
    atomic.write_together(folder, contents | {HEADS: write_heads})


def load(folder: str | Path) -> tuple[RewardModel, AFMConfig]:
    """Return (reward model, its config) of a folder that `save` wrote, as float32 NumPy
    arrays.

    Raises ValueError where a file is missing, cut short, or of other shapes.
    """
    path = Path(folder) / HEADS
    if not path.exists():
        raise ValueError(
            f"{path} is not there: the folder holds no reward model, or was not written to the end"
        )
    params, cfg = hugging_face.load(folder)
    like = init_reward_model(params, cfg)
    shapes = {name: getattr(like, name).shape for name in FIELDS}
    return RewardModel(params, **tensor_files.read(path, shapes, "float32")), cfg
