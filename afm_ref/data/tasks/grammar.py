"""A small grammar of everyday news: who plans, moves, cancels, asks for or loses what, said
casually or formally.

Every intent says the same facts in several casual and formal ways and in one summary. The
facts are drawn at random; which names may meet which topics is fixed by a hash, so that
held-out items are about pairs that training never shows.
"""

from typing import NamedTuple

import numpy as np

from afm_ref.data.corpora import hash_below
from afm_ref.data.tasks import lexicon

HELD_OUT_SHARE = 0.1


class Intent(NamedTuple):
    """One kind of news, with its wordings. `facts` are the slots that a summary must hold."""

    facts: list[str]
    casual: tuple[str, ...]
    formal: tuple[str, ...]
    summary: str
    questions: list[list[str]]  # [question, answer]


def _intent(facts, *lines):
    """Return the intent of a block of LISTING."""
    questions = [line.split(" = ") for line in lines[7:]]
    return Intent(lexicon.entries(facts), lines[:3], lines[3:6], lines[6], questions)


# Plan, move, cancel, ask for, lose. Of each the facts, three casual wordings, three formal
# ones that say the same, the summary, and three questions with their answers.
LISTING = """
name|event|day|time|place
the {event} is on {day} at {time}, we meet at {place}
wanna come to the {event}? it's {day}, {time}, at {place}
{event} on {day}! be at {place} at {time}
the {event} will take place on {day} at {time}, at {place}
I would like to invite you to the {event} at {place}, on {day} at {time}
please note that the {event} begins at {time} on {day}, at {place}
{name} plans the {event} on {day} at {time} at {place}.
When is the {event}? = {day} at {time}
Where is the {event}? = {place}
What does {name} plan? = the {event}

name|event|day|time
gotta move the {event}, {reason}. how about {day} at {time}?
{reason}, so let's do the {event} on {day} at {time}
can't do the {event} now, {reason}. {day} {time} instead?
as {reason}, I have to move the {event} to {day} at {time}
unfortunately {reason}. The {event} is therefore moved to {day} at {time}
the {event} has to be moved, because {reason}. The new date is {day} at {time}
{name} moves the {event} to {day} at {time}.
When is the {event} now? = {day} at {time}
What is moved? = the {event}
Why is the {event} moved? = {reason}

name|event|day
no {event} on {day}, {reason}
gotta skip the {event} on {day}, {reason}
sry, {reason}, so the {event} on {day} is off
I regret that the {event} on {day} is cancelled, because {reason}
as {reason}, the {event} on {day} cannot take place
unfortunately I have to cancel the {event} on {day}, as {reason}
{name} cancels the {event} on {day}.
What is cancelled? = the {event}
Why is the {event} cancelled? = {reason}
On which day is nothing now? = {day}

name|thing|day
can u bring {thing} to {place} on {day}?
hey don't forget {thing}, need {them} on {day} at {place}
could you grab {thing} for me? I'm at {place} on {day}
could you please bring {thing} to {place} on {day}
I would be grateful if you could bring {thing} to {place} by {day}
please remember {thing}. I need {them} at {place} on {day}
{name} needs {thing} on {day}.
What does {name} need? = {thing}
Where does {name} need {thing}? = {place}
When does {name} need {thing}? = {day}

name|thing|place
I think I left {thing} at {place} on {day}, seen {them}?
ugh, {thing} {is_are} still at {place}. can u get {them} on {day}?
lost {thing} at {place}! did u take {them} on {day}?
I believe that I left {thing} at {place} on {day}. Have you seen {them}
{thing} {is_are} still at {place}. Would you be able to collect {them} on {day}
on {day} I lost {thing} at {place}. Please tell me if you find {them}
{name} left {thing} at {place}.
What did {name} leave? = {thing}
Where {is_are} {thing}? = {place}
Which day does {name} name? = {day}
"""
INTENTS = [_intent(*block.splitlines()) for block in LISTING.strip().split("\n\n")]

CASUAL_OPEN = lexicon.entries("hey {friend},|hi {friend}!|yo {friend},|hiya {friend},")
CASUAL_CLOSE = lexicon.entries("cheers, {name}|thx, {name}|see ya, {name}|bye, {name}")
FORMAL_OPEN = lexicon.entries("""
Dear {friend},|Good morning {friend},|Good evening {friend},|Dear colleague {friend},
""")
FORMAL_CLOSE = lexicon.entries("""
Kind regards, {name}|Best wishes, {name}|Yours sincerely, {name}|With thanks, {name}
""")
QUESTION_STARTS = ("could you", "have you", "would you")
WORDINGS = 48  # 3 bodies x 4 closings x 4 openings


class News(NamedTuple):
    """An intent with its slots filled."""

    intent: Intent
    slots: dict[str, str]

    def fill(self, template: str) -> str:
        """Return a template with this news' facts in it."""
        return template.format(**self.slots)


def draw(rng: np.random.Generator, split: str) -> News:
    """Return random news whose (sender, topic) pair belongs to the split."""
    intent = pick(rng, INTENTS)
    while True:
        first, step = rng.integers(len(lexicon.NAMES)), rng.integers(1, len(lexicon.NAMES))
        name = lexicon.NAMES[first]
        friend = lexicon.NAMES[(first + step) % len(lexicon.NAMES)]
        event, thing = pick(rng, lexicon.EVENTS), pick(rng, lexicon.THINGS)
        if belongs(split, name, event if "event" in intent.facts else thing):
            break
    slots = {"name": name, "friend": friend, "event": event, "thing": thing}
    for slot, options in lexicon.FREE_SLOTS.items():
        slots[slot] = pick(rng, options)
    plural = thing in lexicon.PLURAL
    slots |= {"them": "them" if plural else "it", "is_are": "are" if plural else "is"}
    return News(intent, slots)


def belongs(split: str, *parts) -> bool:
    """Return whether a combination of content words is for this split ("train" or
    "held_out"), by a hash.
    """
    if split not in ("train", "held_out"):
        raise ValueError(f'split must be "train" or "held_out", not {split!r}')
    held_out = hash_below(HELD_OUT_SHARE, *parts)
    return held_out == (split == "held_out")


def pick(rng: np.random.Generator, options):
    """Return one of the options."""
    return options[int(rng.integers(len(options)))]


def sentence(text: str) -> str:
    """Return text with a capital letter after each full stop, and an end mark. It follows a
    greeting and a comma.
    """
    first, *others = text.split(". ")
    parts = [first] + [part[:1].upper() + part[1:] for part in others]
    asked = parts[-1].lower().startswith(QUESTION_STARTS)
    return ". ".join(parts) + ("?" if asked else ".")


def casual(news: News, wording: int) -> str:
    """Return the news as a friend would text it. The same wording number gives the formal
    twin of the text.
    """
    body = news.fill(news.intent.casual[wording // 16])
    body = body if body[-1] in ".?!" else body + "."
    return _letter(news, wording, CASUAL_OPEN, body, CASUAL_CLOSE)


def formal(news: News, wording: int) -> str:
    """Return the news as one writes to a colleague."""
    body = sentence(news.fill(news.intent.formal[wording // 16]))
    return _letter(news, wording, FORMAL_OPEN, body, FORMAL_CLOSE)


def _letter(news, wording, openings, body, closings):
    opening, closing = openings[wording % 4], closings[wording // 4 % 4]
    return f"{news.fill(opening)} {body} {news.fill(closing)}"


def say(rng, news: News) -> str:
    """Return the news in a random wording of a random tone."""
    return pick(rng, (casual, formal))(news, int(rng.integers(WORDINGS)))


def small_talk(rng) -> str:
    """Return a sentence without any fact that a task asks for."""
    text = pick(rng, lexicon.SMALL_TALK)
    return text + ("?" if text.startswith("How") else ".")


def notification(rng, split: str) -> str:
    """Return one line of a notification centre."""
    slots = draw(rng, split).slots | {
        "small": small_talk(rng),
        "digit": str(rng.integers(1, 10)),
        "amount": str(rng.integers(2, 60)),
    }
    app = pick(rng, sorted(lexicon.APPS))
    text = pick(rng, lexicon.APPS[app]).format(**slots)
    return f"{app}: {text[:1].upper()}{text[1:]}"
