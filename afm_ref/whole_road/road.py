"""From the shipped model to feature adapters on palettes, as one run of steps.

results = Road("runs/pipeline", seed=0).complete()

A step is a piece (`afm_ref.disk.resumable`): its folder, with what it has made and
measured. The next call with the same folder goes on with the steps that are not there.
"""

import dataclasses
import shutil
import time
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ..data.packing import batch_of, batches
from ..disk import atomic, resumable, targets
from ..disk.text_files import read_json
from ..interop import config_json, hugging_face, palettized
from ..lora import files
from . import text
from .bench import Bench
from .measuring import Measures, shown
from .steps import STEPS, RoadSizes
from .workshops import JUDGES

CONFIG = "config.json"
MEASURES = "measures.json"
RESULTS = "results.json"
COST = "cost.json"
BENCH = "bench.json"
# What the models of a bench's own folder depend on.
BENCH_FIELDS = (
    "held_out",
    "held_out_seed",
    "start_records",
    "start_steps",
    "start_rate",
    "judged",
    "scaled_on",
)


class Road:
    """One run: its folder, its bench, and what the steps have left in it.

    judge: one of `workshops.JUDGES`; whose rewards the committee and MDLOO follow.
    bench_folder: where the bench keeps its models, for runs that share them; by default
    within the folder. Raises ValueError for an unknown judge, and for folders of runs of
    other settings.
    """

    def __init__(self, folder, seed=0, judge="reward model", sizes=None, bench_folder=None):
        if judge not in JUDGES:
            raise ValueError(f"judge must be one of {sorted(JUDGES)}, got {judge!r}")
        self.folder = Path(folder)
        self.seed = seed
        self.judge = judge
        self.sizes = RoadSizes() if sizes is None else sizes
        self.bench = Bench(
            self.sizes, self.folder / "bench" if bench_folder is None else bench_folder
        )
        fields = dataclasses.asdict(self.sizes) | {
            "base": files.fingerprint(self.bench.instruct)
        }
        self.config = fields | {"judge": judge, "seed": seed}
        with targets.only_writer(self.folder):
            resumable.claim(self.folder / CONFIG, self.config, "steps")
            about = {name: fields[name] for name in (*BENCH_FIELDS, "base")}
            resumable.claim(self.bench.folder / BENCH, about, "models")

    def complete(self, progress=True) -> dict:
        """Return the results, after all steps that are not done yet."""
        from tqdm.auto import tqdm

        with (
            targets.only_writer(self.folder),
            tqdm(STEPS.items(), unit="step", disable=not progress) as bar,
        ):
            for name, step in bar:
                bar.set_description(name)
                if not self.step(name).exists():
                    self.take(name, step)
        return self.results()

    def take(self, name, step):
        """Make and measure one step; what it kept to continue from goes when it is done."""
        resumable.finished(self.step(name), partial(self._fill, step))
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        write(self.folder / RESULTS, self.results())

    def _fill(self, step, folder):
        start = time.process_time()
        folder.mkdir()
        step.make(self, folder)
        numbers = {} if step.made is None else self.measures.of(step.made(self, folder))
        write(folder / MEASURES, numbers | step.more(self, folder))
        write(folder / COST, {"cpu_s": round(time.process_time() - start, 1)})

    def results(self) -> dict:
        """Return the settings, the prompts that are shown, and the measures of what is
        done.
        """
        prompts = [
            {"task": r.task, "prompt": r.prompt, "reference": r.reference}
            for r in shown(self.bench)
        ]
        steps = {
            name: read_json(self.step(name) / MEASURES)
            for name in STEPS
            if self.step(name).exists()
        }
        task_of = self.bench.task_of.tolist()
        return dict(config=self.config, prompts=prompts, task_of=task_of, steps=steps)

    def step(self, name) -> Path:
        """Return the folder of a step."""
        return self.folder / name

    def policy(self, name):
        """Return the plain weights that a step has left."""
        return hugging_face.load(self.step(name))[0]

    def palettes(self):
        """Return the palettized model, with its palettes."""
        return palettized.load(self.step("5_palettized"))[0]

    @cached_property
    def documents(self):
        """Return (training documents, held-out documents)."""
        return text.documents()

    @cached_property
    def measures(self):
        """Return the measures, made when the first step asks for them."""
        return Measures(self.bench, self.documents[1])

    @cached_property
    def rows(self):
        """Return the text of palettization and recovery."""
        return text.mixed_rows(
            self.bench, self.policy("4_mdloo"), self.documents[0], self.seed
        )

    def sensitivity_batches(self):
        """Return some of the rows, as batches."""
        size = min(8, self.sizes.sensitivity_rows)
        starts = range(0, self.sizes.sensitivity_rows, size)
        return [batch_of(self.rows, np.arange(start, start + size)) for start in starts]

    def recovery_batches(self):
        """Return the rows in random order: step -> batch."""
        return batches(self.rows, self.sizes.recovery_batch, self.seed)

    @property
    def checkpoints(self):
        """Return the folder of MDLOO's checkpoints, which goes when the step is done."""
        return self.folder / "4_mdloo.checkpoints"


def write(path: Path, fields):
    """Write a JSON file whole or not at all."""
    atomic.write(path, config_json.text(fields))
