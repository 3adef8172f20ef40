"""What `wild` puts into a crawl: bodies out of a stock of paragraphs, edits, personal data and benchmark items.

All personal data is made up: e-mail addresses of example domains, phone numbers of 555-01xx, numbers drawn at random
within the rules. Benchmark items are made from a model-written frame.
"""

import re
from dataclasses import dataclass

from afm_ref.curation import pii
from afm_ref.data import corpora, tasks
from afm_ref.data.corpora import Document
from experiments.crawl import junk

SHORTEST_PARAGRAPH = 12  # words
EVERYDAY = 2000  # generated messages in stock
CODE_LINES = (40, 200)
NOUNS = (
    "crates",
    "lanterns",
    "kettles",
    "ribbons",
    "marbles",
    "saddles",
    "pebbles",
    "tiles",
    "candles",
    "barrels",
    "spoons",
    "anchors",
)
PLACES = ("a harbour", "a bakery", "an orchard", "a lighthouse", "a workshop", "a library", "a ferry", "a greenhouse")
PEOPLE = ("Oda", "Ilse", "Bram", "Nuria", "Tomasz", "Leto", "Wen", "Amara", "Pilar", "Kofi")
TOPICS = (
    "Notes",
    "A short guide",
    "Questions",
    "What we learnt",
    "Reference",
    "A tutorial",
    "Common mistakes",
    "An overview",
)


@dataclass(frozen=True)
class Stock:
    """What bodies are made of: paragraphs of prose, code, everyday messages, pages of pydoc, and words for edits."""

    prose: list[str]
    code: list[list[str]]  # lines of each module
    everyday: list[str]
    pydoc: list[tuple[str, str]]
    vocabulary: list[str]

    @classmethod
    def of(cls, documents: list[Document] | None, rng) -> "Stock":
        """Return the stock of some documents; None takes the embedded corpus, and pydoc's pages with it."""
        pydoc = list(junk.pydoc_pages()) if documents is None else []
        documents = corpora.embedded(progress=False) if documents is None else documents
        texts = [d.text for d in documents if d.source != "code"]
        prose = [text for d in texts for text in map(str.strip, d.split("\n\n")) if is_prose(text)]
        code = [d.text.splitlines() for d in documents if d.source == "code"]
        messages = [d.text.strip() for d in tasks.everyday_documents(EVERYDAY, int(rng.integers(2**31)))]
        vocabulary = sorted({word for text in prose for word in text.split() if word.isalpha()})
        return cls(prose, code, messages, pydoc, vocabulary)

    def body(self, rng, source: str) -> str:
        """Return a clean body: prose for "web", prose or everyday messages for "text", code, or sums for "maths"."""
        if source == "code":
            lines = self.code[int(rng.integers(len(self.code)))]
            length = int(rng.integers(*CODE_LINES))
            start = int(rng.integers(max(1, len(lines) - length)))
            return "\n".join(lines[start : start + length]) + "\n"
        if source == "maths":
            return "\n\n".join(worked_sum(rng) for _ in range(int(rng.integers(8, 20))))
        everyday = source == "text" and rng.random() < 0.5
        pool, count = (self.everyday, rng.integers(8, 20)) if everyday else (self.prose, rng.integers(5, 16))
        return "\n\n".join(pool[i] for i in rng.integers(len(pool), size=int(count)))


def is_prose(text: str) -> bool:
    """Return whether a paragraph is long enough, begins like a sentence and is mostly letters and spaces."""
    letters = sum(c.isalpha() or c == " " for c in text)
    return len(text.split()) >= SHORTEST_PARAGRAPH and text[0].isupper() and letters > 0.85 * len(text)


def edit(rng, text: str, share: float, vocabulary: list[str]) -> tuple[str, float]:
    """Return the text with a share of its words replaced by others, and the share that was: a whole number of words."""
    pieces = re.split(r"(\s+)", text)  # words at even places
    places = [i for i in range(0, len(pieces), 2) if pieces[i]]
    chosen = rng.choice(places, size=round(share * len(places)), replace=False) if places else []
    for i in chosen:
        new = pieces[i]
        while new == pieces[i]:
            new = vocabulary[int(rng.integers(len(vocabulary)))]
        pieces[i] = new
    return "".join(pieces), len(chosen) / max(1, len(places))


def inside(rng, body: str, text: str) -> str:
    """Return the body with a text as one more paragraph at a random place."""
    paragraphs = body.split("\n\n")
    paragraphs.insert(int(rng.integers(len(paragraphs) + 1)), text)
    return "\n\n".join(paragraphs)


def _digits(rng, count):
    return "".join(map(str, rng.integers(10, size=count)))


def card(rng) -> str:
    """Return a made-up card number of 16 digits that passes the Luhn check."""
    start = "4" + _digits(rng, 14)
    number = next(start + d for d in "0123456789" if pii.luhn(start + d))
    return " ".join(number[i : i + 4] for i in range(0, 16, 4))


def ssn(rng) -> str:
    """Return a made-up social security number within the rules."""
    return f"{int(rng.integers(100, 600))}-{int(rng.integers(1, 100)):02}-{int(rng.integers(1, 10_000)):04}"


def ip(rng) -> str:
    """Return an IPv4 address from ranges that the Internet routes."""
    return ".".join(map(str, (int(rng.integers(20, 90)), *rng.integers(1, 255, size=3).tolist())))


MAKERS = {
    "email": lambda rng: (
        f"{str(rng.choice(PEOPLE)).lower()}.{_digits(rng, 3)}@example.{rng.choice(['com', 'org', 'net'])}"
    ),
    "ip": ip,
    "card": card,
    "ssn": ssn,
    "phone": lambda rng: f"(212) 555-01{_digits(rng, 2)}",
}
FRAMES = {
    "email": "Write to {} for more.",
    "ip": "The request came from {} at noon.",
    "card": "She paid with card {} and left.",
    "ssn": "His social security number is {} on the form.",
    "phone": "Call {} before Friday.",
}


def with_personal_data(rng, body: str) -> tuple[str, dict[str, int]]:
    """Return the body with one to four sentences of personal data, and how many of each kind."""
    counts = {}
    for kind in rng.choice(list(MAKERS), size=int(rng.integers(1, 5))).tolist():
        body = inside(rng, body, FRAMES[kind].format(MAKERS[kind](rng)))
        counts[kind] = counts.get(kind, 0) + 1
    return body, counts


def benchmark_item(rng) -> str:
    """Return a question as a benchmark might ask it, of about 40 words."""
    noun, other = rng.choice(NOUNS, size=2, replace=False)
    a, b, c = (int(rng.integers(3, 98)) for _ in range(3))
    first, second, place = rng.choice(PEOPLE), rng.choice(PEOPLE), rng.choice(PLACES)
    return (
        f"{first} keeps {a} {noun} in {place} and sells {b} {other} for every {c} {noun} that arrive. If {second} "
        f"brings {a + c} more {noun}, how many {other} have been sold when there are no {noun} left?"
    )


def worked_sum(rng) -> str:
    """Return a small worked sum in symbols."""
    a, b = (int(n) for n in rng.integers(2, 99, size=2))
    x, y = rng.choice(list("abcdkmnpqstuvwxyz"), size=2, replace=False)
    sums = (
        f"Let {x} = {a} + {b} = {a + b}. Then {x}² = {a + b}² = {(a + b) ** 2}, and {x}² ≥ 0.",
        f"∑ of {x} from 1 to {a} = {a} ({a} + 1) / 2 = {a * (a + 1) // 2}, so {y} = {(a + 1) / 2} on average.",
        f"\\frac{{{a}}}{{{b}}} + \\frac{{{b}}}{{{a}}} = \\frac{{{a * a + b * b}}}{{{a * b}}} ≥ 2 for all {x}, {y}.",
        f"Solve {a}{x} + {b} = {y}: {a}{x} = {y} - {b}, hence {x} = ({y} - {b}) / {a}.",
        f"∫ {a}{x}² d{x} = {a}/3 {x}³ + C; from 0 to {b} it is {a * b**3}/3 ≈ {a * b**3 / 3:.1f}.",
        f"Since {x} ≡ {a % 7} and {y} ≡ {b % 7} modulo 7, {x} + {y} ≡ {(a + b) % 7} and {x}{y} ≡ {a * b % 7}.",
    )
    return sums[int(rng.integers(len(sums)))]


def title(rng) -> str:
    """Return a page's title."""
    return f"{rng.choice(TOPICS)} {int(rng.integers(1, 1000))}"
