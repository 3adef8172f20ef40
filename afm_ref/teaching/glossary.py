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

# One glyph, one meaning, in all chapters. Italic capitals are the axes; matrices are bold; sets,
# losses and other things of their own have their own alphabets. A count is an n that says of what.
SYMBOLS = AXES | {
    r"\mathbf W": "matrix of weights, [out, in]",
    r"\mathbf A": "LoRA's matrix that reads, [R, in]",
    r"\mathbf B": "LoRA's matrix that writes, [out, R]",
    r"\mathbf C": "triangular factor of a matrix's inverse (Cholesky)",
    r"\mathbf F": "Fisher information of a matrix's weights",
    r"\mathbf G": "gradient of the loss with respect to a matrix",
    r"\mathbf H": "second moments of a matrix's inputs",
    r"\mathbf I": "identity",
    r"\mathbf M": "any matrix",
    r"\mathbf Q": "matrix that stands for another in few bits",
    r"\mathbf R": "rotation of RoPE",
    r"\mathbf S": "mirror: the sign of a pair's second channel flips",
    r"\mathbf U": "left singular vectors, one a column",
    r"\mathbf V": "right singular vectors, one a column",
    r"\mathbf X": "inputs of a matrix, one a row",
    r"\mathbf Y": "outputs of a matrix, one a row",
    r"\mathbf \Sigma": "diagonal matrix of singular values",
    r"\mathbb E": "expectation, mean over what is drawn",
    r"\mathbb R": "real numbers",
    r"\mathcal A": "set of shingles of one document",
    r"\mathcal B": "set of shingles of another document",
    r"\mathcal D": "data set",
    r"\mathcal E": "squared error of a palette",
    r"\mathcal L": "loss, the mean over tokens",
    r"\mathcal N": "normal distribution",
    r"\mathcal Z": "sum of the exponentials of all logits",
    r"\Delta": "change of what follows",
    r"\alpha": "LoRA's scale, divided by the rank",
    r"\beta": "weight of the KL penalty",
    r"\gamma": "weight of MDLOO's trust region",
    r"\delta": "small change, as of a finite difference",
    r"\epsilon": "small number that guards a division",
    r"\zeta": "weight of the z-loss",
    r"\eta": "learning rate at its peak",
    r"\theta": "base of RoPE",
    r"\kappa": "cut: the score from which soft top-k keeps a channel whole",
    r"\lambda": "weight decay",
    r"\mu": "price of a constraint (Lagrange multiplier)",
    r"\nu": "softness of soft top-k",
    r"\pi": "policy, a model's distribution over responses; in 2π the number",
    r"\rho": "ratio of two policies' probabilities",
    r"\sigma": "singular value",
    r"\tau": "step of training",
    r"\phi": "time of a flow, from noise to picture",
    r"\omega": "angle by which RoPE turns a pair of channels from token to token",
    "a": "attention weight",
    "b": "memory of a moving average",
    "c": "largest size that a clip lets through",
    "e": "which adapter, or which expert",
    "f": "schedule: share of the peak rate at a step",
    "g": "gradient of the loss",
    "h": "hidden vector",
    "i": "running index",
    "j": "second running index",
    "k": "key vector",
    "\\ell": "loss of one token or example",
    "m": "mask: share of a channel that is kept",
    "n": "count; its index says of what",
    "p": "probability",
    "q": "query vector",
    "r": "reward",
    "s": "score: of a pair, a document, a channel",
    "t": "position in a sequence that asks",
    "u": "update before the learning rate",
    "v": "value vector",
    "w": "one weight, or a vector of them",
    "x": "what goes in: a vector, a prompt",
    "y": "what comes out: a vector, a response",
    "z": "logit",
}

TERMS = {
    "adapter": "a small set of extra weights, trained for one feature while the base model stays frozen (chapter 8)",
    "attention": "a position averages the values of positions up to its own, weighted by how its query fits their keys",
    "batch": "the pieces of text that one training step looks at together",
    "bits per byte": "how many bits the model needs to write down one byte of text; lower is better, and it compares "
    "models with different tokenizers",
    "causal mask": "a position may look at itself and at earlier positions only",
    "embedding": "a table with one vector per token; in AFM the same table also reads out the prediction (tied)",
    "gradient": "for every weight, by how much the loss would change if that weight grew a little",
    "held out": "kept away from training, to test on: a good loss there was learned, not memorised",
    "KV cache": "keys and values of the tokens so far, kept so that a new token costs one step and not all of them",
    "language model": "a function from a text to a probability for every token that may come next",
    "learning rate": "how far a training step moves the weights; its schedule says how that changes from step to step",
    "logits": "one number per token of the vocabulary; softmax turns them into probabilities",
    "loss": "minus log p(right token), in nats (natural logarithm); of a text or a batch, the mean over its tokens",
    "nat": "the unit of information with the natural logarithm; 1 nat = 1.44 bits",
    "optimizer": "the rule that turns a gradient into a change of the weights (chapter 3)",
    "palettization": "storing each weight as an index into a small table of values (chapter 9)",
    "post-training": "everything after pre-training that turns a text predictor into an assistant (chapters 10 and 11)",
    "pre-training": "predicting the next token on a large amount of text (chapters 2 to 5)",
    "residual stream": "the vector of a position that every block reads from and adds to",
    "RMSNorm": "divides a vector by its root mean square and multiplies by a learned gain",
    "softmax": "turns logits into probabilities: exponentials, divided by their sum",
    "temperature": "divides the logits before the softmax: below 1 the likeliest tokens gain, above 1 they lose",
    "token": "a piece of text, a few bytes long, with a number; the model reads and writes these numbers",
    "weight": "a number inside the model that training changes (also: parameter); the large models have billions",
}


def show_axes() -> None:
    """Display the axis letters as a table."""
    show_table(("letter", "axis"), ((f"`{letter}`", text) for letter, text in AXES.items()))


def show_symbols(*glyphs: str) -> None:
    r"""Display a chapter's table of symbols, as show_symbols("T", r"\mathbf W").

    KeyError: a glyph that the course does not have.
    """
    show_table(("symbol", "meaning"), ((f"${glyph}$", SYMBOLS[glyph]) for glyph in glyphs))


def show_terms() -> None:
    """Display the words and their meanings as a table."""
    show_table(("word", "meaning"), ((f"**{word}**", text) for word, text in TERMS.items()))
