"""The one definition of the axis letters and of the words that the chapters use."""

from .tables import show_table

AXES = {
    "B": "batch: sequences side by side",
    "T": "query positions: tokens of a sequence that ask",
    "S": "key positions: tokens that are asked",
    "D": "model dim: width of the residual stream",
    "N": "query heads",
    "K": "key/value heads",
    "G": "queries per key head, G = N / K",
    "H": "head dim",
    "F": "feed-forward (FFN) dim",
    "V": "vocabulary: number of tokens the model knows",
    "L": "layers",
    "R": "rank of a LoRA adapter",
}

TERMS = {
    "adapter": "a small set of extra weights, trained for one feature while the base model stays frozen (chapter 5)",
    "attention": "a position averages the values of positions up to its own, weighted by how its query fits their keys",
    "bits per byte": "how many bits the model needs to write down one byte of text; lower is better, and it compares "
    "models with different tokenizers",
    "causal mask": "a position may look at itself and at earlier positions only",
    "embedding": "a table with one vector per token; in AFM the same table also reads out the prediction (tied)",
    "GQA": "grouped-query attention: several query heads share one key/value head, so that the KV cache is smaller",
    "KV cache": "keys and values of the tokens so far, kept so that a new token costs one step and not all of them",
    "logits": "one number per token of the vocabulary; softmax turns them into probabilities",
    "loss": "here always the mean of minus log p(right token), in nats (natural logarithm)",
    "nat": "the unit of information with the natural logarithm; 1 nat = 1.44 bits",
    "palettization": "storing each weight as an index into a small table of values (chapter 6)",
    "post-training": "everything after pre-training that turns a text predictor into an assistant (chapters 7 and 8)",
    "pre-training": "predicting the next token on a large amount of text (chapter 2)",
    "qk-norm": "RMSNorm on every query and key, so that attention logits stay small",
    "residual stream": "the vector of a position that every block reads from and adds to",
    "RMSNorm": "divides a vector by its root mean square and multiplies by a learned gain",
    "RoPE": "rotary position embedding: queries and keys are rotated by an angle that grows with their position",
    "SwiGLU": "the feed-forward layer: one projection, through a smooth gate, multiplies another",
    "token": "a piece of text, a few bytes long, with a number; the model reads and writes these numbers",
}


def show_axes() -> None:
    """Display the axis letters as a table."""
    show_table(("letter", "axis"), ((f"`{letter}`", text) for letter, text in AXES.items()))


def show_terms() -> None:
    """Display the words and their meanings as a table."""
    show_table(("word", "meaning"), ((f"**{word}**", text) for word, text in TERMS.items()))
