"""The tokenizer: byte-fallback BPE that splits numbers into single digits, on the
`tokenizers` library.

Ids 0-5 are the special tokens, 6-261 the 256 bytes, then single characters, then merges.
Text goes through no Unicode normalisation, so decode(encode(text)) == text for every string
that UTF-8 can hold. Characters outside the alphabet become their UTF-8 bytes.
"""

import itertools
import json
import re
from collections import Counter

import numpy as np

from afm_ref._typing import Array, Int
from afm_ref.disk import atomic

PAD, BOS, EOS, USER, ASSISTANT, END = range(6)
SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|end|>")
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
ASCII = "\t\n" + "".join(map(chr, range(32, 127)))

# What BPE may merge: a word with one leading space, an English ending like 's, one digit,
# punctuation with one leading space, and runs of white space. A run gives its last space to
# the word behind it, so that a word has the same token behind an indentation as within a
# line, and a newline with its indentation can become a single token.
SPLIT = r"'(?:[stmd]|ll|ve|re)(?!\p{L})| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?= [^\s\p{N}])|\s+"


class Tokenizer:
    """A trained tokenizer of `vocab_size` ids. `train` makes one,
    `hugging_face.load_tokenizer` reads a saved one.
    """

    def __init__(self, spec_json: str):
        """Build from the text of a tokenizer.json that `save` wrote; refuse anything else."""
        vocab = _checked_vocab(spec_json)
        self._plain, self._marked = backends(spec_json)
        self._json = spec_json
        self.vocab_size = len(vocab)
        self.token_bytes = _token_bytes(vocab)
        self._byte_lengths = np.array([len(b) for b in self.token_bytes])
        self._byte_lengths[: len(SPECIAL_TOKENS)] = 0

    def __repr__(self):
        return f"Tokenizer(vocab_size={self.vocab_size})"

    def encode(self, text: str, markers: bool = False) -> Int[Array, " T"]:
        """Return the token ids of a text as int32.

        The text of a special token, such as `<|eos|>`, is ordinary text here, so nobody can
        smuggle one in. Only with `markers=True`, for text that the program itself wrote, is
        it read as the special token.

        Source: TR24 section 3.1 (BPE, byte fallback, single digits) [confirmed]; no
            normalisation [inferred].
        Test: tests/data/test_tokenizer.py::test_round_trip_of_any_text,
        tests/data/test_tokenizer.py::test_bpe_matches_a_plain_python_bpe
        """
        if not isinstance(text, str):
            raise TypeError(f"encode takes a str, got {type(text).__name__}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text holds a lone surrogate, which UTF-8 cannot express: {error}"
            ) from None
        backend = self._marked if markers else self._plain
        return np.array(backend.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def decode(self, ids, skip_special: bool = True) -> str:
        """Return the text of token ids; bytes that are not UTF-8 become the replacement
        character U+FFFD.

        Special tokens are left out, or written by name with `skip_special=False`.
        """
        first = len(SPECIAL_TOKENS) if skip_special else 0
        found = (self.token_bytes[i] for i in self._checked(ids).tolist() if i >= first)
        return b"".join(found).decode("utf-8", errors="replace")

    def byte_lengths(self, ids) -> Array:
        """Return the number of UTF-8 bytes of text that each id stands for (0 for special
        tokens).
        """
        return self._byte_lengths[self._checked(ids)]

    def save(self, path):
        """Write tokenizer.json, in the format of the tokenizers library, whole or not at
        all.
        """
        atomic.write(path, self._json)

    def _checked(self, ids):
        ids = np.asarray(ids, dtype=np.int64)
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise ValueError(
                f"token ids {ids.min()}..{ids.max()} go outside this tokenizer's 0..{self.vocab_size - 1}"
            )
        return ids


def train(texts, vocab_size: int = 2048, rare: float = 2e-6) -> Tokenizer:
    """Return a byte-fallback BPE tokenizer learnt from texts, the same one for the same
    texts.

    The alphabet is ASCII plus each other character that makes up more than `rare` of the
    text; all else stays bytes. Raises ValueError if the texts are empty, too short for so
    many tokens, or if vocab_size leaves no room for merges.

    Source: TR24 section 3.1 [confirmed]; the alphabet, the split into words and the special
        tokens [ours].
    Test: tests/data/test_tokenizer.py::test_training_is_deterministic,
        tests/data/test_tokenizer.py::test_digits_stay_single
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Backend

    markers = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
    # no merges are spent on spelling out markers
    texts = [part for text in texts for part in markers.split(text)]
    alphabet = _alphabet(texts, rare)
    smallest = len(SPECIAL_TOKENS) + len(BYTE_TOKENS) + len(alphabet) + 1
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: markers, bytes and alphabet take {smallest - 1}"
        )
    backend = Backend(models.BPE(byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(BYTE_TOKENS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        min_frequency=2,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(_with_byte_tokens(backend.to_str()))
    if tokenizer.vocab_size < vocab_size:
        raise ValueError(
            f"the texts give only {tokenizer.vocab_size} tokens: ask for vocab_size up to that"
        )
    return tokenizer


def backends(spec_json: str):
    """Return two tokenizers of the library for the text of a tokenizer.json: (special
    tokens are text, are read).

    What the file keeps of somebody's last call is switched off: truncation, padding, and
    BPE's dropout, which leaves out merges at random. Raises ValueError for text that the
    library cannot read.
    """
    from tokenizers import Tokenizer as Backend

    try:
        both = Backend.from_str(spec_json), Backend.from_str(spec_json)
    except Exception as error:  # the library raises bare Exception
        raise ValueError(
            f"not a tokenizer.json that the tokenizers library can read: {error}"
        ) from None
    for backend in both:
        backend.no_truncation()
        backend.no_padding()
        if hasattr(backend.model, "dropout"):
            backend.model.dropout = None
    both[0].encode_special_tokens = True  # a marker typed by a user stays plain text
    return both


def _alphabet(texts, rare):
    counts = Counter(itertools.chain.from_iterable(texts))
    if not counts:
        raise ValueError("no text to train a tokenizer on: the corpus is empty")
    total = counts.total()
    return list(ASCII) + sorted(
        c for c, n in counts.items() if n > rare * total + 1 and c not in ASCII
    )


def _with_byte_tokens(spec_json):
    """Put the byte tokens behind the special ones. The trainer knows no byte tokens, and
    would make them special.
    """
    spec = json.loads(spec_json)
    vocab = spec["model"]["vocab"]
    learnt = sorted(set(vocab) - set(SPECIAL_TOKENS), key=vocab.get)
    tokens = (*SPECIAL_TOKENS, *BYTE_TOKENS, *learnt)
    spec["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
    return json.dumps(spec, ensure_ascii=False, indent=1) + "\n"


def _checked_vocab(spec_json):
    try:
        spec = json.loads(spec_json)
        vocab, fallback = spec["model"]["vocab"], spec["model"]["byte_fallback"]
        ids = sorted(vocab.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"not a tokenizer.json (cut short or another format): {error!r}"
        ) from None
    if not fallback or ids != list(range(len(ids))):
        raise ValueError(
            "tokenizer.json is not a byte-fallback BPE with ids 0..V-1; afm_ref made none like that"
        )
    for i, token in enumerate(SPECIAL_TOKENS + BYTE_TOKENS):
        if vocab.get(token) != i:
            raise ValueError(
                f"tokenizer.json has no token {token} at id {i}; train one with afm_ref.data.tokenizer"
            )
    return vocab


def _token_bytes(vocab):
    """Return the bytes that each id stands for, in the order of ids."""
    tokens = [token.encode() for token in sorted(vocab, key=vocab.get)]
    first = len(SPECIAL_TOKENS)
    tokens[first : first + 256] = (bytes([byte]) for byte in range(256))
    return tokens
