"""What must a judge reach for post-training to work? Reward models of graded quality, up to the truth: for chapter 10.

    python -m experiments.judges                       # call it again to resume; about 100 CPU-minutes
    NPROC=1 python -m experiments.judges --share 0 2   # every second run only, and no recording: two side by side
    python -m experiments.judges --seeds 2 --prompts 8 16 --iterations 1 --held-out 4 \\
        --folder runs/judges_smoke --models runs/judges_smoke --no-ship

Question  how do the utility of the best of n, and what a student learns from a judge, rise with the judge's accuracy?
Start     that of experiments.mdloo; its settings for MDLOO, too
Judges    reward models on the instruct model, one pass over the pairs of 80, 320, 1,250 and 5,000 prompts: simulated
          annotators on four responses of the start to each, up to four pairs a prompt; and the true utility itself.
          Rewards are scaled so that they differ within a prompt as much as utilities do on training prompts
Arms      for each judge: the best of 1 .. 16 by reward on 256 held-out prompts; and a student of MDLOO, from as many
          samples as there
Measured  accuracy: the share of pairs of held-out responses of unequal utility that the judge orders rightly; utility
          of the best of n; utility of the student on held-out prompts x 8 samples, and what the judge thought of it.
          Of one judge of 5,000 prompts also what the best of n are: their four grades by task, some texts (added when
          the best of 16 had turned out worse than one sample, to see why)
Seeds     5: a seed draws annotators, order and heads of the judge, and the student's prompts and samples
Primary   the student's gain in utility by the judge of 5,000 prompts, and by the truth
Smallest  the gain's sd over seeds is about .01 (experiments.mdloo): five seeds give a half-width of 1.24 sd
"""

from functools import cache, partial

import numpy as np

from afm_ref import assets, evaluation
from afm_ref.lora import files
from afm_ref.post_training import qualities, responses, reward_model
from afm_ref.teaching.chapters import post_training as chapter
from afm_ref.whole_road import judge as judging
from afm_ref.whole_road.recipes import TASKS

from . import _record
from . import mdloo as comparison

BEST_OF, BEST_SEED = 16, 78
TRUTH = "utility"


def arguments(line=None):
    """Return the command line's options."""
    parser, add = _record.options("judges", __doc__, "runs/mdloo")
    add("--seeds", type=int, default=5)
    add("--prompts", type=int, nargs="+", default=[80, 320, 1250, 5000], help="of each judge (default: %(default)s)")
    add("--iterations", type=int, default=8, help="of the student (default: %(default)s)")
    add("--held-out", type=int, default=128, help="held-out prompts a task (default: %(default)s)")
    return parser.parse_args(line)


class Bench(comparison.Bench):
    """That of the comparison of algorithms, with the responses that judges are measured on."""

    def __init__(self, a):
        of_comparison = comparison.arguments([f"--held-out={a.held_out}", f"--iterations={a.iterations}"])
        of_comparison.models = a.models
        super().__init__(of_comparison, judged=max(a.prompts))

    @cache  # noqa: B019
    def best_of(self):
        """Return (responses, utilities [P, 16]) of the start to the held-out prompts."""
        groups = self.sample(self.params, self.held_out, BEST_OF, BEST_SEED)
        return groups, self.judged(self.held_out, groups)


def trained(bench, prompts, seed):
    """Return a reward model after one pass over so many prompts of the start's pool."""
    return judging.trained(bench, bench.pool(0), prompts, seed)


def judge_run(bench, prompts, seed):
    """Return what a judge of so many prompts (None: the true utility) knows, and what its student learns."""
    groups, judged = bench.best_of()
    if prompts is None:
        rewards, score = judged, bench.truth(bench.prompts_of(seed))
    else:
        judge = trained(bench, prompts, seed)
        rewards = bench.score(judge, bench.held_out, groups)
        of = {record.prompt: record for record in bench.prompts_of(seed)}

        def score(asked, said):
            return bench.score(judge, [of[prompt] for prompt in asked], said)

    done = student(bench, score, seed)
    found = bench.measured(done.policy, bench.held_out, comparison.HELD_OUT)
    return {
        "prompts": prompts,
        "accuracy": round(accuracy(rewards, judged), 5),
        "best_of": curve(rewards, judged),
        "student": found,
    } | comparison.of_iterations(done.history)


def curve(rewards, judged):
    """Return the mean over prompts of the best of 1 .. 16 by rewards, of another measure; both [P, 16]."""
    best = responses.expected_best
    return [round(float(np.mean([best(r, n, of) for r, of in zip(rewards, judged)])), 5) for n in range(1, BEST_OF + 1)]


def picks_run(bench, prompts, seed):
    """Return the grades of the best of n by a judge, by task, and what it picks for the first prompts."""
    groups, judged = bench.best_of()
    rewards = bench.score(trained(bench, prompts, seed), bench.held_out, groups)
    graded = [[qualities(record, y) for y in group] for record, group in zip(bench.held_out, groups)]
    following = np.array([[grades["instruction_following"] for grades in group] for group in graded])
    kinds = {"right": judged > 0.999, "right, and more": (judged <= 0.999) & (following == 1), "wrong": following < 1}
    of_task = {task: [p for p, r in enumerate(bench.held_out) if r.task == task] for task in TASKS}
    shown = [p for rows in of_task.values() for p in rows[: comparison.SHOWN]]
    top = rewards.argmax(axis=1)
    return {
        "best_of": curve(rewards, judged),
        "rewards": {  # of all responses of a kind: number, mean and standard deviation
            task: {
                kind: [round(float(of(rewards[rows][which[rows]])), 4) for of in (np.size, np.mean, np.std)]
                for kind, which in kinds.items()
            }
            for task, rows in of_task.items()
        },
        "grades": {
            task: {
                name: curve(rewards[rows], np.array([[g[name] for g in graded[p]] for p in rows]))
                for name in graded[0][0]
            }
            for task, rows in of_task.items()
        },
        "picks": [
            {"prompt": bench.held_out[p].prompt, "reference": bench.held_out[p].reference,
             "picked": groups[p][top[p]].text, "utility": round(float(judged[p, top[p]]), 3)}
            for p in shown
        ],
    }  # fmt: skip


def accuracy(rewards, judged):
    """Return the share of pairs of responses to a prompt, of unequal utility, that rewards order as utilities do."""
    upper = np.triu_indices(rewards.shape[1], 1)
    margins, gaps = ((of[:, :, None] - of[:, None, :])[:, *upper].ravel() for of in (rewards, judged))
    return reward_model.accuracy(margins, gaps)


def student(bench, score, seed):
    """Return what MDLOO learns by a judge, with the settings of the comparison."""
    rate, gamma = assets.recording("mdloo")["numbers"]["chosen"]["mdloo"]
    return bench.learn("mdloo", rate, gamma, seed, score)


def jobs(bench, a):
    """Return {key: function} of all runs, seed by seed."""
    runs = {
        f"{prompts or TRUTH}_{seed}": partial(judge_run, bench, prompts, seed)
        for seed in range(a.seeds)
        for prompts in (*a.prompts, None)
    }
    return runs | {"picks": partial(picks_run, bench, max(a.prompts), 0)}


def verdict(numbers):
    """Return the student's gain by the largest judge, and by the truth."""
    judges = chapter.by_judge(numbers["runs"])
    (*_, most), truth = [name for name in judges if name != TRUTH], judges[TRUTH]
    told = {f"by {most} prompts a student gains": judges[most], "by the truth": truth}
    return "; ".join(
        _record.told(what, evaluation.mean_interval(chapter.gain(of, "a student of MDLOO")))
        for what, of in told.items()
    )


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.models)
    bench = Bench(a)
    runs = _record.finished(jobs(bench, a), a.folder, tuple(a.share))
    for key, run in runs.items():
        student = (
            f"accuracy {run['accuracy']:.3f}, student {run['student']['utility']['all']:.3f}"
            if "student" in run
            else ""
        )
        print(f"{key:20} best of 16 {run['best_of'][-1]:.3f} {student}")
    _record.ship("judges", a, a.seeds, runs, files.fingerprint(bench.instruct))


if __name__ == "__main__":
    main()
