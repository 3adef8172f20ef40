"""Decoding against transformers' generate: python -m benchmarks.decode [--rounds N] [--plot [FILE]].

One model (21.9 MB of float32 weights, the same numbers on both sides), a prompt of 64 tokens, 192 new ones, greedy.
A side's time is that of a whole call: reading the prompt, decoding, handing the tokens back.
"""

from . import _common
from ._qwen3 import DIMS, qwen3

PROMPT, NEW = 64, 192


def model():
    """Return (transformers' Qwen3 with random weights, our params of the same weights, cfg)."""
    import tempfile

    import jax
    import jax.numpy as jnp

    from afm_ref.config import AFMConfig
    from afm_ref.interop import hugging_face

    peer = qwen3(AFMConfig(**DIMS)).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        params, cfg = hugging_face.load(folder)
    return peer, jax.tree.map(jnp.asarray, params), cfg


def main():
    """Print a JSON line for each comparison."""
    args = _common.arguments(__doc__)
    _common.prepare()
    import numpy as np
    import torch
    import transformers

    from afm_ref.config import weight_bytes
    from afm_ref.generation import generate

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(_common.THREADS)
    peer, params, cfg = model()
    read_bytes = 2 * weight_bytes(cfg)  # float32: every weight once a step, the tied embedding as the output matrix

    def compare(name, B, **cache):
        prompts = np.random.default_rng(1).integers(1, cfg.vocab_size, (B, PROMPT)).astype(np.int32)
        ids = torch.from_numpy(prompts.astype(np.int64))
        wanted = dict(max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, attention_mask=torch.ones_like(ids))

        def theirs():
            with torch.no_grad():
                return peer.generate(ids, **wanted, **cache)[:, PROMPT:].numpy()

        def ours():
            return np.stack(generate(params, cfg, prompts, NEW))

        return _common.compare(
            name,
            ours,
            theirs,
            unit="tokens/s",
            work_per_call=B * NEW,
            rounds=args.rounds,
            peak=lambda: _common.read_bytes_per_s(int(read_bytes)),
            cost_per_work=read_bytes / B,
            warmup=1,
            same_tokens=float((ours() == theirs()).mean().round(3)),
        )

    lines = [
        compare("decode_vs_transformers_generate", 1),
        compare("decode_vs_transformers_generate_static_cache", 1, cache_implementation="static"),
        compare("decode_batch16_vs_transformers_generate", 16),
    ]
    _common.plot(lines, args.plot, "decode.png")


if __name__ == "__main__":
    main()
