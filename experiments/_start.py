"""Where chapters 10 and 11 start: a model that could answer rightly, and mostly does not."""

from pathlib import Path

from afm_ref import assets
from afm_ref.data import tasks
from afm_ref.disk import resumable
from afm_ref.interop import hugging_face
from afm_ref.post_training import mixed_quality, sft
from afm_ref.whole_road.bench import afm

TASKS = {"summarise": 2, "answer": 2}  # and their difficulty: one above the instruct model's for summaries
PROMPT_TOKENS, NEW_TOKENS = 80, 24
ROW = PROMPT_TOKENS + NEW_TOKENS
STEPS, RATE, RECORDS, SEED = 150, 5e-4, 1500, 70


def records(tok, count, seed, split="train", only=tuple(TASKS)):
    """Return `count` records of each task whose prompt is short enough, no prompt twice."""
    found = []
    for task in only:
        drawn = tasks.records(task, 2 * count, seed=seed, split=split, difficulty=TASKS[task])
        short = [r for r in drawn if len(tasks.chat_tokens(tok, r.prompt).tokens) <= PROMPT_TOKENS]
        found += list({record.prompt: record for record in short}.values())[:count]
    return found


def start(folder: Path):
    """Return (params, cfg, tokenizer) of the instruct model after SFT on answers of mixed quality, made once."""
    params, cfg, tok = assets.load_instruct()

    def make(new):
        examples = mixed_quality.answers(records(tok, RECORDS, SEED), tok, SEED)
        tuned = sft.fine_tune(
            params, cfg, tok, examples, afm(RATE, STEPS), STEPS, batch_size=8, seed=SEED, progress=False
        )
        hugging_face.save(new, tuned.params, cfg, dtype="float32")

    folder.mkdir(parents=True, exist_ok=True)
    return hugging_face.load(resumable.finished(folder / "start", make))[0], cfg, tok
