"""python -m afm_ref generate."""


def add_arguments(parser):
    parser.add_argument("--model", metavar="FOLDER", help="a Hugging Face folder, or one of `palettize` (default: the "
                        "shipped tiny model)")  # fmt: skip
    parser.add_argument("--adapter", metavar="PATH", help="of `adapt`, or a folder of PEFT's; the prompt is then a "
                        "request, and what is printed the answer")  # fmt: skip
    parser.add_argument("--prompt", default="The ", metavar="TEXT", help="the text to continue (default: %(default)r)")
    parser.add_argument("--max-new-tokens", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="X", help="0 always takes the most likely token (default)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most likely tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest tokens that reach P together")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")


def run(args):
    """Continue a text, printed as it appears."""
    from ..generation import stream_text

    params, cfg, tokenizer = load_model(args.model)
    settings = dict(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
    if args.adapter is None:
        prompt, stop = _as_document(tokenizer, args.prompt)
    else:
        params = _adapted(params, args.adapter)
        prompt, stop = _as_request(tokenizer, args.prompt)
    pieces = stream_text(params, cfg, tokenizer, prompt, args.max_new_tokens, stop=stop, **settings)
    print(args.prompt if args.adapter is None else "", end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _as_document(tokenizer, text):
    """Return (the prompt as the model was trained to see a document begin, the token that ends one)."""
    from ..data.tokenizer import BOS, EOS, Tokenizer

    if not text or not isinstance(tokenizer, Tokenizer):  # stream_text refuses an empty text
        return text, None
    return [BOS, *tokenizer.encode(text).tolist()], EOS


def _adapted(params, path):
    """Return the params with the adapter of a file of `adapt`, or of a folder of PEFT's."""
    from pathlib import Path

    from ..interop import peft
    from ..lora import files

    return peft.load(path, params) if Path(path).is_dir() else files.put(params, files.load(path))


def _as_request(tokenizer, text):
    """Return (the prompt as a user's turn, the token that ends the answer), as adapters are trained."""
    from ..data.tasks import chat_tokens
    from ..data.tokenizer import END, Tokenizer

    if not isinstance(tokenizer, Tokenizer):  # no turn markers: the text itself is the request
        return text, None
    return chat_tokens(tokenizer, text).tokens, END


def load_model(folder):
    """Return (params, cfg, tokenizer) of a folder, or of the shipped model."""
    if folder is None:
        from ..assets import load_tiny

        return load_tiny()
    from ..interop import hugging_face, palettized

    load = palettized.load if palettized.is_palettized(folder) else hugging_face.load
    return *load(folder), hugging_face.load_tokenizer(folder)
