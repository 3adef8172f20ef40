"""One function per task: random generator, split and difficulty -> a record. And plain
everyday text without a task.
"""

import re
from typing import Any, NamedTuple

from afm_ref.data.tasks import grammar
from afm_ref.data.tasks.grammar import pick
from afm_ref.data.tasks.metrics import holds


class Record(NamedTuple):
    """A prompt with a reference answer. All of it is generated: no person wrote any of it."""

    task: str
    prompt: str
    reference: str
    split: str
    fields: dict[str, Any]  # what the task's metric needs
    generated: bool = True


def summarise(rng, split, difficulty):
    """A thread, mail or notification stack with one piece of news and 1 to 1 + `difficulty`
    lines of other talk.
    """
    news = grammar.draw(rng, split)
    lines = [_news_line(rng, news)]
    kind = pick(rng, ("thread", "mail", "notifications"))
    if kind == "notifications":
        lines[0] = "Messages: " + lines[0]
    for _ in range(1 + int(rng.integers(difficulty + 1))):
        noise = (
            grammar.notification(rng, split)
            if kind == "notifications"
            else _chatter(rng, news)
        )
        lines.insert(int(rng.integers(len(lines) + 1)), noise)
    if kind == "mail":
        lines = [f"Mail from {news.slots['name']}"] + [
            line.split(": ", 1)[1] for line in lines
        ]
    facts = [news.slots[fact] for fact in news.intent.facts]
    prompt = "Summarise:\n" + "\n".join(lines)
    return Record(
        "summarise", prompt, news.fill(news.intent.summary), split, {"facts": facts}
    )


def proofread(rng, split, difficulty):
    """A formal message with 1 to `difficulty` + 1 injected errors, to be corrected."""
    right = grammar.formal(grammar.draw(rng, split), int(rng.integers(grammar.WORDINGS)))
    if rng.random() < 0.5:
        right = grammar.small_talk(rng) + " " + right
    wrong = right
    while wrong == right:  # two slips can cancel out
        for _ in range(int(rng.integers(1, difficulty + 2))):
            wrong = with_an_error(rng, wrong)
    return Record("proofread", "Correct:\n" + wrong, right, split, {"source": wrong})


def tone(rng, split, difficulty):
    """A casual message to be made formal, or the other way round; from difficulty 2 on with
    small talk before it.
    """
    news, wording = grammar.draw(rng, split), int(rng.integers(grammar.WORDINGS))
    source, reference = grammar.formal(news, wording), grammar.casual(news, wording)
    target = pick(rng, ("casual", "formal"))
    if target == "formal":
        source, reference = reference, source
    said = [fact for slot, fact in news.slots.items() if slot not in ("them", "is_are")]
    facts = [fact for fact in said if holds(source, fact) and holds(reference, fact)]
    if difficulty >= 2 and rng.random() < 0.5:
        extra = grammar.small_talk(rng)
        source, reference = f"{source} PS: {extra}", f"{reference} PS: {extra}"
        facts.append(extra)
    return Record(
        "tone",
        f"Make {target}:\n{source}",
        reference,
        split,
        {"target": target, "facts": facts},
    )


def answer(rng, split, difficulty):
    """A question about one of 1 + `difficulty` // 2 pieces of news, with small talk between
    them.
    """
    several = [
        grammar.draw(rng, split) for _ in range(1 + int(rng.integers(difficulty // 2 + 1)))
    ]
    news = several[0]
    while True:
        text = _news_line(rng, news)
        usable = [(q, a) for q, a in news.intent.questions if _answerable(news, a, text)]
        if usable:
            break
    name = news.slots["name"]
    lines = [text, *(_news_line(rng, n) for n in several[1:] if n.slots["name"] != name)]
    lines += [_chatter(rng, news) for _ in range(int(rng.integers(difficulty + 1)) // 2)]
    question, reply = pick(rng, usable)
    rng.shuffle(lines)
    prompt = "\n".join(lines) + "\n" + news.fill(question)
    return Record("answer", prompt, news.fill(reply), split, {})


def sums(rng, split, difficulty):
    """A sum or difference of two numbers; `difficulty` of 4 operand pairs are of two
    digits, the others of one.
    """
    two_digits = rng.random() < difficulty / 4
    low, high = (10, 100) if two_digits else (0, 10)
    while True:
        a, b = (int(x) for x in rng.integers(low, high, size=2))
        sign = pick(rng, "+-")
        a, b = (max(a, b), min(a, b)) if sign == "-" else (a, b)
        if grammar.belongs(split, a, sign, b):
            break
    return Record(
        "sums", f"{a} {sign} {b} =", str(a + b if sign == "+" else a - b), split, {}
    )


TASKS = {
    "summarise": summarise,
    "proofread": proofread,
    "tone": tone,
    "answer": answer,
    "sums": sums,
}
# What SFT of the tiny model is measured with; 0 is the easiest.
DEFAULT_DIFFICULTY = {"summarise": 1, "proofread": 1, "tone": 1, "answer": 2, "sums": 0}
# The hardest in the pre-training mixture, which has all levels up to it: a change needs a
# new shipped model.
PRETRAINING_DIFFICULTY = {"summarise": 1, "proofread": 1, "tone": 1, "answer": 2, "sums": 2}


def everyday(rng, split) -> str:
    """Return plain everyday text: a thread, a mail or a stack of notifications."""
    kind = pick(rng, ("thread", "mail", "notifications"))
    if kind == "notifications":
        return "\n".join(
            grammar.notification(rng, split) for _ in range(int(rng.integers(2, 6)))
        )
    news = grammar.draw(rng, split)
    if kind == "thread":
        lines = [_chatter(rng, news) for _ in range(int(rng.integers(1, 4)))]
        lines.insert(int(rng.integers(len(lines) + 1)), _news_line(rng, news))
        return "\n".join(lines)
    text = grammar.say(rng, news)
    subject = news.slots["event" if "event" in news.intent.facts else "thing"]
    postscript = "".join(
        f"\nPS: {grammar.small_talk(rng)}" for _ in range(int(rng.integers(3)))
    )
    return f"From: {news.slots['name']}\nTo: {news.slots['friend']}\nSubject: {subject}\n\n{text}{postscript}"


def _news_line(rng, news):
    return f"{news.slots['name']}: {grammar.say(rng, news)}"


def _chatter(rng, news):
    return f"{news.slots[pick(rng, ('name', 'friend'))]}: {grammar.small_talk(rng)}"


def _answerable(news, reply, text):
    return all(holds(text, news.slots[slot]) for slot in re.findall(r"{(\w+)}", reply))


def with_an_error(rng, text):
    """Return text with one more error in it: a slip of the fingers, of agreement, of a
    capital or of a mark.
    """
    words = text.split(" ")
    while True:
        i = int(rng.integers(len(words)))
        wrong = pick(rng, ERRORS)(rng, words[i], i)
        if wrong is not None and wrong != words[i]:
            return " ".join([*words[:i], wrong, *words[i + 1 :]])


def _swapped_letters(rng, word, i):
    j = int(rng.integers(1, max(2, len(word) - 2)))
    return (
        word[:j] + word[j + 1] + word[j] + word[j + 2 :]
        if len(word) > 3 and word[j : j + 2].isalpha()
        else None
    )


def _dropped_letter(rng, word, i):
    j = int(rng.integers(1, max(2, len(word) - 1)))
    return word[:j] + word[j + 1 :] if len(word) > 3 and word[j].isalpha() else None


def _doubled_letter(rng, word, i):
    j = int(rng.integers(len(word)))
    return word[: j + 1] + word[j:] if len(word) > 2 and word[j].isalpha() else None


def _doubled_word(rng, word, i):
    return f"{word} {word}" if word.isalpha() else None


AGREEMENTS = {
    "is": "are",
    "are": "is",
    "has": "have",
    "have": "has",
    "it": "them",
    "them": "it",
}


def _wrong_agreement(rng, word, i):
    return AGREEMENTS.get(word)


def _lost_capital(rng, word, i):
    return word[:1].lower() + word[1:] if i else None


def _lost_mark(rng, word, i):
    return word[:-1] if word[-1:] in ".,?" else None


ERRORS = (_swapped_letters, _dropped_letter, _doubled_letter, _doubled_word,
          _wrong_agreement, _lost_capital, _lost_mark)  # fmt: skip
