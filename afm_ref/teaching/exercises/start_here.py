"""Chapter 0's exercises: two numbers that make a loss readable."""

import math

from .registry import Case, exercise


@exercise("0.1", "the loss of a guesser", "easy", 3)
def loss_of_a_guesser():
    """Every token is equally likely, so each has probability 1/V."""
    return [
        Case(
            {"vocab_size": V},
            sum(1 / V * math.log(V) for _ in range(V)),
            _guesser_mistakes(V),
        )
        for V in (2, 2048, 49_152)
    ]


def _guesser_mistakes(V):
    return (
        (
            math.log2(V),
            "this is in bits; the loss here is in nats, so use the natural logarithm",
        ),
        (-math.log(V), "the loss is MINUS the log-probability, so it cannot be negative"),
        (1 / V, "this is the probability; the loss is minus its logarithm"),
    )


@exercise("0.2", "from nats per token to bits per byte", "easy", 5)
def bits_per_byte():
    """A text of 1000 tokens: its nats in all, in units of ln 2, over its bytes."""
    for nats, width in ((math.log(2), 1.0), (math.log(256), 1.0), (3.5, 3.2)):
        n_tokens = 1000
        expected = (nats * n_tokens) * math.log2(math.e) / (width * n_tokens)
        mistakes = (
            (nats / width, "this is nats per byte: one bit is ln 2 = 0.693 nats"),
            (nats / math.log(2), "this is bits per token: a token is several bytes long"),
            (
                nats * math.log(2) / width,
                "nats were multiplied by ln 2: a bit is smaller than a nat, so divide",
            ),
            (
                nats / math.log(2) * width,
                "multiplied by the bytes per token: more bytes share the same bits",
            ),
        )
        yield Case({"nats_per_token": nats, "bytes_per_token": width}, expected, mistakes)
