"""python -m afm_ref generate."""


def add_arguments(parser):
    parser.add_argument("--model", metavar="FOLDER", help="a Hugging Face folder (default: the shipped tiny model)")
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

    params, cfg, tokenizer = _model(args.model)
    settings = dict(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
    prompt, stop = _as_document(tokenizer, args.prompt)
    pieces = stream_text(params, cfg, tokenizer, prompt, args.max_new_tokens, stop=stop, **settings)
    print(args.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _as_document(tokenizer, text):
    """Return (the prompt as the model was trained to see a document begin, the token that ends one)."""
    from ..data.tokenizer import BOS, EOS, Tokenizer

    if not text or not isinstance(tokenizer, Tokenizer):  # stream_text refuses an empty text
        return text, None
    return [BOS, *tokenizer.encode(text).tolist()], EOS


def _model(folder):
    """Return (params, cfg, tokenizer) of a folder, or of the shipped model."""
    if folder is None:
        from ..assets import load_tiny

        return load_tiny()
    from ..interop import hugging_face

    return *hugging_face.load(folder), hugging_face.load_tokenizer(folder)
