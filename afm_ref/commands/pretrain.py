"""python -m afm_ref pretrain."""

import hashlib
import json
import math
import sys
from functools import partial
from pathlib import Path

from . import options

PRESETS = ("tiny", "small")
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
    text = parser.add_argument_group("the text")
    text.add_argument("--corpus", type=Path, required=True, metavar="FOLDER",
                      help="raw files (.txt .md .html .py .jsonl ...), or what `curate` wrote")  # fmt: skip
    text.add_argument("--quality", type=float, default=0.5, metavar="X",
                      help="of raw files: least P(good), 0 for no classifier (default: %(default)s)")  # fmt: skip
    options.language(text)
    text.add_argument("--processes", type=int, default=1, metavar="N", help="that curate raw files (default: 1)")
    text.add_argument("--train-tokenizer", action="store_true", help="on this text (default: the shipped one)")
    text.add_argument("--mixture", metavar="PART=X,...",
                      help="weights of web, text, code, maths in the core stage (default: as there is)")  # fmt: skip
    text.add_argument("--continued-mixture", metavar="PART=X,...",
                      help="after it (default: web and text halved, code and maths doubled)")  # fmt: skip
    model = parser.add_argument_group("the model and its training")
    model.add_argument("--preset", choices=PRESETS, default="tiny",
                       help="2.1 or 5.0 million weights (default: %(default)s)")  # fmt: skip
    model.add_argument("--config", type=Path, metavar="FILE", help="JSON of AFMConfig's fields, in place of a preset")
    model.add_argument("--teacher", type=Path, metavar="FOLDER", help="a model with the same tokenizer, to learn from")
    add = partial(_add, model)
    add("--steps", 600, "of all three stages together")
    add("--batch", 16, "rows of the core stage; fewer where windows are longer")
    add("--seq-len", None, "tokens of the core stage's window (default: 128, less for a short corpus)")
    model.add_argument("--learning-rate", type=float, default=0.006, metavar="X",
                       help="peak of the core stage (default: %(default)s)")  # fmt: skip
    model.add_argument("--z-loss", type=float, default=0.0, metavar="X", help="weight (default: 0; AXLearn: 1e-6)")
    add("--seed", 0, "of the first weights and of the order of the rows")
    model.add_argument("--optimizer", choices=("fresh", "carried"), default="fresh",
                       help="its moments at the beginning of a stage (default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain"), metavar="FOLDER",
                        help="where the run is kept and continued from (default: %(default)s)")  # fmt: skip
    parser.add_argument("--checkpoint-every", type=int, default=50, metavar="N", help="steps (default: %(default)s)")


def _add(group, name, default, text):
    text = text if default is None else f"{text} (default: %(default)s)"
    group.add_argument(name, type=int, default=default, metavar="N", help=text)


def run(args):
    """Pre-train a model on a folder of your own: core, continued and context-lengthening stages."""
    from .. import targets

    _check(args)
    try:
        with targets.only_writer(args.out):
            _train(args)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command continues from {args.out}", file=sys.stderr)
        raise


def _train(args):
    from ..pretraining import corpus, stages
    from ..transformer import init

    parts, held_out = _parts(args)
    tok = _tokenizer(args, parts)
    cfg = _config(args, tok)
    teach = _teacher(args, cfg, tok)
    parts, planned = _plan(args, parts, tok)
    number = {stage.name: f"stage {i} of 3" for i, stage in enumerate(planned, start=1)}
    result = stages.run(
        init(cfg, args.seed), cfg, planned, corpus.rows_of(parts, tok), args.seed,
        loss=partial(_loss, z_weight=args.z_loss, distilled=teach is not None),
        batches=teach, optimizer=args.optimizer, checkpoint=args.out / "checkpoints",
        checkpoint_every=args.checkpoint_every,
        announce=lambda stage: print(f"{number[stage.name]}: {_told(stage)}", file=sys.stderr),
    )  # fmt: skip
    _finish(args, result, tok, held_out, planned[0].seq_len)


def _check(args):
    """Refuse what is wrong with the options, before hours of curation and before anything is on disk."""
    options.at_least_one(args, ("steps", "batch", "seq_len", "processes", "checkpoint_every"))
    options.not_negative(args, ("seed", "z_loss"))
    if args.steps < 10:
        raise ValueError(f"--steps is {args.steps}: three stages share them, give at least 10")
    if args.seq_len is not None and args.seq_len < LEAST_WINDOW:
        raise ValueError(f"--seq-len is {args.seq_len}: give at least {LEAST_WINDOW}")
    if not 0 < args.learning_rate < math.inf:
        raise ValueError(f"--learning-rate is {args.learning_rate}: give a number above 0")
    if args.teacher is not None and args.z_loss:
        raise ValueError("--z-loss and --teacher change the same loss: give one of them")
    _check_models(args)
    _check_mixtures(args)
    _check_surroundings(args)


def _check_models(args):
    """Refuse a config or a teacher that cannot be used, as far as that shows without their weights."""
    from ..interop import config_json
    from ..pretraining import distillation

    cfg = _config(args, None if args.train_tokenizer else _tokenizer(args, {}))
    teacher_cfg = None if args.teacher is None else config_json.read(args.teacher / "config.json")
    if teacher_cfg is not None and not args.train_tokenizer:  # else the student's vocabulary is not known yet
        distillation.check_vocabularies(cfg, teacher_cfg)


def _check_surroundings(args):
    """Refuse an --out that cannot be written, and a machine without what JAX is told to run on."""
    import jax

    from .. import targets
    from ..interop import tensor_files

    targets.check_folder(args.out, "--out")
    targets.check_folder(args.out / "checkpoints", "--out")
    targets.check_folder(args.out / "model", "--out", without=tensor_files.OTHER_MODELS)
    jax.devices()


def _check_mixtures(args):
    """Refuse malformed weights, and parts that curation of raw files would never make."""
    from ..data.curation import shards
    from ..data.curation.heuristics import ENGLISH
    from ..pretraining.corpus import LONG_QA

    raw, questions = not shards.is_curated(args.corpus), (LONG_QA,) if args.language == ENGLISH else ()
    for option, text in (("--mixture", args.mixture), ("--continued-mixture", args.continued_mixture)):
        weights = options.weights(text, option) or {}
        if raw and (unknown := [name for name in weights if name not in (*CURATED, *questions)]):
            raise ValueError(f"{option}: there will be no rows of {unknown}; curation makes {', '.join(CURATED)}")


def _parts(args):
    """Return ({source: training documents}, held-out documents), curating raw files first."""
    from ..data import mixture
    from ..data.curation import shards
    from ..pretraining import corpus

    folder = args.corpus
    if not shards.is_curated(folder):
        from ..data.curation.pipeline import curate
        from ..data.curation.settings import Settings

        folder = args.out / "curated"
        print(f"curating {args.corpus} into {folder}", file=sys.stderr)
        report = curate(args.corpus, folder, Settings(quality=args.quality, language=args.language), args.processes)
        if not shards.is_curated(folder):
            raise ValueError(
                f"curation kept nothing of {args.corpus}; left out: {report.reasons()}; {folder} says why of each "
                f"document; {report.on_language()}"
            )
        print(f"left out: {report.reasons()}\n{report.on_language()}", file=sys.stderr)
    train, held_out = mixture.split(list(shards.read(folder)), args.corpus, args.seed)
    return corpus.by_source(train), held_out


def _tokenizer(args, parts):
    from .. import assets, atomic
    from ..data import tokenizer
    from ..interop import hugging_face

    if not args.train_tokenizer:
        return hugging_face.load_tokenizer(assets.FOLDER)
    texts, size = [d.text for documents in parts.values() for d in documents], _config(args).vocab_size
    path, about = args.out / "tokenizer.json", args.out / "tokenizer_trained_on.json"
    now = {"text": _digest(texts), "vocab_size": size}
    if path.exists():
        _check_trained_on(about, now)
    else:
        trained = tokenizer.train(texts, size)
        atomic.write(about, json.dumps(now))  # first: by itself it claims nothing
        trained.save(path)
    return hugging_face.load_tokenizer(args.out)


def _digest(texts):
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


def _check_trained_on(about, now):
    """Raise ValueError unless the tokenizer that is there was trained on what one would be trained on now."""
    before = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
    if differs := [name for name, value in now.items() if before.get(name) != value]:
        raise ValueError(
            f"{about} does not say that the tokenizer beside it was trained with this {' and this '.join(differs)}: "
            "give another --out, or remove tokenizer.json and checkpoints there to begin anew"
        )


def _config(args, tok=None):
    """Return the model, with as many tokens as the tokenizer has if a preset's are fewer or it was trained here."""
    import dataclasses

    from ..config import AFM_TINY

    if args.config is not None:
        cfg = options.read_config(args.config)
        if tok is not None and cfg.vocab_size < tok.vocab_size:
            raise ValueError(f"vocab_size {cfg.vocab_size} of {args.config} is below the tokenizer's {tok.vocab_size}")
        return cfg
    small = dict(d_model=256, n_layers=6, n_heads=4, n_kv_heads=2, head_dim=64, d_ff=704)
    cfg = dataclasses.replace(AFM_TINY, **(small if args.preset == "small" else {}))
    return cfg if tok is None else dataclasses.replace(cfg, vocab_size=tok.vocab_size)


def _teacher(args, cfg, tok):
    """Return what puts the teacher's tokens beside the batches of the core stage, or None without a teacher."""
    if args.teacher is None:
        return None
    from ..pretraining import distillation
    from .generate import load_model

    teacher, teacher_cfg, teacher_tok = load_model(args.teacher)
    distillation.check_vocabularies(cfg, teacher_cfg, tok, teacher_tok)

    def teach(stage, _, batches):
        return distillation.taught(batches, teacher, teacher_cfg) if stage.name == "core" else batches

    return teach


def _loss(stage, cfg, z_weight, distilled):
    from ..losses import next_token
    from ..pretraining import distillation
    from ..pretraining.losses import next_token_z

    if distilled and stage.name == "core":
        return partial(distillation.mixed_target, cfg=cfg)
    return partial(next_token_z, cfg=cfg, z_weight=z_weight) if z_weight else partial(next_token, cfg=cfg)


def _plan(args, parts, tok):
    """Return (the parts that are used, the stages), telling what was left out or made smaller."""
    from ..data.curation.heuristics import ENGLISH
    from ..data.mixing import checked_shares
    from ..pretraining import corpus, stages

    counts = corpus.token_counts(parts, tok)
    window, short = corpus.choose_window(counts, args.seq_len)
    longest = corpus.LONGEST * window
    if args.seq_len is None and window != corpus.DEFAULT_WINDOWS[0]:
        print(f"a short corpus: windows of {window}, {2 * window} and {longest} tokens", file=sys.stderr)
    for name in short:
        print(f"left out: {name}, whose {counts[name]} tokens fill no row of {longest}", file=sys.stderr)
    parts = {name: documents for name, documents in parts.items() if name not in short}
    long_qa = longest >= corpus.LEAST_LONG_QA and args.language == ENGLISH
    steps = {name: max(3, round(share * args.steps)) for name, share in SHARES.items()}
    steps["core"] = args.steps - steps["continued"] - steps["lengthening"]
    mixtures = corpus.default_mixtures(
        {name: counts[name] for name in parts}, options.weights(args.mixture, "--mixture"),
        options.weights(args.continued_mixture, "--continued-mixture"), long_qa,
    )  # fmt: skip
    if long_qa:
        tokens = int(corpus.LONG_QA_SHARE * steps["lengthening"] * args.batch * window)
        parts = parts | {corpus.LONG_QA: corpus.long_questions(tok, longest, tokens, args.seed)}
    for weights in mixtures.values():  # of a later stage now, not when it begins
        checked_shares(weights, {name: len(documents) for name, documents in parts.items()})
    return parts, stages.tiny_stages(mixtures, steps, window, args.batch, args.learning_rate)


def _told(stage):
    shares = ", ".join(f"{part} {share:.2f}" for part, share in stage.weights.items())
    shape = f"{stage.steps} steps of {stage.batch_size} x {stage.seq_len} tokens"
    return f"{stage.name}, {shape}, RoPE base {stage.rope_theta:,.0f}, {shares}"


def _finish(args, result, tok, held_out, window):
    """Write the model, the losses and their figure, and print the bits per byte of held-out text by part."""
    from .. import atomic
    from ..data import packing
    from ..evaluation import bits_per_byte
    from ..interop import hugging_face
    from ..pretraining import corpus
    from ..teaching import figures, stages_figures

    hugging_face.save(args.out / "model", result.params, result.cfg, tokenizer=tok)
    for name, history in result.histories.items():
        history.save(args.out / f"history_{name}.json")
    atomic.write(args.out / "loss.png", figures.png(stages_figures.losses(result.histories)))
    for part, documents in corpus.by_source(held_out).items():
        rows = packing.pack_for_evaluation(documents, tok, window)
        batches = packing.evaluation_batches(rows, 16)
        bits = bits_per_byte(result.params, result.cfg, batches, rows.text_bytes, progress=False)
        print(f"{part}: {bits:.3f} bits per byte of {rows.text_bytes} bytes held out")
    print(f"model in {args.out / 'model'}, losses in {args.out / 'loss.png'}")
    print(f"python -m afm_ref generate --model {args.out / 'model'}")
