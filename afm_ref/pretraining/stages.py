"""Pre-training in three stages: core, continued, context lengthening. A stage is data, and
`run` runs them in order.

What changes between stages: the window, the mixture, learning rate and decay, and at the
last the base of RoPE. What does not: the weights, which are handed on as they are.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..config import AFMConfig
from ..data.mixing import mix
from ..losses import next_token
from ..training import fit
from .long_context import rope_base
from .mup import mup_scales
from .optimizer import afm_optimizer, warmup_cosine

NAMES = ("core", "continued", "lengthening")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of pre-training; `weights` is its mixture {part: weight}, empty where it is
    not known.

    The learning rate rises linearly over warmup_steps and falls along a cosine to `final`
    of its peak.

    Source: TR24 section 3.2 (three stages) [confirmed].
    Test: tests/pretraining/test_stages.py::test_a_stage_changes_what_it_should_and_nothing_else
    """

    name: str
    steps: int
    seq_len: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final: float
    weight_decay: float
    rope_theta: float
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in ("steps", "seq_len", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"stage {self.name}: {name} is {getattr(self, name)}, give at least 1"
                )
        self.schedule  # noqa: B018 - refuses a bad warm-up

    @property
    def tokens(self) -> int:
        """Tokens that the stage trains on."""
        return self.steps * self.batch_size * self.seq_len

    @property
    def schedule(self):
        """The factor of the learning rate and of the decay, a function of the stage's own
        step.
        """
        return warmup_cosine(self.warmup_steps, self.steps, self.final)

    def config(self, cfg: AFMConfig) -> AFMConfig:
        """Return the model of this stage: cfg with its RoPE base."""
        return dataclasses.replace(cfg, rope_theta=float(self.rope_theta))


def apple_stages() -> tuple[Stage, Stage, Stage]:
    """Return the stages of AFM-server as published.

    375,509 steps of 4096 rows and 4096 tokens, 29,802 of 8192, 745 of 32,768. The mixtures
    are not stated, nor are the later stages' rows and the last one's rate, warm-up, end and
    decay.

    Source: TR24 section 3.2; steps follow from tokens, rows and window [confirmed].
    Test: tests/pretraining/test_stages.py::test_apple_stages_hold_the_published_numbers
    """
    # 4096 rows in all stages, and the last one's rate, end and decay as in the second: ours
    core = Stage("core", 375_509, 4096, 4096, 0.01, 5000, 0.005, 3.16e-4, 500_000)
    continued = Stage("continued", 29_802, 8192, 4096, 3e-4, 1000, 0.001, 1e-5, 500_000)
    lengthening = Stage("lengthening", 745, 32_768, 4096, 3e-4, 0, 0.001, 1e-5, 6_315_089)
    return core, continued, lengthening


APPLE_TOKENS = {"core": 6.3e12, "continued": 1e12, "lengthening": 100e9}


def tiny_stages(
    mixtures: Mapping[str, Mapping[str, float]],
    steps: Mapping[str, int] | None = None,
    seq_len: int = 128,
    batch_size: int = 16,
    learning_rate: float = 0.006,
    rope_theta: float = 500_000.0,
    change_base: bool = True,
) -> tuple[Stage, Stage, Stage]:
    """Return Apple's stages in miniature: windows 1 : 2 : 8, rates 1 : 0.03 : 0.03, finals,
    decay.

    mixtures: {stage name: {part: weight}}. steps: {stage name: steps}, by default 70 : 20 :
    10 of 600 (ours: by Apple's tokens the last would be under 2%). The tokens of a step
    stay about the same (ours): rows fall as windows grow. Warm-up is a twentieth of each
    stage (ours). change_base False leaves RoPE as it is in the last stage.

    Source: TR24 section 3.2 (the ratios) [confirmed].
    Test: tests/pretraining/test_stages.py::test_the_miniature_has_apples_ratios
    """
    steps = {"core": 420, "continued": 120, "lengthening": 60} if steps is None else steps
    stages = []
    for name, apple in zip(NAMES, apple_stages()):
        times = apple.seq_len // 4096
        base = (
            rope_base(rope_theta, 2 * seq_len, 8 * seq_len)
            if name == "lengthening" and change_base
            else rope_theta
        )
        stages.append(
            Stage(
                name, steps[name], times * seq_len, max(1, batch_size // times),
                learning_rate * apple.learning_rate / 0.01, steps[name] // 20, apple.final, apple.weight_decay, base,
                dict(mixtures[name]),
            )
        )  # fmt: skip
    return tuple(stages)


class Pretrained(NamedTuple):
    """What `run` returns: the weights, the model of the last stage, {stage: history}, the
    optimizer's last state.
    """

    params: Any
    cfg: AFMConfig
    histories: dict
    optimizer_state: Any


def run(
    params,
    cfg: AFMConfig,
    stages: Sequence[Stage],
    rows: Callable[[int], Mapping],
    seed: int = 0,
    *,
    loss: Callable = lambda stage, cfg: partial(next_token, cfg=cfg),
    batches: Callable = lambda stage, cfg, drawn: drawn,
    optimizer: str = "fresh",
    evaluate: Callable = lambda stage, cfg: None,
    checkpoint=None,
    announce: Callable = lambda stage: None,
    **options,
) -> Pretrained:
    """Return the model after all stages, each trained by `fit` on its own mixture and
    schedule.

    rows(seq_len) -> {part: Packed}. loss(stage, cfg) -> a loss, by default the next
    token's. batches(stage, cfg, drawn) -> others in their place, such as
    `distillation.taught`. evaluate(stage, cfg) -> fit's. announce(stage) is called before
    each. optimizer: "fresh" moments in each stage, or "carried" on; what Apple did is not
    stated. checkpoint, a folder, has one of fit's for each stage: the same call continues
    anywhere, bit for bit. options go to fit. Raises ValueError for stages without names of
    their own.

    Source: TR24 section 3.2 (the stages) [confirmed].
    Test: tests/pretraining/test_stages.py::test_stopped_anywhere_continues_to_the_same_numbers,
        tests/pretraining/test_stages.py::test_a_stage_changes_what_it_should_and_nothing_else
    """
    _check_run(stages, optimizer)
    histories, state = {}, None
    for number, stage in enumerate(stages):
        announce(stage)
        cfg = stage.config(cfg)
        of_stage = (seed, zlib.crc32(stage.name.encode()))
        drawn = mix(rows(stage.seq_len), stage.weights, stage.batch_size, of_stage)
        carried = state if optimizer == "carried" else None
        params, histories[stage.name], state = fit(
            params,
            loss(stage, cfg),
            batches(stage, cfg, drawn),
            _optimizer(stage, cfg, 0 if carried is None else int(carried.count)),
            stage.steps,
            optimizer_state=carried,
            evaluate=evaluate(stage, cfg),
            checkpoint=None
            if checkpoint is None
            else Path(checkpoint) / f"{number}_{stage.name}",
            settings={"stage": dataclasses.asdict(stage), "rope_theta": cfg.rope_theta},
            **options,
        )
    return Pretrained(params, cfg, histories, state)


def delayed(schedule: Callable, steps: int) -> Callable:
    """Return the schedule begun after `steps` steps, for an optimizer whose count is
    carried on.
    """
    return lambda step: schedule(step - steps)


def _optimizer(stage, cfg, steps_before):
    schedule = delayed(stage.schedule, steps_before)
    return afm_optimizer(
        stage.learning_rate, schedule, stage.weight_decay, update_scale=mup_scales(cfg)
    )


def _check_run(stages, optimizer):
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"run needs stages, each of its own name, got {names}")
    if optimizer not in ("fresh", "carried"):
        raise ValueError(f"optimizer must be 'fresh' or 'carried', got {optimizer!r}")
