"""Chapter 0's exercises: what makes a loss readable, and what a temperature does."""

import math
from fractions import Fraction

import numpy as np

from .registry import arrays, exercise


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


@exercise("0.3", "a bolder or a more careful model", "easy", 8,
          arrays(([0.0, math.log(3)], 0.5), ([2.0, -1.0, 0.5], 2.0), ([999.0, 1000.0], 1.0)))  # fmt: skip
def at_temperature(logits, temperature):
    """p_i = 1 / sum_j exp((z_j - z_i) / temperature): only differences count."""

    def softmax(z):
        return 1 / np.exp(z[None, :] - z[:, None]).sum(1)

    return softmax(logits / temperature), {
        "the logits were multiplied by the temperature: divide": softmax(
            logits * temperature
        ),
        "the temperature divides the logits, not the probabilities": softmax(logits)
        / temperature,
        "the temperature has no effect here": softmax(logits),
    }


@exercise("0.4", "how small is the file?", "medium", 8,
          arrays(([0.1] * 30,), ([0.9] * 100,), ([1 / 8, 1 / 2, 1 / 256],), ([0.05] * 2000,)))  # fmt: skip
def file_size(probabilities):
    """The fewest whole bytes that tell 1 / p texts apart, p the probability of all tokens."""
    texts = math.prod(1 / Fraction(float(p)) for p in probabilities)
    bits = (math.ceil(texts) - 1).bit_length()
    nats = -np.log(probabilities).sum()
    return -(-bits // 8), {
        "these are bits: a byte has 8 of them": bits,
        "nats are not bits: use log2, or divide by ln 2": math.ceil(nats / 8),
        "the size is rounded down: a part of a byte takes a whole one": bits // 8,
        "this is the size of one token on average: a text pays for all of them": math.ceil(
            nats / math.log(2) / len(probabilities) / 8
        ),
    }
