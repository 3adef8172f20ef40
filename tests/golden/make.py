"""Make the golden files again: `python -m tests.golden.make` (needs the extra `oracles`).

A folder each for afm7, Qwen3, Llama and two adapters of PEFT on that Qwen3: random float32 weights, tokens, and the
logits that the other implementation gives them; and TRL's losses of pairs and of groups of responses under that Qwen3.
Qwen3's, Llama's and PEFT's folders are written by transformers and PEFT themselves, logits in float64; afm7's weights
by our `save`, and its logits are MLX's float32. The default tests compare with them, so that they need no oracle.

palettes: rows of numbers, and the centres that kmeans1d finds optimal for them.
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from afm_ref.interop import hugging_face as ours
from afm_ref.post_training.rows import pad, response_log_probs
from tests.oracles import peers, trl_peer, trl_rl_peer
from tests.oracles.trl_rl_peer import BETA, EPSILON, K, P, nearby, transformers_model
from tests.post_training.models import chats, float64, random_pairs

HERE = Path(__file__).parent
QWEN3 = HERE / "qwen3"
TOKENS = np.random.default_rng(7).integers(0, 16, (2, 9), dtype=np.int32)


def expect(name: str, **arrays):
    """Write what a folder's logits or losses must be."""
    (HERE / name).mkdir(exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, HERE / name / "expected.safetensors")


def hugging_face(kind: str, **fields):
    """Write the folder of one of transformers' models."""
    with peers.exact_torch():
        model = peers.random_model(kind, seed=7, vocab_size=16, num_hidden_layers=2, intermediate_size=14, **fields)
        model.save_pretrained(HERE / kind)
        (HERE / kind / "generation_config.json").unlink()
        expect(kind, tokens=TOKENS, logits=peers.torch_logits(model.double(), TOKENS))


def afm7():
    """Write the folder of mlx-lm's afm7."""
    model = peers.random_afm7(7, 4, 2, 4, 2, num_kv_reuse_layers=0, vocab_size=16, hidden_dim_scale_factor=1.5)
    ours.save(HERE / "afm7", *peers.afm7_params(model))
    expect("afm7", tokens=TOKENS, logits=peers.afm7_logits(model, TOKENS))


def peft(name: str, **settings):
    """Write the folder of an adapter of PEFT's on the Qwen3 that is there, and the logits of both together."""
    import peft as theirs

    shutil.rmtree(HERE / name, ignore_errors=True)
    with peers.exact_torch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = theirs.get_peft_model(peers.read(QWEN3), theirs.LoraConfig(task_type="CAUSAL_LM", **settings))
        peers.randomise(model, "lora_", seed=7)
        for config in model.peft_config.values():
            config.base_model_name_or_path = "qwen3"  # not a path of this machine
        model.save_pretrained(HERE / name)
        (HERE / name / "README.md").unlink()
        expect(name, tokens=TOKENS, logits=peers.torch_logits(model.double().eval(), TOKENS))


def trl():
    """Write TRL's DPO, IPO and reward losses of random pairs under the Qwen3 that is there, in float64."""
    pairs = random_pairs(5, seed=7, cfg=ours.load(QWEN3)[1])
    of_rows = pairs.rows._asdict() | {"reference": pairs.reference}
    expected = {name: field.reshape(2, 5, *field.shape[1:]) for name, field in of_rows.items()}
    expected |= {"labels": pairs.labels, "grades": pairs.grades, "head": np.random.default_rng(7).standard_normal(10)}
    with peers.exact_torch():
        model = peers.read(QWEN3).double().eval()
        for kind in trl_peer.DPO_KINDS:
            settings = [(kind, beta, model, pairs.rows, expected["reference"]) for beta in (0.05, 0.5)]
            expected[kind] = np.array([trl_peer.dpo_loss(*each) for each in settings])
        classifier = trl_peer.classifier(model, expected["head"])
        expected["reward"] = np.array([trl_peer.reward_loss(classifier, pairs.take([b]).rows) for b in range(5)])
    expect("trl", **expected)


def trl_rl():
    """Write TRL's RLOO advantages, RLOO loss and GRPO loss of random responses under that Qwen3, in float64."""
    params, cfg = ours.load(QWEN3)
    policies, rows = nearby(cfg, params), pad(chats(P * K, 7, cfg))
    rewards = np.random.default_rng(7).standard_normal((P, K))
    old, reference = (np.asarray(response_log_probs(float64(policy), rows, cfg)) for policy in policies[1:])
    with peers.exact_torch(), tempfile.TemporaryDirectory() as folder:
        models = [transformers_model(policy, cfg, Path(folder) / str(i)) for i, policy in enumerate(policies)]
        advantages, rloo = trl_rl_peer.rloo(*models, rows, rewards, BETA, EPSILON)
        grpo = trl_rl_peer.grpo_loss(models[0], rows, old, reference, advantages, BETA, EPSILON)
    given = rows._asdict() | {"old": old, "reference": reference, "rewards": rewards}
    expect("trl_rl", **given, advantages=advantages, rloo=np.array(rloo), grpo=np.array(grpo))


def palettes():
    """Write rows of numbers, float32, and the centres that kmeans1d finds optimal for each of them at 2 and 4 bits."""
    import kmeans1d

    rng = np.random.default_rng(7)
    draws = [rng.standard_normal(600), rng.standard_t(3, 600), 2e-4 * rng.laplace(size=600), rng.integers(-9, 9, 600)]
    rows = np.stack(draws).astype(np.float32)
    centres = {f"centres_{k}": np.array([kmeans1d.cluster(row, k).centroids for row in rows]) for k in (4, 16)}
    expect("palettes", rows=rows, **centres)


def main():
    """Write all folders and list their sizes."""
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4}
    hugging_face("qwen3", hidden_size=10, rms_norm_eps=1e-6, tie_word_embeddings=False, **heads, **rope)
    hugging_face("llama", hidden_size=12, rms_norm_eps=1e-5, tie_word_embeddings=True, **heads, **rope)
    afm7()
    linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    peft("peft", r=3, lora_alpha=4, target_modules=linears)
    peft("peft_rslora", r=2, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "up_proj"])
    trl()
    trl_rl()
    palettes()
    for path in sorted(HERE.glob("*/*")):
        print(f"{path.relative_to(HERE)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
