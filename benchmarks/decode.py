"""Decoding against transformers' generate: python -m benchmarks.decode [--rounds N] [--plot [FILE]].

One model (21.9 MB of float32 weights, the same numbers on both sides), a prompt of 64 tokens, 192 new ones, greedy.
A side's time is that of a whole call: reading the prompt, decoding, handing the tokens back.

    python -m benchmarks.decode --bits 3.5

compares the palettized model with the same in 32 and 16 bits instead, at that size and at 150M parameters: tokens/s,
and the bytes of the weights that are handed to the program (there, too, a ratio above 1 is better for us). Why the
speeds are about level, `matrices_*` shows: 8 products of a matrix 3840 x 1024 and one token, for so many bits. Undoing
a palette takes longer than the product, so XLA does it once a call, before its loop over tokens (`temporary_bytes`
of the program: all weights as plain matrices), and the loop reads those. Needs no peer.
"""

import json

from . import _common
from ._qwen3 import DIMS, qwen3

PROMPT, NEW = 64, 192
DIMS_150M = dict(d_model=1024, n_layers=8, n_heads=16, n_kv_heads=4, head_dim=64, d_ff=3840, vocab_size=32768)


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


def quantized_lines(bits, rounds):
    """Compare the palettized model with itself in 32 and 16 bits, at two sizes."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from afm_ref.config import AFMConfig, parameters
    from afm_ref.generation import generate
    from afm_ref.quantization import allocate, quantize, sizes, weight_counts
    from afm_ref.transformer import init

    for size, dims, new in (("", DIMS, NEW), ("_150M", DIMS_150M, 32)):
        cfg = AFMConfig(**dims)
        params, weights = init(cfg, 0), weight_counts(cfg)
        chosen = allocate({key: {2: 0.1176, 4: 0.0095} for key in weights}, weights, bits)  # Gaussian weights' errors
        packed = quantize(params, chosen, progress=True)
        ours = jax.tree.map(jnp.asarray, packed)
        prompts = np.random.default_rng(1).integers(1, cfg.vocab_size, (1, PROMPT)).astype(np.int32)
        for dtype in ("float32", "bfloat16"):
            peer = jax.tree.map(lambda w, dtype=dtype: jnp.asarray(w, dtype), params)
            held, theirs = (sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (ours, peer))
            yield _common.compare(
                f"decode_palettized_vs_{dtype}{size}",
                lambda: generate(ours, cfg, prompts, new),  # noqa: B023 - called before the next turn
                lambda: generate(peer, cfg, prompts, new),  # noqa: B023
                unit="tokens/s",
                work_per_call=new,
                rounds=rounds,
                warmup=1,
                projection_bits=round(sizes(packed).projection_bits, 3),
                temporary_bytes=temporary_bytes(ours, cfg, prompts, new),
                parameters=parameters(cfg)["total"],
            )
            shared = dict(unit="bytes", share_of_peak=None, rounds=1, versions=_common.versions())
            name, ratio = f"bytes_palettized_vs_{dtype}{size}", round(theirs / held, 3)
            line = dict(name=name, ours=held, peer=theirs, ratio=ratio, **shared)
            print(json.dumps(line), flush=True)
            yield line


def temporary_bytes(params, cfg, prompts, new):
    """Return what the compiled loop over new tokens takes beside its arguments."""
    from afm_ref.generation import decoding

    request = decoding._request(params, cfg, prompts, new)
    state, _ = decoding._prefill(*request[:4], program=request.program)
    loop = decoding._decode.lower(request.params, state, request.knobs, new, program=request.program)
    return loop.compile().memory_analysis().temp_size_in_bytes


def matrix_lines(rounds):
    """Compare the products of palettized matrices and one token, and undoing them, with products of plain ones."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from afm_ref import ops
    from afm_ref.quantization.palette import bit_packing
    from afm_ref.quantization.palette.quantized_weights import Palettized

    rng, (rows, columns), count = np.random.default_rng(0), (3840, 1024), 8  # 126 MB in float32: above any cache
    x = jnp.ones((1, columns))
    plain = [jnp.asarray(rng.standard_normal((rows, columns)), jnp.float32) for _ in range(count)]
    products = jax.jit(lambda matrices: [ops.linear(x, w) for w in matrices])
    dense = jax.jit(lambda matrices: [w.normalized(jnp.float32) for w in matrices])

    def palettized(bits):
        codes = jnp.asarray(bit_packing.pack(rng.integers(2**bits, size=(rows, columns), dtype=np.uint8), bits))
        tables = jnp.asarray(rng.standard_normal((rows // 16, 2**bits)), jnp.float16)
        return Palettized(codes, tables, jnp.int16(0), bits, 16)

    for bits in (4, 2):
        few = [palettized(bits) for _ in range(count)]
        for name, call in (("product", products), ("undone", dense)):
            yield _common.compare(
                f"matrices_{bits}_bits_{name}_vs_float32_product",
                lambda: jax.block_until_ready(call(few)),  # noqa: B023 - called before the next turn
                lambda: jax.block_until_ready(products(plain)),
                unit="matrices/s",
                work_per_call=count,
                rounds=rounds,
            )


def _add_bits(parser):
    parser.add_argument("--bits", type=float, metavar="X", help="compare the palettized model with 32 and 16 bits")


def main():
    """Print a JSON line for each comparison."""
    args = _common.arguments(__doc__, add=_add_bits)
    _common.prepare()
    if args.bits is not None:
        lines = [*matrix_lines(args.rounds), *quantized_lines(args.bits, args.rounds)]
        _common.plot(lines, args.plot, "decode_bits.png")
        return
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

    def reading():
        return _common.read_bytes_per_s(int(read_bytes))

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
            peaks=(reading,),
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
