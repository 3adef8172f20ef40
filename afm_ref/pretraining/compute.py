"""What pre-training costs: steps, FLOPs, the share of the peak that is used, chip-hours;
here, and in Apple's run.
"""

from typing import NamedTuple

from ..config import AFM_ON_DEVICE, TPU_PEAK_FLOPS, parameters, train_flops_per_token

# AXLearn's public step times of its 3B model, 2048 rows of 4096 tokens a step: {chips of
# v5p: seconds} [inferred]
AXLEARN_STEP_S = {512: 1.48, 1024: 0.80, 2048: 0.47}
AXLEARN_ROWS, AXLEARN_SEQ_LEN = 2048, 4096
# pruned to AFM-on-device [confirmed], and its teacher [single account]
PARENT_PARAMETERS = 6.4e9
SERVER_MFU = 0.52  # of one account alone


def step_count(tokens: float, rows: int, seq_len: int) -> int:
    """Return how many steps of rows x seq_len tokens those tokens are, to the nearest:
    6.3e12, 4096, 4096 -> 375,509.

    Source: TR24 section 3.2 (tokens, windows, the server's 4096 rows) [confirmed]; the
        division [standard].
    Test: tests/pretraining/test_stages.py::test_steps_of_the_three_stages
    """
    return round(tokens / (rows * seq_len))


def training_flops(n_parameters: float, tokens: float) -> float:
    """Return the FLOPs of training without attention's scores: 6 N D, of which a forward
    pass is a third.

    Source: Kaplan et al. 2020 section 2.1 [standard].
    Test: tests/pretraining/test_stages.py::test_flops_of_the_on_device_core_stage
    """
    return 6.0 * n_parameters * tokens


def forward_flops(n_parameters: float, tokens: float) -> float:
    """Return the FLOPs of a forward pass without attention's scores: 2 N D. That is what a
    teacher adds.

    Source: Kaplan et al. 2020 section 2.1 [standard].
    Test: tests/pretraining/test_stages.py::test_flops_of_the_on_device_core_stage
    """
    return 2.0 * n_parameters * tokens


def mfu(
    tokens_per_step: float,
    flops_per_token: float,
    step_s: float,
    chips: int,
    peak_flops: float,
) -> float:
    """Return the model FLOPs utilisation: the share of the peak that goes into the model's
    own products.

        MFU = tokens_per_step * flops_per_token / (step_s * chips * peak_flops)

    What is computed twice to save memory does not count.

    Source: Chowdhery et al. 2022 appendix B [standard].
    Test: tests/pretraining/test_stages.py::test_axlearns_step_times
    """
    return tokens_per_step * flops_per_token / (step_s * chips * peak_flops)


def axlearn_mfu(chips: int, attention: bool = True) -> float:
    """Return the MFU of AXLearn's public 3B step time on so many v5p chips, with
    attention's FLOPs or by 6 N alone.

    Source: AXLearn honeycrisp (step times, batch); v5p's peak of 459 TFLOP/s [inferred].
    Test: tests/pretraining/test_stages.py::test_axlearns_step_times
    """
    tokens = AXLEARN_ROWS * AXLEARN_SEQ_LEN
    per_token = training_flops(parameters(AFM_ON_DEVICE)["total"], 1)
    if attention:
        per_token = train_flops_per_token(AFM_ON_DEVICE, AXLEARN_SEQ_LEN)
    return mfu(tokens, per_token, AXLEARN_STEP_S[chips], chips, TPU_PEAK_FLOPS["v5p"])


class Bill(NamedTuple):
    """What a run takes on given chips."""

    flops: float
    cluster_flops: float  # a second, what is used of the peak
    days: float
    chip_hours: float


def bill(flops: float, chips: int, chip: str, used: float) -> Bill:
    """Return days and chip-hours of so many FLOPs on chips of which a share `used` of the
    peak goes into the model.

        seconds = flops / (chips * peak * used),   chip-hours = chips * seconds / 3600

    chip: a key of TPU_PEAK_FLOPS, such as "v5p". Interruptions are not counted.

    Source: TR24 section 3.2 (8192 v4 chips for the server, 2048 v5p on-device) [confirmed];
        arithmetic [standard].
    Test: tests/pretraining/test_stages.py::test_days_by_hand
    """
    if chip not in TPU_PEAK_FLOPS or not 0 < used <= 1:
        raise ValueError(
            f"chip must be one of {sorted(TPU_PEAK_FLOPS)} and used a share of the peak, got {chip!r} and {used}"
        )
    cluster = chips * TPU_PEAK_FLOPS[chip] * used
    return Bill(flops, cluster, flops / cluster / 86_400, chips * flops / cluster / 3600)


def on_device_core(used: float, teacher: float = PARENT_PARAMETERS) -> Bill:
    """Return the bill of AFM-on-device's core stage: 6 N D for it, and 2 N D for its
    teacher's forward passes.

    Pruning's 188B tokens and the parent's own training are not in it. The server's
    dimensions are not stated, so there is no such bill for the server: only what its
    cluster did a second, `bill(1, 8192, "v4", 0.52).cluster_flops`.

    Source: TR24 section 3.2 (6.3T tokens, distilled) [confirmed]; the parent as teacher,
        one account [inferred].
    Test: tests/pretraining/test_stages.py::test_flops_of_the_on_device_core_stage
    """
    tokens = 6.3e12
    student = training_flops(parameters(AFM_ON_DEVICE)["total"], tokens)
    return bill(student + forward_flops(teacher, tokens), 2048, "v5p", used)
