"""MDLOO, PPO, RLOO, GRPO and REINFORCE at equal samples and equal tries: the numbers of chapter 11.

    python -m experiments.mdloo                       # call it again to resume; about 4 CPU-hours
    NPROC=1 python -m experiments.mdloo --share 0 2   # every second run only, and no recording: two side by side
    python -m experiments.mdloo --seeds 2 --iterations 1 --prompts 8 --try-rates 1 --held-out 4 --critic-steps 2 \\
        --folder runs/mdloo_smoke --models runs/mdloo_smoke --no-ship

Question  does MDLOO gain on prompts that it has not learnt from, and more than PPO?
Arms      MDLOO, PPO, RLOO, GRPO and REINFORCE
Start     one for all: the instruct model fine-tuned on answers of mixed quality (`Bench.student`), the reference, too.
          PPO's critic has learnt for 100 steps from it, on samples that are not counted
Judge     the true utility: how well a reward model serves is chapter 10's question
Samples   8 iterations of 64 new prompts x 4 responses: 512 distinct prompts, each seen once. 8 steps an iteration, each
          on a quarter of its prompts: every response is used twice
Measured  at the start and at the end: 256 held-out prompts x 8 samples, the same random numbers for all
Tries     8 for each algorithm: 4 rates x 2 trust regions (REINFORCE, which has none: 8 rates), on one seed of its own,
          by the utility on 128 validation prompts x 4 samples
Seeds     8, paired: a seed draws the prompts, their order and the samples
Primary   MDLOO less PPO, twice, 97.5% t-intervals over seeds: the utility at the end, and how soon it comes: the mean
          reward of iterations 2 to 4, whose prompts are new, too (added after the tries of these two, before any main
          run: both end near what the model can do at all, 0.95, so the end alone could hide a difference)
Others    the same of MDLOO less RLOO, GRPO and REINFORCE: simultaneous, 99.17% each
Smallest  (2.36 + 0.90) sd / sqrt(8) = 1.15 sd with 80% power. The sd of a lead over seeds was .02 to .04 in the
          recording before, with one sample of each of 120 prompts: .023 to .046 can be seen; with 2,048 samples, less
"""

from functools import cache, partial

import numpy as np

from afm_ref import assets, evaluation, rlhf
from afm_ref.data import tasks
from afm_ref.lora import files
from afm_ref.post_training import utility
from afm_ref.teaching.chapters import rlhf as chapter
from afm_ref.whole_road.bench import Bench as Road
from afm_ref.whole_road.bench import BenchSizes
from afm_ref.whole_road.recipes import NEW_TOKENS, ROW, SAMPLE_ROWS, TASKS, adam

from . import _record

ALGORITHMS = ("mdloo", "ppo", "rloo", "grpo", "reinforce")
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
TRUST = {  # what each calls its trust region, and two sizes of it
    "mdloo": ("gamma", (0.1, 0.5)),
    "ppo": ("epsilon", (0.1, 0.3)),
    "rloo": ("epsilon", (0.2, 1.0)),
    "grpo": ("epsilon", (0.1, 0.3)),
}
BETWEEN = tuple(3**0.5 * rate for rate in RATES)  # REINFORCE's other four
SETTINGS = dict(n=4, inner_steps=8, parts=4, beta=0.01, max_new_tokens=NEW_TOKENS, row_length=ROW)
VALIDATION, HELD_OUT = (128, 4), 8  # (prompts, samples); samples of a held-out prompt
TRY_SEED, PROMPTS_SEED, VALIDATION_SEED, HELD_OUT_SEED, MEASURE_SEED = 100, 300, 900, 10_300, 81
CRITIC_RATE = 1e-3
SHOWN = 3  # prompts of each task whose answers are kept, before and after


def arguments(line=None):
    """Return the command line's options."""
    parser, add = _record.options("mdloo", __doc__)
    add("--seeds", type=int, default=8)
    add("--iterations", type=int, default=8)
    add("--prompts", type=int, default=64, help="an iteration (default: %(default)s)")
    add("--try-rates", type=int, default=4, help="of RATES, to try (default: %(default)s)")
    add("--held-out", type=int, default=128, help="held-out prompts a task (default: %(default)s)")
    add("--critic-steps", type=int, default=100)
    add("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    return parser.parse_args(line)


class Bench(Road):
    """That of the whole road, with one start for all seeds, and the judge that is the truth."""

    def __init__(self, a, **sizes):
        super().__init__(BenchSizes(held_out=a.held_out, held_out_seed=HELD_OUT_SEED, **sizes), a.models)
        self.a, self.params = a, self.student(0)
        self.validation = self.records(min(a.held_out, VALIDATION[0] // 2), VALIDATION_SEED)

    def prompts_of(self, seed):
        """Return a seed's records: half of each task, all that its iterations need."""
        return self.records(self.a.iterations * self.a.prompts // 2, PROMPTS_SEED + seed)

    def truth(self, of):
        """Return the judge of these records: the true utility."""
        by_prompt = {record.prompt: record for record in of}
        return lambda prompts, groups: [[utility(by_prompt[p], y) for y in group] for p, group in zip(prompts, groups)]

    def settings(self, **trust):
        """Return what an iteration is."""
        return rlhf.Settings(**SETTINGS, prompts=self.a.prompts, batch_size=SAMPLE_ROWS, **trust)

    @cache  # noqa: B019
    def with_critic(self):
        """Return the start with PPO's critic, which has learnt from it."""
        of = self.records(8 * self.a.prompts, PROMPTS_SEED + TRY_SEED + 1)
        optimizer = adam(CRITIC_RATE, self.a.critic_steps)
        return rlhf.with_critic(
            self.params, self.cfg, self.tok, [r.prompt for r in of], self.truth(of), optimizer, self.a.critic_steps,
            self.settings(), seed=TRY_SEED, progress=False,
        )  # fmt: skip

    def learn(self, algorithm, rate, trust, seed, reward=None, of=None, iterations=None):
        """Return what `rlhf.run` gives with these settings; by default for the true utility, on a seed's prompts."""
        of, iterations = of or self.prompts_of(seed), iterations or self.a.iterations
        named = {} if algorithm not in TRUST else {TRUST[algorithm][0]: trust}
        start, reward = self.with_critic() if algorithm == "ppo" else self.params, reward or self.truth(of)
        return rlhf.run(
            start, self.cfg, self.tok, [r.prompt for r in of], reward, adam(rate, iterations * SETTINGS["inner_steps"]),
            iterations, algorithm=algorithm, settings=self.settings(**named), seed=seed, progress=False,
        )  # fmt: skip

    def measured(self, policy, of, n):
        """Return the mean utility and success of n samples a prompt, by task and in all, and some first answers."""
        groups = self.sample(policy, of, n, MEASURE_SEED)
        judged = self.judged(of, groups)
        done = np.array([[tasks.success(r, y.text) for y in group] for r, group in zip(of, groups)])
        task_of = np.array([r.task for r in of])
        which = {task: task_of == task for task in TASKS} | {"all": task_of != ""}
        said = [groups[p][0].text for task in TASKS for p in np.flatnonzero(which[task])[:SHOWN]]
        return {name: {key: round(float(of_all[mask].mean()), 5) for key, mask in which.items()}
                for name, of_all in (("utility", judged), ("success", done))} | {"answers": said}  # fmt: skip


def of_iterations(history):
    """Return what each iteration saw: rewards of prompts that are new to it, and how far its steps went."""
    names = ("reward", "kl_reference", "kl_previous", "ratio_max", "length")
    return {name: history.evaluation(name)[1].round(4).tolist() for name in names}


def tries(a, algorithm):
    """Return the (rate, trust region) that an algorithm tries."""
    if algorithm not in TRUST:
        return [(rate, 0.0) for rate in (*RATES[: a.try_rates], *BETWEEN[: a.try_rates])]
    return [(rate, trust) for rate in RATES[: a.try_rates] for trust in TRUST[algorithm][1]]


def try_key(algorithm, rate, trust):
    """Return the key of one try."""
    return f"try_{algorithm}_{rate:.3g}_{trust:g}"


def try_run(bench, algorithm, rate, trust):
    """Return a try's utility on the validation prompts."""
    done = bench.learn(algorithm, rate, trust, TRY_SEED)
    return bench.measured(done.policy, bench.validation, VALIDATION[1]) | of_iterations(done.history)


def start_run(bench):
    """Return the start's utility on the held-out prompts, and what these are."""
    shown = [r for task in TASKS for r in [r for r in bench.held_out if r.task == task][:SHOWN]]
    prompts = [{"prompt": record.prompt, "reference": record.reference} for record in shown]
    return bench.measured(bench.params, bench.held_out, HELD_OUT) | {"prompts": prompts}


def main_run(bench, algorithm, rate, trust, seed):
    """Return one run of the comparison."""
    done = bench.learn(algorithm, rate, trust, seed)
    found = bench.measured(done.policy, bench.held_out, HELD_OUT) | of_iterations(done.history)
    return {"rate": rate, "trust": trust} | found


def try_jobs(bench, a):
    """Return {key: function} of all tries."""
    return {
        try_key(algorithm, *of): partial(try_run, bench, algorithm, *of)
        for algorithm in a.algorithms
        for of in tries(a, algorithm)
    }


def chosen(a, runs):
    """Return each algorithm's (rate, trust region): those of the highest utility on the validation prompts."""
    return {
        algorithm: max(tries(a, algorithm), key=lambda of: runs[try_key(algorithm, *of)]["utility"]["all"])
        for algorithm in a.algorithms
    }


def main_jobs(bench, a, settings):
    """Return {key: function} of the comparison, seed by seed."""
    jobs = {"start": partial(start_run, bench)}
    for seed in range(a.seeds):
        for algorithm in a.algorithms:
            jobs[f"{algorithm}_{seed}"] = partial(main_run, bench, algorithm, *settings[algorithm], seed)
    return jobs


def gain(runs, name):
    """Return the interval of an algorithm's gain in utility on held-out prompts."""
    return evaluation.mean_interval(chapter.ends(runs, name) - runs["start"]["utility"]["all"])


def verdict(numbers):
    """Return what the primary comparison says, and MDLOO's gain."""
    runs = numbers["runs"]
    found = {"MDLOO gains": gain(runs, "mdloo")}
    for what, measure in (("end", chapter.ends), ("soon", chapter.soon)):
        found[f"MDLOO less PPO, {what}"] = chapter.leads(runs, measure)["ppo"]
    return "; ".join(_record.told(*of) for of in found.items())


def main():
    """Run what has not been run yet, record."""
    a = arguments()
    _record.keep_compiled(a.models)
    bench = Bench(a)
    runs = _record.tried(try_jobs(bench, a), a)
    settings = chosen(a, runs)
    runs |= _record.finished(main_jobs(bench, a, settings), a.folder, tuple(a.share))
    for key, run in runs.items():
        print(f"{key:32} utility {run['utility']['all']:.4f}")
    _record.ship(
        "mdloo", a, a.seeds, runs, files.fingerprint(assets.load_instruct()[0]), settings=SETTINGS, chosen=settings
    )


if __name__ == "__main__":
    main()
