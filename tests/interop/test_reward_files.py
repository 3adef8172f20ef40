"""A reward model's folder: read back bit for bit, and refused when it is not whole."""

import jax
import numpy as np
import pytest

from afm_ref.config import AFMConfig
from afm_ref.disk import tensor_files
from afm_ref.interop import reward_files
from afm_ref.post_training import reward_model
from afm_ref.transformer import init

CFG = AFMConfig(vocab_size=64, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=24)


START = reward_model.init_reward_model(init(CFG, 3), CFG, 4)
MODEL = START._replace(b_out=START.b_out + np.float32(0.25))


def test_what_is_written_is_read_and_a_full_disk_at_the_heads_changes_nothing(tmp_path, monkeypatch):
    folder, write = tmp_path / "reward", tensor_files.write
    reward_files.save(folder, MODEL, CFG)
    found, cfg = reward_files.load(folder)
    assert cfg == CFG
    jax.tree.map(np.testing.assert_array_equal, found, MODEL)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, tensors, about):
        if "b_out" in tensors:
            raise OSError("no space left on device")
        write(path, tensors, about)

    monkeypatch.setattr(tensor_files, "write", full)
    with pytest.raises(OSError, match="no space left"):
        reward_files.save(folder, reward_model.init_reward_model(init(CFG, 5), CFG, 4), CFG)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_half_a_folder_and_heads_of_another_model_are_refused(tmp_path):
    folder, other = tmp_path / "reward", tmp_path / "other"
    reward_files.save(folder, MODEL, CFG)
    reward_files.save(other, reward_model.init_reward_model(MODEL.params, CFG, width=8), CFG)
    (other / "heads.safetensors").replace(folder / "heads.safetensors")
    with pytest.raises(ValueError, match="b_in has shape"):
        reward_files.load(folder)
    for missing in ("model.safetensors", "config.json", "heads.safetensors"):
        reward_files.save(folder, MODEL, CFG)
        (folder / missing).unlink()
        with pytest.raises((ValueError, FileNotFoundError), match=missing):
            reward_files.load(folder)
