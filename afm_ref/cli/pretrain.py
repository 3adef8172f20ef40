"""python -m afm_ref pretrain."""

import dataclasses
import hashlib
import sys
from functools import partial
from pathlib import Path

import jax

from .. import assets, evaluation, losses
from ..curation import shards
from ..curation.heuristics import ENGLISH
from ..curation.recipe import Recipe
from ..curation.run import curate
from ..data import packing, pretraining_text, tokenizer
from ..data.mixing import checked_shares
from ..disk import atomic, resumable, targets
from ..interop import config_json, hugging_face
from ..pretraining import distillation, stage_data, stages
from ..pretraining.losses import next_token_z
from ..transformer import init
from . import options
from .generate import load_model

PRESETS = {
    "tiny": {},
    "small": dict(d_model=256, n_layers=6, n_heads=4, n_kv_heads=2, head_dim=64, d_ff=704),
}
CURATED = ("web", "text", "code", "maths")  # the parts that curation makes
LEAST_WINDOW = 4  # twice as much is above the 2 pi that RoPE's rule asks for
SHARES = {"continued": 0.2, "lengthening": 0.1}  # of the steps; the rest is core

EPILOG = """\
examples
  python -m afm_ref pretrain --corpus my_pages                    curate, then three stages, then runs/pretrain/model
  python -m afm_ref pretrain --corpus runs/curated --steps 3000   shards of `curate`, used as they are
  python -m afm_ref pretrain --corpus my_pages --mixture text=0.7,code=0.3 --train-tokenizer
  python -m afm_ref pretrain --corpus meine_seiten --language any --train-tokenizer
  python -m afm_ref pretrain --corpus my_pages --teacher runs/large/model         distilled in the core stage
  python -m afm_ref generate --model runs/pretrain/model

stages (70, 20 and 10% of the steps)
  core          windows of --seq-len tokens, the corpus as it is
  continued     windows twice as long, 3% of the learning rate; code and maths weigh more, web and text less
  lengthening   windows eight times as long, RoPE's base raised for them, long questions and answers added

Of raw files' prose English alone is kept (see `curate --help`). --language any keeps other languages too, and adds no
long questions, which are English; the shipped tokenizer has learnt from English: add --train-tokenizer.

Ctrl-C saves and ends. The same command goes on there, in whichever stage it was, to the same numbers."""


def add_arguments(parser):
    """Add the options of `pretrain`."""
    _add_text(parser.add_argument_group("the text"))
    model = parser.add_argument_group("the model and its training")
    model.add_argument("--preset", choices=PRESETS, default="tiny",
                       help="2.1 or 5.0 million weights (default: %(default)s)")  # fmt: skip
    options.place(
        model, "--teacher", None, "a model with the same tokenizer, to learn from"
    )
    options.of_training(
        model,
        steps=(600, "of all three stages together"),
        batch=(16, "rows of the core stage; fewer where windows are longer"),
        seq_len=(
            None,
            "tokens of the core stage's window (default: 128, less for a short corpus)",
        ),
        learning_rate="peak of the core stage",
    )
    options.number(model, "--z-loss", 0.0, "weight of AXLearn's z-loss, there 1e-6")
    model.add_argument("--optimizer", choices=("fresh", "carried"), default="fresh",
                       help="its moments at the beginning of a stage (default: %(default)s)")  # fmt: skip
    options.place(
        parser, "--out", "runs/pretrain", "where the run is kept and continued from"
    )
    options.number(parser, "--checkpoint-every", 50, "steps")


def _add_text(group):
    add = group.add_argument
    add("--corpus", type=Path, required=True, metavar="FOLDER",
        help="raw files (.txt .md .html .py .jsonl ...), or what `curate` wrote")  # fmt: skip
    options.number(
        group, "--quality", 0.5, "of raw files: least P(good), 0 for no classifier"
    )
    options.language(group)
    options.number(group, "--processes", 1, "that curate raw files")
    text = "on this text (default: the shipped one)"
    add("--train-tokenizer", action="store_true", help=text)
    add("--mixture", metavar="PART=X,...",
        help="weights of web, text, code, maths in the core stage (default: as there is)")  # fmt: skip
    add("--continued-mixture", metavar="PART=X,...",
        help="after it (default: web and text halved, code and maths doubled)")  # fmt: skip


def run(args):
    """Pre-train a model on a folder of your own, in three stages."""
    _check(args)
    with options.resumable(args.out), targets.only_writer(args.out):
        _train(args)


def _train(args):
    parts, held_out = _parts(args)
    tok = _tokenizer(args, parts)
    cfg = _config(args, tok)
    teach = _teacher(args, cfg, tok)
    parts, planned = _plan(args, parts, tok)
    result = stages.run(
        init(cfg, args.seed), cfg, planned, stage_data.rows_of(parts, tok), args.seed,
        loss=partial(_loss, z_weight=args.z_loss, distilled=bool(args.teacher)),
        batches=teach, optimizer=args.optimizer, checkpoint=args.out / "checkpoints",
        checkpoint_every=args.checkpoint_every,
        announce=lambda stage: _tell(f"stage {planned.index(stage) + 1} of 3: {_told(stage)}"),
    )  # fmt: skip
    _finish(args, result, tok, held_out, planned[0].seq_len)


def _check(args):
    """Refuse what is wrong with the options, before hours of curation."""
    options.check(args, at_least_1=("steps", "batch", "seq_len", "processes", "checkpoint_every"),
                  at_least_0=("seed", "z_loss"), above_0=("learning_rate",))  # fmt: skip
    if args.steps < 10:
        raise ValueError(
            f"--steps is {args.steps}: three stages share them, give at least 10"
        )
    if args.seq_len is not None and args.seq_len < LEAST_WINDOW:
        raise ValueError(f"--seq-len is {args.seq_len}: give at least {LEAST_WINDOW}")
    if args.teacher and args.z_loss:
        raise ValueError("--z-loss and --teacher change the same loss: give one of them")
    _check_models(args)
    _check_mixtures(args)
    targets.check_folder(args.out, "--out")
    targets.check_folder(args.out / "checkpoints", "--out")
    targets.check_folder(args.out / "model", "--out", without=hugging_face.OTHER_MODELS)
    jax.devices()  # an error where there is none of the kind that JAX is told to run on


def _check_models(args):
    """Refuse a config or a teacher that cannot be used, as far as shows without weights."""
    cfg = _config(args, None if args.train_tokenizer else _tokenizer(args, {}))
    if args.teacher:
        teacher_cfg = config_json.read(args.teacher / "config.json")
        if not args.train_tokenizer:  # else the vocabulary is not known yet
            distillation.check_vocabularies(cfg, teacher_cfg)


def _check_mixtures(args):
    """Read the mixtures; refuse parts that curation of raw files would never make."""
    args.mixture = options.weights(args.mixture, "--mixture")
    args.continued_mixture = options.weights(args.continued_mixture, "--continued-mixture")
    # an error for a run of `curate` that is unfinished
    raw = not shards.is_curated(args.corpus)
    possible = {*CURATED, stage_data.LONG_QA} if args.language == ENGLISH else {*CURATED}
    mixtures = {"--mixture": args.mixture, "--continued-mixture": args.continued_mixture}
    for option, mixed in mixtures.items():
        unknown = sorted(set(mixed or ()) - possible)
        if raw and unknown:
            raise ValueError(
                f"{option}: there will be no rows of {unknown}; curation makes {', '.join(CURATED)}"
            )


def _parts(args):
    """Return ({source: training documents}, held-out ones), curating raw files first."""
    folder = args.corpus
    if not shards.is_curated(folder):
        folder = args.out / "curated"
        _tell(f"curating {args.corpus} into {folder}")
        asked = Recipe(quality=args.quality, language=args.language)
        report = curate(args.corpus, folder, asked, args.processes)
        if not shards.is_curated(folder):
            raise ValueError(
                f"curation kept nothing of {args.corpus}; left out: {report.reasons()}; {folder} says why of each "
                f"document; {report.on_language()}"
            )
        _tell(f"left out: {report.reasons()}\n{report.on_language()}")
    documents = list(shards.read(folder))
    train, held_out = pretraining_text.split_documents(documents, args.corpus, args.seed)
    return stage_data.by_source(train), held_out


def _tokenizer(args, parts):
    if not args.train_tokenizer:
        return hugging_face.load_tokenizer(assets.FOLDER)
    texts = [d.text for documents in parts.values() for d in documents]
    size = _config(args).vocab_size
    path = args.out / "tokenizer.json"
    about = args.out / "tokenizer_trained_on.json"
    if not path.exists():
        about.unlink(missing_ok=True)  # by itself it claims nothing
    elif not about.exists():
        raise ValueError(
            f"{path} is there, but not {about.name}, which says what it was trained on: give another --out, or "
            "remove it"
        )
    resumable.claim(about, {"text": _digest(texts), "vocab_size": size}, "a tokenizer")
    resumable.finished(path, lambda new: tokenizer.train(texts, size).save(new))
    return hugging_face.load_tokenizer(args.out)


def _digest(texts):
    coded = (text.encode("utf-8", "surrogatepass") for text in texts)
    digests = (hashlib.sha256(text).digest() for text in coded)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _config(args, tok=None):
    """Return the model; a preset's has as many tokens as the tokenizer."""
    cfg = options.read_config(args.config, tok)
    if args.config:
        return cfg
    vocab_size = cfg.vocab_size if tok is None else tok.vocab_size
    return dataclasses.replace(cfg, **PRESETS[args.preset], vocab_size=vocab_size)


def _teacher(args, cfg, tok):
    """Return what puts a teacher's tokens, if there is one, beside the core stage's batches."""
    if not args.teacher:
        return lambda stage, cfg, batches: batches
    teacher, teacher_cfg, teacher_tok = load_model(args.teacher)
    distillation.check_vocabularies(cfg, teacher_cfg, tok, teacher_tok)

    def teach(stage, _, batches):
        if stage.name != "core":
            return batches
        return distillation.taught(batches, teacher, teacher_cfg)

    return teach


def _loss(stage, cfg, z_weight, distilled):
    if distilled and stage.name == "core":
        return partial(distillation.mixed_target, cfg=cfg)
    if z_weight:
        return partial(next_token_z, cfg=cfg, z_weight=z_weight)
    return partial(losses.next_token, cfg=cfg)


def _plan(args, parts, tok):
    """Return (the parts that are used, the stages), telling what was left out."""
    counts = stage_data.token_counts(parts, tok)
    window, short = stage_data.choose_window(counts, args.seq_len)
    longest = stage_data.LONGEST * window
    if args.seq_len is None and window != stage_data.DEFAULT_WINDOWS[0]:
        _tell(f"a short corpus: windows of {window}, {2 * window} and {longest} tokens")
    parts = dict(parts)
    for name in short:
        _tell(f"left out: {name}, whose {counts[name]} tokens fill no row of {longest}")
        del parts[name], counts[name]
    long_qa = longest >= stage_data.LEAST_LONG_QA and args.language == ENGLISH
    steps = {name: max(3, round(share * args.steps)) for name, share in SHARES.items()}
    steps["core"] = args.steps - steps["continued"] - steps["lengthening"]
    mixtures = stage_data.default_mixtures(
        counts, args.mixture, args.continued_mixture, long_qa
    )
    if long_qa:
        tokens = int(stage_data.LONG_QA_SHARE * steps["lengthening"] * args.batch * window)
        questions = stage_data.long_questions(tok, longest, tokens, args.seed)
        parts[stage_data.LONG_QA] = questions
    for weights in mixtures.values():  # of a later stage now, not when it begins
        checked_shares(weights, {name: len(documents) for name, documents in parts.items()})
    return parts, stages.tiny_stages(
        mixtures, steps, window, args.batch, args.learning_rate
    )


def _tell(text):
    """Print a line to the standard error."""
    print(text, file=sys.stderr)


def _told(stage):
    shares = ", ".join(f"{part} {share:.2f}" for part, share in stage.weights.items())
    shape = f"{stage.steps} steps of {stage.batch_size} x {stage.seq_len} tokens"
    return f"{stage.name}, {shape}, RoPE base {stage.rope_theta:,.0f}, {shares}"


def _finish(args, result, tok, held_out, window):
    """Write the model and its losses, and print bits per byte of held-out text by part."""
    from ..teaching import figures  # imports matplotlib
    from ..teaching.chapters import stages as chapter

    hugging_face.save(args.out / "model", result.params, result.cfg, tokenizer=tok)
    for name, history in result.histories.items():
        history.save(args.out / f"history_{name}.json")
    atomic.write(
        args.out / "loss.png", figures.png(chapter.losses_by_stage(result.histories))
    )
    for part, documents in stage_data.by_source(held_out).items():
        rows = packing.pack_for_evaluation(documents, tok, window)
        batches = packing.evaluation_batches(rows, 16)
        bits = evaluation.bits_per_byte(
            result.params, result.cfg, batches, rows.text_bytes, progress=False
        )
        print(f"{part}: {bits:.3f} bits per byte of {rows.text_bytes} bytes held out")
    print(f"model in {args.out / 'model'}, losses in {args.out / 'loss.png'}")
    print(f"python -m afm_ref generate --model {args.out / 'model'}")
