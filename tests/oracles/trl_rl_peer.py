"""TRL's online trainers without their loops: RLOO from sampled responses to its loss, and GRPO's loss.

They are given policies near one another: far apart, every ratio would be clipped.
"""

import contextlib
from collections import defaultdict
from types import MethodType, SimpleNamespace

import numpy as np

from afm_ref.interop import hugging_face
from tests.interop.models import map_weights, random_params
from tests.oracles import peers
from tests.oracles.trl_peer import LogProbs, accelerator, log

P, n = 3, 4  # prompts, responses to each
BETA, EPSILON = 0.15, 0.2


def nearby(cfg, params=None, size: float = 0.03):
    """Return (present, old, reference): float32 weights, and the same with a little noise."""
    present = random_params(cfg, 0) if params is None else params
    rng = np.random.default_rng(9)

    def noisy(w):
        return (w + size * rng.standard_normal(w.shape) * np.std(w)).astype(np.float32)

    return present, map_weights(noisy, present), map_weights(noisy, present)


def transformers_model(params, cfg, folder):
    """Return transformers' model with these weights in float64; call it within peers.exact_torch."""
    hugging_face.save(folder, params, cfg)
    return peers.read(folder).double().eval()


def _stub(trainer, epsilon, beta, **fields):
    """Return what the trainer's methods look up on themselves."""
    device = accelerator()
    device.autocast, device.reduce = contextlib.nullcontext, lambda x, reduction: x
    device.process_index, device.num_processes, device.is_main_process = 0, 1, False
    args = SimpleNamespace(
        gradient_checkpointing_kwargs=None, per_device_eval_batch_size=None, report_to=[], delta=None,
        use_bias_correction_kl=False,
    )  # fmt: skip
    stub = SimpleNamespace(
        accelerator=device, args=args, aux_loss_enabled=False, beta=beta, epsilon_low=epsilon, epsilon_high=epsilon,
        **log(), **fields,
    )  # fmt: skip
    stub._get_per_token_logps_and_entropies = MethodType(trainer._get_per_token_logps_and_entropies, stub)
    return stub


def rloo(model, old, reference, rows, rewards, beta: float, epsilon: float):
    """Return (advantages [B], mean loss) of RLOOTrainer, which masks, pads and takes log-probabilities itself.

    old sampled the rows (its own padding is left of the prompts, ours right of the responses); rewards: [P, n].
    """
    import torch
    from trl import RLOOTrainer

    starts = rows.response.argmax(axis=1)
    pieces = [(t[:s].tolist(), t[s:n].tolist()) for t, s, n in zip(rows.tokens, starts, rows.lengths)]
    n = rewards.shape[1]
    logs = {"prompt": [], "completion": [], "advantages": [], "rewards": defaultdict(list), "extra": defaultdict(list)}
    stub = _stub(
        RLOOTrainer, epsilon, beta, model=LogProbs(old), ref_model=LogProbs(reference), num_generations=n,
        num_generations_eval=n, _generate=lambda prompts: (*map(list, zip(*pieces)), ["" for _ in pieces]),
        _calculate_rewards=lambda *_: torch.as_tensor(rewards.reshape(-1, 1)), reward_func_names=["r"],
        reward_weights=torch.ones(1, dtype=torch.float64), reward_clip_range=None, normalize_advantages=False,
        mask_truncated_completions=False, pad_to_multiple_of=None, _tokenizer=SimpleNamespace(pad_token_id=0),
        _logs=logs, _pending_extra_logs=defaultdict(list), _pending_metrics=defaultdict(list),
    )  # fmt: skip
    with torch.no_grad():
        inputs = RLOOTrainer._generate_and_score_completions(stub, [{"prompt": ""} for _ in pieces])
        loss = RLOOTrainer._compute_loss(stub, LogProbs(model), inputs)
    return inputs["advantages"].numpy(), float(loss)


def grpo_loss(model, rows, old, reference, advantages, beta: float, epsilon: float) -> float:
    """Return the mean loss of GRPOTrainer (loss_type "grpo"); old, reference: [B, T-1], advantages: [B]."""
    import torch
    from trl import GRPOTrainer

    real = (np.arange(rows.tokens.shape[1]) < rows.lengths[:, None]).astype(np.int64)
    tokens = torch.as_tensor(rows.tokens.astype(np.int64))
    inputs = {  # the whole row but its first token as the completion, masked: prompts of any length in one batch
        "prompt_ids": tokens[:, :1], "prompt_mask": torch.as_tensor(real[:, :1]), "completion_ids": tokens[:, 1:],
        "completion_mask": torch.as_tensor(real[:, 1:]), "tool_mask": torch.as_tensor(rows.response[:, 1:]).long(),
        "old_per_token_logps": torch.as_tensor(old), "ref_per_token_logps": torch.as_tensor(reference),
        "advantages": torch.as_tensor(advantages),
    }  # fmt: skip
    stub = _stub(
        GRPOTrainer, epsilon, beta, model=LogProbs(model), top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level="token", loss_type="grpo", use_vllm=False, _entropy_bonus_enabled=False,
    )  # fmt: skip
    with torch.no_grad():
        return float(GRPOTrainer._compute_loss(stub, stub.model, inputs))


def group_std(rewards):
    """Return TRL's standard deviation of each group: [P]."""
    import torch
    from trl.trainer.utils import nanstd

    return nanstd(torch.as_tensor(rewards), dim=1).numpy()
