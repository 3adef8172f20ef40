"""The results of a run as text: numbers with intervals, and answers after every step."""

import numpy as np

from ..evaluation import mean_interval

COLUMNS = (
    "step            utility of held-out answers        less the step before       "
    "bits/byte  bits/weight"
)


def table(results: dict) -> str:
    """Return a line for each step that has measured a model.

    Intervals, 95%, are over held-out prompts: they say how far the prompts determine a
    number, not how another seed would turn out.
    """
    lines = [COLUMNS]
    before = None
    for name, row in results["steps"].items():
        if "utility" not in row:
            continue
        values = np.array(row["by_prompt"])
        change = "" if before is None else bounds(values - before, "+.3f")
        text = "-" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.3f}"
        bits = row["bits"]
        lines.append(
            f"{name:15} {bounds(values):34} {change:26} {text:>11} {bits:12.2f}".rstrip()
        )
        before = values
    if "2_reward" in results["steps"]:
        lines.append(
            f"the reward model orders {results['steps']['2_reward']['accuracy']:.0%} of pairs as the utility does"
        )
    return "\n".join(lines)


def answers(results: dict) -> str:
    """Return the prompts that are shown, each with its answer after every step."""
    rows = {
        name: row["answers"] for name, row in results["steps"].items() if "answers" in row
    }
    blocks = []
    for i, prompt in enumerate(results["prompts"]):
        said = [f"  {name:13} {row[i]!r}" for name, row in rows.items()]
        blocks.append(
            "\n".join(
                [prompt["prompt"], f"  {'(reference)':13} {prompt['reference']!r}", *said]
            )
        )
    return "\n\n".join(blocks)


def bounds(values, form=".3f") -> str:
    """Return "mean [low, high]" of the 95% interval."""
    mean, low, high = mean_interval(values)
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"
