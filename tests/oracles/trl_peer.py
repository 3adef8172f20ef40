"""TRL's losses without its trainers: unbound methods on a stub, with a model of transformers behind them.

TRL has no loss functions of its own; its trainers compute them in methods that need little of a trainer.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

DPO_KINDS = {"dpo": "sigmoid", "ipo_mean": "ipo"}  # our name -> TRL's


def accelerator():
    return SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x, unwrap_model=lambda m: m)


def log():
    return {"_metrics": defaultdict(lambda: defaultdict(list)), "_total_train_tokens": 0}


class LogProbs:
    """A language model that answers as TRL's patched ones do: log-probabilities of the labels, 0 where one is -100."""

    training = is_gradient_checkpointing = False
    _modules: ClassVar = {}

    def __init__(self, model):
        self.model = model

    def __call__(self, input_ids, attention_mask, labels, **_):
        from trl.trainer.utils import selective_log_softmax

        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
        targets = labels[:, 1:]
        log_probs = selective_log_softmax(logits, targets.clamp(min=0)).masked_fill(targets == -100, 0)
        logged = {"entropy": log_probs, "mean_logits": logits.mean(-1), "is_top1": logits.argmax(-1) == targets}
        return SimpleNamespace(log_probs=log_probs, **logged)


def inputs_of(rows):
    """Return Padded rows, the chosen ones first, as TRL's batch."""
    import torch

    real = np.arange(rows.tokens.shape[1]) < rows.lengths[:, None]
    return {
        "input_ids": torch.as_tensor(rows.tokens.astype(np.int64)),
        "attention_mask": torch.as_tensor(real.astype(np.int64)),
        "completion_mask": torch.as_tensor(rows.response.astype(np.int64)),
    }


def dpo_loss(kind: str, beta: float, model, rows, reference) -> float:
    """Return the mean loss of DPOTrainer; reference: another model, or log-probabilities [2, B]."""
    import torch
    from trl import DPOTrainer

    inputs = inputs_of(rows)
    fixed = isinstance(reference, np.ndarray)
    if fixed:
        inputs |= dict(zip(("ref_chosen_logps", "ref_rejected_logps"), map(torch.as_tensor, reference)))
    stub = SimpleNamespace(
        model=LogProbs(model), ref_model=None if fixed else LogProbs(reference), accelerator=accelerator(),
        aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=fixed, f_divergence_type="reverse_kl", beta=beta,
        loss_types=[DPO_KINDS[kind]], loss_weights=[1.0], label_smoothing=0.0, use_weighting=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None), **log(),
    )  # fmt: skip
    with torch.no_grad():
        return float(DPOTrainer._compute_loss(stub, stub.model, inputs, return_outputs=False))


def reward_loss(model, rows) -> float:
    """Return the mean loss of RewardTrainer for a sequence classifier."""
    import torch
    from trl import RewardTrainer

    inputs = inputs_of(rows)
    del inputs["completion_mask"]

    def classify(input_ids, attention_mask, **_):
        return model(input_ids=input_ids, attention_mask=attention_mask)

    stub = SimpleNamespace(
        model=SimpleNamespace(training=False), args=SimpleNamespace(center_rewards_coefficient=None),
        accelerator=accelerator(), **log(),
    )  # fmt: skip
    with torch.no_grad():
        return float(RewardTrainer.compute_loss(stub, classify, inputs))


def classifier(language_model, head):
    """Return transformers' sequence classifier on the weights of a Qwen3, with our preference head [D]."""
    import torch
    import transformers

    config = language_model.config
    config.num_labels, config.pad_token_id = 1, 0
    model = transformers.Qwen3ForSequenceClassification(config).to(language_model.dtype).eval()
    model.model = language_model.model
    model.score.weight.data = torch.as_tensor(head[None]).to(language_model.dtype)
    return model
