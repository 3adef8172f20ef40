"""Other people's implementations, built with random weights: transformers' Qwen3 and Llama, mlx-lm's afm7.

Both libraries mix float32 into float64 models. `exact_torch` lets the code of transformers, unchanged otherwise, run in
float64 throughout, so that a comparison sees formulas and not rounding. MLX has no such switch: its norm and RoPE round
to float32 inside, and a float64 model of it is as far from exact (1e-6) as a float32 one. So afm7 runs in float32.
"""

import contextlib
import importlib
from unittest import mock

import numpy as np

from afm_ref.config import AFMConfig
from afm_ref.weights import Layer, Params

CLASSES = {"qwen3": "Qwen3", "llama": "Llama"}


def random_model(kind: str, seed: int = 0, **fields):
    """Return transformers' model of that kind (call it within exact_torch for float64) with random float32 weights."""
    import transformers

    config = getattr(transformers, CLASSES[kind] + "Config")(attn_implementation="eager", **fields)
    model = getattr(transformers, CLASSES[kind] + "ForCausalLM")(config).eval()
    return randomise(model, "", seed)


def read(folder):
    """Return the model in a folder as transformers reads it."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


def randomise(model, part: str, seed: int = 0):
    """Draw anew, in place, every parameter whose name has `part` in it."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if part in name:
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            weight.data = (1 + 0.5 * noise if weight.ndim == 1 else noise * weight.shape[-1] ** -0.5).to(weight.dtype)
    return model


class _Float64Torch:
    """torch, with float64 where the code asks for float32."""

    def __getattr__(self, name):
        import torch

        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


@contextlib.contextmanager
def exact_torch():
    """Within it, transformers' Qwen3 and Llama compute in float64 what they otherwise cast to float32.

    Norms, softmax and the angles of RoPE are float32 in them whatever the model's dtype; models must also be built
    within it, for the table of frequencies.
    """
    import torch

    with contextlib.ExitStack() as stack:
        for kind in CLASSES:
            module = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
            stack.enter_context(mock.patch.object(module, "torch", _Float64Torch()))
        stack.enter_context(mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
        yield


def torch_logits(model, tokens) -> np.ndarray:
    """Return the model's logits [B, T, V]."""
    import torch

    with torch.no_grad():
        return model(torch.as_tensor(tokens.astype(np.int64))).logits.numpy()


def random_afm7(seed: int, N: int, K: int, H: int, num_layers: int, **fields):
    """Return mlx-lm's afm7 on the CPU with random float32 weights."""
    import mlx.core as mx
    import mlx.utils
    from mlx_lm.models import afm7

    mx.set_default_device(mx.cpu)
    heads = dict(hidden_dim=N * H, num_heads=N, num_kv_heads=K)
    rest = dict(model_type="afm7", num_layers=num_layers, rope_theta=500_000.0, rms_norm_eps=1e-5)
    model = afm7.Model(afm7.ModelArgs(**heads, **rest, **fields))
    rng = np.random.default_rng((seed, 3))

    def fresh(name, old):
        if "quant_" in name:
            return old
        noise = rng.standard_normal(old.shape).astype(np.float32)
        return mx.array(1 + 0.5 * noise if old.ndim == 1 else noise * old.shape[-1] ** -0.5, dtype=mx.float32)

    model.update(mlx.utils.tree_map_with_path(fresh, model.parameters()))
    return model


def afm7_logits(model, tokens) -> np.ndarray:
    """Return afm7's float32 logits, without its 8-bit rounding of keys and values."""
    import mlx.core as mx
    from mlx_lm.models import afm7

    with mock.patch.object(afm7, "fake_8bit_quant", lambda x, scale: x):
        return np.array(model(mx.array(tokens)))


def afm7_params(model) -> tuple[Params, AFMConfig]:
    """Return afm7's weights as ours; its layers that reuse keys and values become layers without wk and wv."""
    args = model.args
    H = args.hidden_dim // args.num_heads

    def array(part):
        return np.array(part.weight, dtype=np.float32)

    def layer(block):
        attention, mlp = block.self_attn, block.mlp
        if hasattr(attention, "qkv_proj"):
            cuts = [args.num_heads * H, (args.num_heads + args.num_kv_heads) * H]
            wq, wk, wv = np.split(array(attention.qkv_proj), cuts)
            k_norm = array(attention.k_norm)
        else:
            wq, wk, wv, k_norm = array(attention.q_proj), None, None, None
        of_heads = array(attention.out_proj), array(attention.q_norm), k_norm
        ffn = map(array, (block.post_attention_layernorm, mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        return Layer(array(block.input_layernorm), wq, wk, wv, *of_heads, *ffn)

    d_ff = int(args.hidden_dim * args.hidden_dim_scale_factor)
    sizes = args.hidden_dim, args.num_layers, args.num_heads, args.num_kv_heads, H, d_ff, args.vocab_size
    cfg = AFMConfig(*sizes, rope_theta=args.rope_theta, norm_eps=args.rms_norm_eps)
    layers = tuple(layer(block) for block in model.layers)
    return Params(array(model.model.embedding), layers, array(model.model.output_norm)), cfg
