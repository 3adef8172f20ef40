"""A continuation as text that appears while the model writes it."""

from collections.abc import Iterator

import numpy as np

from .decoding import stream


def stream_text(
    params, cfg, tokenizer, prompt, max_new_tokens: int, **settings
) -> Iterator[str]:
    """Yield a text's continuation in whole characters; settings are those of `stream`.

    prompt: a text, or its token ids (to begin with a marker, say). tokenizer: anything with
    `encode(text) -> ids` and `decode(ids) -> text`. What is yielded is the text of prompt
    and continuation together, the prompt's cut off: a tokenizer may drop the space that a
    text begins with.
    """
    ids = np.asarray(prompt_ids(tokenizer, prompt) if isinstance(prompt, str) else prompt)
    if ids.size == 0:
        raise ValueError("the prompt is empty: give at least one character to continue")
    most = getattr(tokenizer, "vocab_size", np.inf)  # padded rows have no text

    def decode(ids):
        return tokenizer.decode([token for token in ids if token < most])

    chunks = stream(params, cfg, [ids], max_new_tokens, **settings)
    return _whole_characters(
        chunks, decode, ids.tolist(), getattr(tokenizer, "settled_ids", list)
    )


def prompt_ids(tokenizer, text: str):
    """Return a prompt's ids: tokenizer.prompt_ids(text), or else encode(text).

    The first adds what another model's tokenizer.json says that a text begins with (Llama's
    beginning-of-text token).
    """
    return getattr(tokenizer, "prompt_ids", tokenizer.encode)(text)


def _whole_characters(chunks, decode, prompt_ids, settled):
    ids, prompt, shown = list(prompt_ids), decode(prompt_ids), 0
    for (new,) in chunks:
        ids.extend(new.tolist())
        certain = decode(settled(ids)).rstrip("\ufffd")  # which may be half a character
        shown = max(shown, _common(prompt, certain))
        if len(certain) > shown:
            yield certain[shown:]
            shown = len(certain)
    text = decode(ids)
    if rest := text[max(shown, _common(prompt, text)) :]:
        yield rest


def _common(a: str, b: str) -> int:
    """Return how many characters two texts begin with in common."""
    if b.startswith(a):
        return len(a)
    return next(i for i, x in enumerate(a) if x != b[i : i + 1])
