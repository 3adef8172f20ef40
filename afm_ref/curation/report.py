"""What a run of curation did, in numbers: by step, by reason, by kind."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..disk import atomic
from .heuristics import ENGLISH, OF_ENGLISH
from .quality import LOW_QUALITY

NOT_CHECKED = (
    "language: any. Not checked: English stop words, lengths of words, the list of profanity, the classifier of "
    "quality; of personal data only forms of the Internet, cards, and numbers written as in the USA or with + are known"
)
NAMES_KEPT = 20  # of what could not be read, by reason


@dataclass
class Flow:
    """What came into a step and what came out of it. dropped: {reason: [documents, bytes]};
    of UTF-8.
    """

    documents_in: int = 0
    bytes_in: int = 0
    documents_out: int = 0
    bytes_out: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Report:
    """The numbers of a run, the same however often it was interrupted.

    steps: in their order. unreadable: {reason: {"count", "names" of the first}}.
    personal_data: pieces masked, by kind. kinds and lengths: [documents, bytes] of what is
    left, and documents read and left by powers of two of their bytes. index: documents that
    are no near-duplicates, and bytes of keys of each that was compared.
    """

    settings: dict = field(default_factory=dict)
    # files, size_bytes and digest of the folder, and of the settings
    source: dict = field(default_factory=dict)
    steps: dict[str, Flow] = field(default_factory=dict)
    unreadable: dict[str, dict] = field(default_factory=dict)
    personal_data: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, list[int]] = field(default_factory=dict)
    lengths: dict[str, dict[str, int]] = field(
        default_factory=lambda: {"read": {}, "left": {}}
    )
    index: dict[str, int] = field(default_factory=dict)
    shards: int = 0

    def passes(self, step: str, bytes_in: int, out: int | str) -> None:
        """Count a document that came through a step, or was dropped there: out is its
        bytes, or the reason.
        """
        flow = self.steps.setdefault(step, Flow())
        flow.documents_in += 1
        flow.bytes_in += bytes_in
        if isinstance(out, str):
            _count(flow.dropped, out, bytes_in)
        else:
            flow.documents_out += 1
            flow.bytes_out += out

    def could_not_read(self, name: str, reason: str) -> None:
        """Count what could not be read, and keep the first names."""
        row = self.unreadable.setdefault(reason, {"count": 0, "names": []})
        row["count"] += 1
        row["names"] = [*row["names"], name][:NAMES_KEPT]

    def measure(self, when: str, size: int) -> None:
        """Count the length of a document when it was "read", or is "left" at the end."""
        bucket = str(1 << max(0, size - 1).bit_length())
        self.lengths[when][bucket] = self.lengths[when].get(bucket, 0) + 1

    def leave(self, kind: str, size: int) -> None:
        """Count a document that is left at the end."""
        self.measure("left", size)
        _count(self.kinds, kind, size)

    def save(self, path) -> None:
        """Write the report as JSON, whole or not at all."""
        atomic.write(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path) -> "Report":
        """Return the report of a file; ValueError names it if it is none."""
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8-sig"))
            steps = {name: Flow(**flow) for name, flow in fields["steps"].items()}
            return cls(**fields | {"steps": steps})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: this is no report of curation ({error})") from None

    def table(self) -> str:
        """Return the report as text: a row a step, its reasons below it."""
        rows = [("step", "documents", "MB", "left")]
        first = next(iter(self.steps.values()), Flow()).bytes_in
        for name, flow in self.steps.items():
            left = f"{flow.bytes_out / max(1, first):.1%}"
            rows.append((name, *_amounts(flow.documents_out, flow.bytes_out), left))
            for reason, counts in sorted(
                flow.dropped.items(), key=lambda item: -item[1][0]
            ):
                dropped = (f"-{amount}" for amount in _amounts(*counts))
                rows.append((f"  - {reason}", *dropped, ""))
        return "\n".join([*_aligned(rows), "", *self._remarks()])

    def reasons(self, most: int = 5) -> str:
        """Return the commonest reasons for which documents were left out, with their
        numbers.
        """
        found = Counter(self._unread())
        for flow in self.steps.values():
            found.update({reason: count for reason, (count, _) in flow.dropped.items()})
        return _listed(found.most_common(most))

    def _unread(self):
        return {reason: row["count"] for reason, row in self.unreadable.items()}

    def on_language(self) -> str:
        """Return what the run asked of the language, and how many documents it left out for
        it.
        """
        if self.settings.get("language", ENGLISH) != ENGLISH:
            return NOT_CHECKED
        n = sum(self._dropped("heuristics", reason) for reason in OF_ENGLISH)
        low = self._dropped("quality", LOW_QUALITY)
        said = f"language: English prose alone is kept; {n:,} documents broke its rules ({', '.join(OF_ENGLISH)})"
        said += f", {low:,} its classifier (--quality 0 leaves it out)" if low else ""
        return said + (
            "; --language any, with another --out, keeps other languages"
            if n or low
            else ""
        )

    def _dropped(self, step, reason):
        return self.steps.get(step, Flow()).dropped.get(reason, (0, 0))[0]

    def _remarks(self):
        kinds = ", ".join(
            f"{kind} {count:,} ({size / 1e6:,.2f} MB)"
            for kind, (count, size) in sorted(self.kinds.items())
        )
        return [
            f"left by kind: {kinds or 'nothing'}",
            f"personal data masked: {_listed(sorted(self.personal_data.items()))}",
            f"not usable: {_listed(sorted(self._unread().items()))}",
            self.on_language(),
            f"near-duplicates: {self.index.get('documents', 0):,} documents repeat no other; "
            f"{self.index.get('bytes_a_document', 0)} bytes of keys for each that was compared",
            f"shards: {self.shards}",
        ]


def _count(table, name, size):
    """Count one more of so many bytes in {name: [documents, bytes]}."""
    documents, before = table.get(name, (0, 0))
    table[name] = [documents + 1, before + size]


def _amounts(documents, size):
    return f"{documents:,}", f"{size / 1e6:,.2f}"


def _listed(counts):
    return ", ".join(f"{n:,} {name}" for name, n in counts) or "none"


def _aligned(rows):
    """Return rows as lines, the first column to the left and the others to the right."""
    name, *others = (max(map(len, column)) for column in zip(*rows))
    return [
        "  ".join([row[0].ljust(name), *map(str.rjust, row[1:], others)]).rstrip()
        for row in rows
    ]
