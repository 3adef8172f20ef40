"""Chapter 0's exercises: two numbers that make a loss readable."""

import math

from .registry import exercise


@exercise("0.1", "the loss of a guesser", "easy", 3, ((2,), (2048,), (49_152,)))
def loss_of_a_guesser(vocab_size):
    """Every token is equally likely, so each has probability 1/V."""
    V = vocab_size
    return sum(1 / V * math.log(V) for _ in range(V)), {
        "this is in bits; the loss here is in nats, so use the natural logarithm": math.log2(
            V
        ),
        "the loss is MINUS the log-probability, so it cannot be negative": -math.log(V),
        "this is the probability; the loss is minus its logarithm": 1 / V,
    }


@exercise("0.2", "from nats per token to bits per byte", "easy", 5,
          ((math.log(2), 1.0), (math.log(256), 1.0), (3.5, 3.2)))  # fmt: skip
def bits_per_byte(nats_per_token, bytes_per_token):
    """A text of 1000 tokens: its nats in all, in units of ln 2, over its bytes."""
    nats, width, n_tokens = nats_per_token, bytes_per_token, 1000
    return nats * n_tokens * math.log2(math.e) / (width * n_tokens), {
        "this is nats per byte: one bit is ln 2 = 0.693 nats": nats / width,
        "this is bits per token: a token is several bytes long": nats / math.log(2),
        "nats were multiplied by ln 2: a bit is smaller than a nat, so divide": nats
        * math.log(2)
        / width,
        "multiplied by the bytes per token: more bytes share the same bits": nats
        / math.log(2)
        * width,
    }
