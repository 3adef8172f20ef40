"""python -m afm_ref generate."""

from pathlib import Path

from .. import assets, generation
from ..data import tasks
from ..data.tokenizer import BOS, END, EOS, Tokenizer
from ..interop import chat_template, hugging_face, palettized, peft
from ..interop.generation_config import Decoding, read
from ..lora import files
from . import options

DEFAULT_NEW_TOKENS = 100

EPILOG = """\
generation_config.json of the --model folder is read: its end-of-text tokens stop, and repetition_penalty,
min_new_tokens, min_length, suppress_tokens and begin_suppress_tokens hold, so that without further options the tokens
are those of transformers' generate(do_sample=False). What else would change them is refused by name. Whether and how
tokens are drawn (do_sample, temperature, top_k, top_p, ...) is not read: the options here decide. --max-new-tokens
goes before max_new_tokens of the file, and both before its max_length."""


def add_arguments(parser):
    """Add the options of `generate`."""
    add = parser.add_argument
    add(
        "--model",
        metavar="FOLDER",
        help="a Hugging Face folder, or one of `palettize` (default: the shipped tiny model)",
    )
    add("--adapter", metavar="PATH", help="of `adapt`, or a folder of PEFT's; the prompt is then a request, and what "
        "is printed the answer")  # fmt: skip
    add("--chat", action="store_true", help="the prompt is a request, written by the folder's chat template (a model "
        "of this project's by turn markers); only the answer is printed")  # fmt: skip
    add("--prompt", default="The ", metavar="TEXT", help="the text to continue; the names of another model's special "
        "tokens in it are read as such (default: %(default)r)")  # fmt: skip
    options.number(
        parser,
        "--max-new-tokens",
        None,
        f"default: what the folder says, or {DEFAULT_NEW_TOKENS}",
    )
    options.number(parser, "--temperature", 0.0, "0 always takes the most likely token")
    options.number(parser, "--top-k", None, "draw from the N most likely tokens")
    options.number(
        parser, "--top-p", None, "draw from the fewest tokens that reach X together", float
    )
    options.number(parser, "--seed", 0, "of the draws")


def run(args):
    """Continue a text, printed as it appears."""
    params, cfg, tokenizer = load_model(args.model)
    decoding = Decoding() if args.model is None else read(args.model)
    if args.adapter is not None:
        params = _adapted(params, args.adapter)
    prompt, ends = _prompt(args, tokenizer)
    new = args.max_new_tokens
    new = decoding.most_new(len(prompt), DEFAULT_NEW_TOKENS) if new is None else new
    pieces = generation.stream_text(
        params, cfg, tokenizer, prompt, new, stop=decoding.stop + ends, rules=decoding.rules,
        temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed,
    )  # fmt: skip
    print("" if _is_request(args) else args.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _is_request(args):
    return args.chat or args.adapter is not None


def _prompt(args, tokenizer):
    """Return (the prompt's ids as the model was trained to read them, the tokens that end
    the text beside the folder's).
    """
    ours = isinstance(tokenizer, Tokenizer)
    if ours and _is_request(args):
        return tasks.chat_tokens(tokenizer, args.prompt).tokens, (END,)
    if args.chat:
        text = chat_template.render(args.model, [{"role": "user", "content": args.prompt}])
        return tokenizer.encode(text, markers=True), ()
    ids = generation.prompt_ids(tokenizer, args.prompt)
    if ours and len(ids):  # an empty text is refused later
        return [BOS, *ids.tolist()], (EOS,)
    return ids, ()


def _adapted(params, path):
    """Return the params with the adapter of a file of `adapt`, or of a folder of PEFT's."""
    if Path(path).is_dir():
        return peft.load(path, params)
    return files.put(params, files.load(path))


def load_model(folder):
    """Return (params, cfg, tokenizer) of a folder, or of the shipped model."""
    if folder is None:
        return assets.load_tiny()
    load = palettized.load if palettized.is_palettized(folder) else hugging_face.load
    return *load(folder), hugging_face.load_tokenizer(folder)
