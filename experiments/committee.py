"""Does the best per prompt of a committee of different teachers teach more than its best teacher? For chapter 10.

    python -m experiments.committee                       # call it again to resume; about 2 CPU-hours
    NPROC=1 python -m experiments.committee --share 0 2   # every second run only, and no recording: two side by side
    python -m experiments.committee --seeds 2 --prompts 8 --held-out 4 --steps 2 --iterations 1 \\
        --folder runs/committee_smoke --models runs/committee_smoke --no-ship

Question  at equal samples, does a student learn more from the best per prompt of a committee than from its best
          teacher?
Start     that of experiments.mdloo
Members   all from the start, and made to differ: a verifier's (MDLOO on questions alone, 1 for an answer that is wholly
          right, else 0), rejection sampling (the best of 8 by the judge, on summaries alone), DPO on pairs of both
          tasks, MDLOO by the judge on both, half as long
Arms      students by SFT on one answer to each of 512 prompts: the best by the judge of 3 samples of each of the 4
          members (committee); of 12 of the best teacher, chosen by the judge on validation prompts; of 12 of a member
          drawn for each prompt (mixed); and of 24 of the best teacher (more samples)
Judges    the true utility, 5 seeds; the reward model of 5,000 prompts of experiments.judges, 3 seeds
Measured  the students' true utility on 300 held-out prompts x 8 samples
Seeds     paired: a seed draws all prompts, samples, annotators and orders
Primary   committee less best teacher, by the true utility, 95% t-interval over 5 seeds
Smallest  1.24 sd for the half-width, (2.78 + .94) sd / sqrt(5) = 1.66 sd with 80% power; the sd is about .01
          (experiments.mdloo)
"""

from functools import partial

import numpy as np

from afm_ref import assets
from afm_ref.data import tasks
from afm_ref.lora import files
from afm_ref.post_training import losses, preferences, sft, utility
from afm_ref.post_training.responses import rejection_sample
from afm_ref.teaching.chapters import post_training as chapter
from afm_ref.training import fit
from afm_ref.whole_road.recipes import ROW, adam, afm

from . import _record, judges
from . import mdloo as comparison

EACH, TOGETHER, MORE, REJECTED, COMPARED = 3, 12, 24, 8, 4  # samples a prompt
STUDENT_RATE, DPO_RATE, DPO_BETA = 5e-4, 3e-4, 0.1
PROMPTS_SEED, VALIDATION = 700, 64  # prompts a task
JUDGES = {"utility": 5, "reward model": 3}  # seeds of each


def arguments(line=None):
    """Return the command line's options."""
    parser, add = _record.options("committee", __doc__, "runs/mdloo")
    add("--seeds", type=int, default=5, help="at most, of each judge (default: %(default)s)")
    add("--prompts", type=int, default=256, help="a task (default: %(default)s)")
    add("--held-out", type=int, default=150, help="held-out prompts a task (default: %(default)s)")
    add("--steps", type=int, default=200, help="of students, of rejection sampling and of DPO (default: %(default)s)")
    add("--iterations", type=int, default=8, help="of the verifier's member (default: %(default)s)")
    return parser.parse_args(line)


class Teaching:
    """One seed by one judge: its prompts, its members and what they say."""

    def __init__(self, bench, a, judge, seed):
        self.bench, self.a, self.seed = bench, a, seed
        self.records = bench.records(a.prompts, PROMPTS_SEED + seed)
        self.score = bench.judged if judge == "utility" else partial(bench.score, judges.trained(bench, 5000, seed))

    def tuned(self, examples):
        """Return the start after SFT on (prompt, response) examples."""
        b, steps = self.bench, self.a.steps
        return sft.fine_tune(b.params, b.cfg, b.tok, examples, afm(STUDENT_RATE, steps), steps, batch_size=8,
                             seed=self.seed, progress=False).params  # fmt: skip

    def best(self, records, groups):
        """Return (prompt, the response that the judge likes best) of each record."""
        return rejection_sample([r.prompt for r in records], groups, self.score(records, groups))

    def online(self, records, iterations, score):
        """Return the start after MDLOO on these records."""
        rate, gamma = assets.recording("mdloo")["numbers"]["chosen"]["mdloo"]
        of = {record.prompt: record for record in records}

        def reward(prompts, groups):
            return score([of[prompt] for prompt in prompts], groups)

        return self.bench.learn("mdloo", rate, gamma, self.seed, reward, records, iterations).policy

    def members(self):
        """Return {name: policy} of the committee."""
        b, a = self.bench, self.a
        count = a.iterations * b.a.prompts
        questions = b.records(count, PROMPTS_SEED + 50 + self.seed, only=("answer",))
        summaries = [record for record in self.records if record.task == "summarise"]
        both = b.records(count // 4, PROMPTS_SEED + 100 + self.seed)
        return {
            "verifier": self.online(questions, a.iterations, verified),
            "rejection sampling": self.tuned(self.best(summaries, b.sample(b.params, summaries, REJECTED, self.seed))),
            "DPO": self.dpo(),
            "MDLOO": self.online(both, max(1, a.iterations // 2), self.score),
        }

    def dpo(self):
        """Return the start after DPO on annotators' pairs of its own responses."""
        b = self.bench
        found = preferences.collect(
            self.records, b.sample(b.params, self.records, COMPARED, self.seed), seed=self.seed, pairs=2
        )
        pairs = losses.with_reference(losses.pairs_of(found, b.tok, ROW), b.params, b.cfg)
        loss = partial(losses.preference_loss, cfg=b.cfg, kind="dpo", beta=DPO_BETA)
        feed = losses.pair_batches(pairs, 8, self.seed)
        return fit(b.params, loss, feed, adam(DPO_RATE, self.a.steps), self.a.steps, progress=False).params

    def taught(self, members):
        """Return (the best teacher's name, what the judge thinks of each, {arm: examples})."""
        b, records = self.bench, self.records
        worth = {
            name: float(np.mean(self.score(b.validation, b.sample(p, b.validation, COMPARED, 12))))
            for name, p in members.items()
        }
        best = max(worth, key=worth.get)
        said = {
            name: b.sample(p, records, MORE if name == best else TOGETHER, 100 + self.seed)
            for name, p in members.items()
        }
        drawn = np.random.default_rng((self.seed, 3)).choice(list(members), len(records))
        groups = {
            "committee": [[y for name in members for y in said[name][p][:EACH]] for p in range(len(records))],
            "best teacher": [group[:TOGETHER] for group in said[best]],
            "mixed": [said[name][p][:TOGETHER] for p, name in enumerate(drawn)],
            "more samples": said[best],
        }
        return best, worth, {arm: self.best(records, of) for arm, of in groups.items()}


def verified(records, groups):
    """Return 1 for a response that is wholly right, else 0: [P, n]."""
    return [[float(tasks.success(record, y.text)) for y in group] for record, group in zip(records, groups)]


def run(bench, a, judge, seed):
    """Return members' and students' true utility on held-out prompts, and that of what they were taught."""
    teaching = Teaching(bench, a, judge, seed)
    members = teaching.members()
    best, worth, examples = teaching.taught(members)
    measure = partial(bench.measured, of=bench.held_out, n=comparison.HELD_OUT)
    chosen = {
        arm: float(np.mean([utility(r, y) for r, (_, y) in zip(teaching.records, of)])) for arm, of in examples.items()
    }
    return {
        "best_teacher": best,
        "judged": worth,
        "members": {name: measure(policy)["utility"] for name, policy in members.items()},
        "taught": {arm: round(x, 5) for arm, x in chosen.items()},
        "students": {arm: measure(teaching.tuned(of)) for arm, of in examples.items()},
    }


def jobs(bench, a):
    """Return {key: function} of all runs, seed by seed."""
    runs = {"start": lambda: bench.measured(bench.params, bench.held_out, comparison.HELD_OUT)}
    return runs | {
        f"{judge}_{seed}": partial(run, bench, a, judge, seed)
        for judge, seeds in JUDGES.items()
        for seed in range(min(seeds, a.seeds))
    }


def verdict(numbers):
    """Return the committee's lead over its best teacher, by both judges."""
    return "; ".join(
        _record.told(
            f"committee less best teacher by {judge}", chapter.committee_leads(numbers["runs"], judge)["best teacher"]
        )
        for judge in JUDGES
    )


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.models)
    bench = judges.Bench(
        judges.arguments([f"--held-out={a.held_out}", f"--iterations={a.iterations}", f"--models={a.models}"])
    )
    bench.validation = bench.records(VALIDATION, comparison.VALIDATION_SEED)
    runs = _record.finished(jobs(bench, a), a.folder, tuple(a.share))
    for key, found in runs.items():
        students = {arm: round(s["utility"]["all"], 4) for arm, s in found.get("students", {}).items()}
        print(key, students or found["utility"])
    _record.ship("committee", a, a.seeds, runs, files.fingerprint(bench.instruct))


if __name__ == "__main__":
    main()
