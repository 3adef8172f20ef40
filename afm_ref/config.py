"""The shape of a model, and the arithmetic that follows from it: parameters, FLOPs, bytes."""

import dataclasses
import math
from typing import Literal

QKNorm = Literal["after_rope", "before_rope"]
RopeLayout = Literal["interleaved", "half_split"]

# The matrices of a layer, by their fields in weights.Layer.
ATTENTION, FFN = ("wq", "wk", "wv", "wo"), ("w_gate", "w_up", "w_down")
MATRICES = ATTENTION + FFN

# bfloat16 FLOP/s of a chip: Google Cloud's pages of v4 and v5p.
TPU_PEAK_FLOPS = {"v4": 275e12, "v5p": 459e12}


@dataclasses.dataclass(frozen=True)
class AFMConfig:
    """Everything the forward function must know beside the weights.

    Dimensions carry the axis letters D (d_model), L (n_layers), N (n_heads), K
    (n_kv_heads), H (head_dim), F (d_ff) and V (vocab_size). Raises ValueError or TypeError,
    naming the field, if they cannot form a model.

    `qk_norm` says where queries and keys are normalised: "after_rope" as in Apple's open
    code, "before_rope" as in Qwen3, or None as in Llama. `rope_layout` says which channels
    RoPE pairs: neighbours ("interleaved", as in Apple's open code) or the two halves of a
    head ("half_split", as in Qwen3 and Llama files).

    Source: TR24 section 2 and Table 1; AXLearn honeycrisp, mlx-lm afm7 for qk-norm order,
        layout, eps [inferred].
    Test: tests/config/test_config.py::test_on_device_reproduces_the_published_counts
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-5
    qk_norm: QKNorm | None = "after_rope"
    rope_layout: RopeLayout = "interleaved"
    tie_embeddings: bool = True

    def __post_init__(self):
        for name in (
            "d_model",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "d_ff",
            "vocab_size",
        ):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"AFMConfig.{name} must be an int, got {value!r}")
            if value < 1:
                raise ValueError(f"AFMConfig.{name} must be at least 1, got {value}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"AFMConfig.n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads}): "
                "each key/value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"AFMConfig.head_dim must be even, got {self.head_dim}: RoPE rotates pairs of channels"
            )
        for name, low in (("rope_theta", 1.0), ("norm_eps", 0.0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"AFMConfig.{name} must be a number, got {value!r}")
            if not (math.isfinite(value) and value > low):
                raise ValueError(
                    f"AFMConfig.{name} must be finite and above {low}, got {value}"
                )
        _choose("qk_norm", self.qk_norm, ("after_rope", "before_rope", None))
        _choose("rope_layout", self.rope_layout, ("interleaved", "half_split"))
        _choose("tie_embeddings", self.tie_embeddings, (True, False))

    def to_dict(self) -> dict:
        """Return the fields as a dict that JSON can hold."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(AFMConfig)
        }

    @classmethod
    def from_dict(cls, fields: dict) -> "AFMConfig":
        """Return the config with these fields; unknown or missing names raise ValueError."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(
                f"unknown AFMConfig fields {unknown}; known fields are {sorted(known)}"
            )
        missing = sorted(
            n
            for n, f in known.items()
            if f.default is dataclasses.MISSING and n not in fields
        )
        if missing:
            raise ValueError(f"missing AFMConfig fields {missing}")
        return cls(**fields)


def _choose(name, value, choices):
    if not any(value is c or (type(value) is type(c) and value == c) for c in choices):
        raise ValueError(f"AFMConfig.{name} must be one of {choices}, got {value!r}")


# Dimensions: TR24 Table 1. d_ff is not in it; 8064 is AXLearn honeycrisp-3B's, and
# truncates to the stated 2.58B.
AFM_ON_DEVICE = AFMConfig(
    d_model=3072,
    n_layers=26,
    n_heads=24,
    n_kv_heads=8,
    head_dim=128,
    d_ff=8064,
    vocab_size=49_152,
)

# Ours: the model that is trained and shipped here, with the same three queries per key
# head.
AFM_TINY = AFMConfig(
    d_model=192, n_layers=4, n_heads=6, n_kv_heads=2, head_dim=32, d_ff=576, vocab_size=2048
)


def matrix_shapes(cfg: AFMConfig) -> dict[str, tuple[int, int]]:
    """Return the shape (out, in) of every matrix of a layer, in the order of MATRICES."""
    D, F, q_dim, kv_dim = (
        cfg.d_model,
        cfg.d_ff,
        cfg.n_heads * cfg.head_dim,
        cfg.n_kv_heads * cfg.head_dim,
    )
    attention = {"wq": (q_dim, D), "wk": (kv_dim, D), "wv": (kv_dim, D), "wo": (D, q_dim)}
    return attention | {"w_gate": (F, D), "w_up": (F, D), "w_down": (D, F)}


def layer_parameters(cfg: AFMConfig) -> dict[str, int]:
    """Return one layer's parameter counts by part: attention, ffn, norms.

        attention = 2 D N H + 2 D K H        ffn = 3 D F        norms = 2 D + 2 H

    Source: TR24 Table 1 (AXLearn honeycrisp-3B for F) [inferred].
    Test: tests/config/test_config.py::test_counts_equal_the_sizes_of_real_arrays
    """
    q_dim, kv_dim = cfg.n_heads * cfg.head_dim, cfg.n_kv_heads * cfg.head_dim
    return {
        "attention": 2 * cfg.d_model * (q_dim + kv_dim),
        "ffn": 3 * cfg.d_model * cfg.d_ff,
        "norms": 2 * cfg.d_model + (2 * cfg.head_dim if cfg.qk_norm else 0),
    }


def parameters(cfg: AFMConfig) -> dict[str, int]:
    """Return the parameter counts as the paper's Table 1 splits them: non_embedding,
    embedding, total.

        non_embedding = L (attention + ffn + norms) + D        embedding = V D  (twice when the head is untied)

    AFM_ON_DEVICE gives 2,586,744,320 + 150,994,944; one account of Table 1 has 2.58B + 0.15B.

    Source: TR24 Table 1 (AXLearn honeycrisp-3B for F) [inferred].
    Test: tests/config/test_config.py::test_on_device_reproduces_the_published_counts
    """
    non_embedding = cfg.n_layers * sum(layer_parameters(cfg).values()) + cfg.d_model
    embedding = cfg.vocab_size * cfg.d_model * (1 if cfg.tie_embeddings else 2)
    return {
        "non_embedding": non_embedding,
        "embedding": embedding,
        "total": non_embedding + embedding,
    }


def forward_flops_per_token(cfg: AFMConfig, seq_len: int) -> int:
    """Return the matmul FLOPs of a forward pass per token, averaged over a causal sequence
    of seq_len tokens.

        2 (L (attention + ffn) + V D) + 2 L (N H) T

    A multiply-add is two FLOPs. The last term is scores and weighted values (2 + 2 FLOPs a
    channel and key) over T/2 keys on average; (T + 1)/2 exactly, whose half key we drop as
    everyone does. Norms, rotations and the softmax are left out.

    Source: Kaplan et al. 2020 section 2.1; AXLearn's 6N + 6LdT accounting [standard].
    Test: tests/config/test_config.py::test_flops_equal_those_the_compiler_counts
    """
    per_layer = layer_parameters(cfg)
    matrices = (
        cfg.n_layers * (per_layer["attention"] + per_layer["ffn"])
        + cfg.vocab_size * cfg.d_model
    )
    return 2 * matrices + 2 * cfg.n_layers * cfg.n_heads * cfg.head_dim * seq_len


def train_flops_per_token(cfg: AFMConfig, seq_len: int) -> int:
    """Return the FLOPs of a training step per token: one forward, and a backward of twice
    its cost.

        3 forward = 6 (L (attention + ffn) + V D) + 6 L (N H) T

    Source: Kaplan et al. 2020 section 2.1 [standard].
    Test: tests/config/test_config.py::test_on_device_attention_flops
    """
    return 3 * forward_flops_per_token(cfg, seq_len)


def kv_cache_bytes_per_token(cfg: AFMConfig, bytes_per_value: int = 2) -> int:
    """Return the bytes that one more token adds to the KV cache of one sequence.

        2 L K H bytes_per_value          (keys and values; 106,496 bytes for AFM-on-device in 16 bits)

    Source: TR24 section 2 (8 key/value heads) [confirmed].
    Test: tests/config/test_config.py::test_on_device_reproduces_the_published_counts
    """
    return 2 * cfg.n_layers * cfg.n_kv_heads * cfg.head_dim * bytes_per_value


def weight_bytes(
    cfg: AFMConfig, projection_bits: float = 16, embedding_bits: float = 16
) -> float:
    """Return the bytes of all weights, with matrices at projection_bits and the embedding
    at embedding_bits.

        (L (attention + ffn) projection_bits + gains 16 + V D embedding_bits) / 8

    Norm gains always take 16 bits. AFM-on-device: 5.48 GB at 16 bits, 1.35 GB at 3.7 with
    an 8-bit embedding.

    Source: BLOG24 (3.7 bits per weight), TR24 section 5 (8-bit embedding) [confirmed].
    Test: tests/quantization/test_allocation.py::test_on_device_numbers
    """
    per_layer, counts = layer_parameters(cfg), parameters(cfg)
    matrices = cfg.n_layers * (per_layer["attention"] + per_layer["ffn"])
    gains = counts["non_embedding"] - matrices
    return (
        matrices * projection_bits + gains * 16 + counts["embedding"] * embedding_bits
    ) / 8
