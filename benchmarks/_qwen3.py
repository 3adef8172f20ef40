"""The peer's model: transformers' Qwen3, the closest open relative of AFM's block."""

# "afm-small-bench": 5.5M parameters
DIMS = dict(d_model=256, n_layers=6, n_heads=4, n_kv_heads=2, head_dim=64, d_ff=704, vocab_size=4096)


def qwen3(cfg):
    """Return transformers' Qwen3 of this config: the same block, with qk-norm before RoPE on half-split pairs."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.d_model,
        num_hidden_layers=cfg.n_layers,
        num_attention_heads=cfg.n_heads,
        num_key_value_heads=cfg.n_kv_heads,
        head_dim=cfg.head_dim,
        intermediate_size=cfg.d_ff,
        tie_word_embeddings=cfg.tie_embeddings,
        rms_norm_eps=cfg.norm_eps,
        max_position_embeddings=1024,
        attention_bias=False,
        rope_parameters=dict(rope_type="default", rope_theta=cfg.rope_theta),
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    config._attn_implementation = "sdpa"
    return transformers.Qwen3ForCausalLM(config).float()
