"""Make the golden files again: `python -m tests.golden.make` (needs the extra `oracles`).

A folder each for afm7, Qwen3, Llama and two adapters of PEFT on that Qwen3: random float32 weights, tokens, and the
logits that the other implementation gives them; and TRL's losses of pairs and of groups of responses under that Qwen3.
Qwen3's, Llama's and PEFT's folders are written by transformers and PEFT themselves, logits in float64; afm7's weights
by our `save`, and its logits are MLX's float32. The default tests compare with them, so that they need no oracle.

palettes: rows of numbers, and the centres that kmeans1d finds optimal for them.
"""

import os
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TOKENS_SHAPE = (2, 9)


def hugging_face(kind: str, **fields):
    """Write the folder of one of transformers' models."""
    from safetensors.numpy import save_file

    from tests.oracles import peers

    folder = HERE / kind
    with peers.exact_torch():
        model = peers.random_model(kind, seed=7, vocab_size=16, num_hidden_layers=2, intermediate_size=14, **fields)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink()
        tokens = np.random.default_rng(7).integers(0, 16, TOKENS_SHAPE, dtype=np.int32)
        logits = peers.torch_logits(model.double(), tokens)
    save_file({"tokens": tokens, "logits": logits}, folder / "expected.safetensors")


def afm7():
    """Write the folder of mlx-lm's afm7."""
    from safetensors.numpy import save_file

    from afm_ref.interop import hugging_face as ours
    from tests.oracles import peers

    model = peers.random_afm7(
        seed=7, vocab_size=16, hidden_dim=16, num_layers=2, num_kv_reuse_layers=0, num_heads=4, num_kv_heads=2,
        hidden_dim_scale_factor=1.5, rope_theta=500_000.0, rms_norm_eps=1e-5,
    )  # fmt: skip
    ours.save(HERE / "afm7", *peers.afm7_params(model))
    tokens = np.random.default_rng(7).integers(0, 16, TOKENS_SHAPE, dtype=np.int32)
    logits = peers.afm7_logits(model, tokens)
    save_file({"tokens": tokens, "logits": logits}, HERE / "afm7" / "expected.safetensors")


def peft(name: str, **settings):
    """Write the folder of an adapter of PEFT's on the Qwen3 that is there, and the logits of both together."""
    import shutil
    import warnings

    import peft as theirs
    from safetensors.numpy import load_file, save_file

    from tests.oracles import peers

    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    with peers.exact_torch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        base = transformers.Qwen3ForCausalLM.from_pretrained(HERE / "qwen3", attn_implementation="eager")
        model = theirs.get_peft_model(base, theirs.LoraConfig(task_type="CAUSAL_LM", **settings))
        peers.randomise(model, "lora_", seed=7)
        for config in model.peft_config.values():
            config.base_model_name_or_path = "qwen3"  # not a path of this machine
        model.save_pretrained(folder)
        (folder / "README.md").unlink()
        tokens = load_file(HERE / "qwen3" / "expected.safetensors")["tokens"]
        logits = peers.torch_logits(model.double().eval(), tokens)
    save_file({"tokens": tokens, "logits": logits}, folder / "expected.safetensors")


def trl():
    """Write TRL's DPO, IPO and reward losses of random pairs under the Qwen3 that is there, in float64."""
    import transformers
    from safetensors.numpy import save_file

    from afm_ref.interop import hugging_face as ours
    from tests.oracles import peers, trl_peer
    from tests.post_training.models import random_pairs

    pairs = random_pairs(5, seed=7, cfg=ours.load(HERE / "qwen3")[1])
    of_rows = pairs.rows._asdict() | {"reference": pairs.reference}
    expected = {name: field.reshape(2, 5, *field.shape[1:]) for name, field in of_rows.items()}
    expected |= {"labels": pairs.labels, "grades": pairs.grades}
    expected["head"] = np.random.default_rng(7).standard_normal(10)
    with peers.exact_torch():
        model = transformers.AutoModelForCausalLM.from_pretrained(HERE / "qwen3", attn_implementation="eager").double()
        for kind in trl_peer.DPO_KINDS:
            losses = [
                trl_peer.dpo_loss(kind, beta, model.eval(), pairs.rows, expected["reference"]) for beta in (0.05, 0.5)
            ]
            expected[kind] = np.array(losses)
        classifier = trl_peer.classifier(model, expected["head"])
        expected["reward"] = np.array([trl_peer.reward_loss(classifier, pairs.take([b]).rows) for b in range(5)])
    (HERE / "trl").mkdir(exist_ok=True)
    save_file(expected, HERE / "trl" / "expected.safetensors")


def trl_rl():
    """Write TRL's RLOO advantages, RLOO loss and GRPO loss of random responses under that Qwen3, in float64."""
    import tempfile

    from safetensors.numpy import save_file

    from afm_ref.interop import hugging_face as ours
    from afm_ref.post_training.rows import pad, response_log_probs
    from tests.oracles import peers, trl_rl_peer
    from tests.post_training.models import chats, float64
    from tests.rlhf.golden import BETA, EPSILON, K, P, nearby, transformers_model

    params, cfg = ours.load(HERE / "qwen3")
    policies, rows = nearby(cfg, params), pad(chats(P * K, 7, cfg))
    rewards = np.random.default_rng(7).standard_normal((P, K))
    old, reference = (np.asarray(response_log_probs(float64(policy), rows, cfg)) for policy in policies[1:])
    with peers.exact_torch(), tempfile.TemporaryDirectory() as folder:
        models = [transformers_model(policy, cfg, Path(folder) / str(i)) for i, policy in enumerate(policies)]
        advantages, rloo = trl_rl_peer.rloo(*models, rows, rewards, BETA, EPSILON)
        grpo = trl_rl_peer.grpo_loss(models[0], rows, old, reference, advantages, BETA, EPSILON)
    given = rows._asdict() | {"old": old, "reference": reference, "rewards": rewards}
    expected = given | {"advantages": advantages, "rloo": np.array(rloo), "grpo": np.array(grpo)}
    (HERE / "trl_rl").mkdir(exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in expected.items()}, HERE / "trl_rl" / "expected.safetensors")


def palettes():
    """Write rows of numbers, float32, and the centres that kmeans1d finds optimal for each of them at 2 and 4 bits."""
    import kmeans1d
    from safetensors.numpy import save_file

    rng = np.random.default_rng(7)
    draws = [rng.standard_normal(600), rng.standard_t(3, 600), 2e-4 * rng.laplace(size=600), rng.integers(-9, 9, 600)]
    rows = np.stack(draws).astype(np.float32)
    centres = {f"centres_{k}": np.array([kmeans1d.cluster(row, k).centroids for row in rows]) for k in (4, 16)}
    (HERE / "palettes").mkdir(exist_ok=True)
    save_file({"rows": rows} | centres, HERE / "palettes" / "expected.safetensors")


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
