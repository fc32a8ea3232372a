"""A generator on CIFAR-10 learned by five methods: equal processor time, equal tuning, one measure.

    python -m aif_dcpc.experiments.cifar10.compare tune run table figure --data-dir ... --cpu-minutes 2.5

`tune` tries each method's five settings for `--tune-minutes`; the one whose samples come closest (KID, mean of both ways
to sample) to training images that nothing learned from is taken. `run` learns with it for `--cpu-minutes` and measures
samples against the test images. Every finished trial or run is one line of `--rows`; a second call skips what is there
and goes on, a longer budget starts new runs. `table` and `figure` need the rows and the pictures of samples alone.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from aif_dcpc.comparison import Results, Row
from aif_dcpc.data import load_images
from aif_dcpc.devices import set_up
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.cifar10.measure import Measure, Reference, learning_part
from aif_dcpc.experiments.cifar10.methods import COMMON, METHODS, Setting
from aif_dcpc.experiments.cifar10.report import best_setting, figure, table
from aif_dcpc.experiments.image_budget import evaluation, learn_for, training
from aif_dcpc.image_evaluation import Evaluation
from aif_dcpc.image_samples import RootMixture, prior_samples
from aif_dcpc.inference import InferenceError
from aif_dcpc.pictures import image_grid, png_bytes, save

TUNING_SEED = 100
GRID = 20  # samples that are kept as a picture
MODES = ("prior", "mixture")
STEPS = ("tune", "run", "table", "figure")


@dataclass(frozen=True)
class Job:
    """One learned model: which method, with what, for how long, from which seed."""

    kind: str
    method: str
    setting: Setting
    seed: int
    cpu_minutes: float

    @property
    def name(self) -> str:
        """Of its run folder."""
        number = METHODS[self.method].settings.index(self.setting)
        return f"{self.kind}-{self.method}-{number}-{self.seed}-{self.cpu_minutes:g}"

    def is_row(self, row: Row) -> bool:
        """Whether a row is this job's."""
        return all(row.get(key) == value for key, value in json.loads(json.dumps(asdict(self))).items())


class Comparison:
    """Runs jobs that have no row yet.

    Args:
        asked: the command line.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.left, self.results = asked, asked.at_most, Results(asked.rows)
        set_up("cpu", 1)
        data = load_images("cifar10_subset", asked.data_dir)
        if asked.train_images > len(learning_part(data).train):
            raise ConfigError(f"--train-images {asked.train_images}: at most {len(learning_part(data).train)}.")
        self.measure = Measure(data, asked.out, steps=asked.classifier_steps)

    def tune(self) -> None:
        """Every setting of every method, for a short time."""
        for method in self.asked.methods:
            for setting in METHODS[method].settings:
                self._do(Job("tune", method, setting, TUNING_SEED, self.asked.tune_minutes), self.measure.held_out)

    def run(self) -> None:
        """Every method with its best setting; all methods of a seed before the next seed."""
        self._floor()
        for seed in self.asked.seeds:
            for method in self.asked.methods:
                setting = best_setting(self.results.rows(), method, self.asked.tune_minutes)
                self._do(Job("run", method, setting, seed, self.asked.cpu_minutes), self.measure.test)

    def _floor(self) -> None:
        """How far as many training images are from the test images, once."""
        if any(row["kind"] == "floor" for row in self.results.rows()):
            return
        images, test = self.measure.held_out.images[: self.asked.samples], self.measure.test
        self.results.append(
            {
                "kind": "floor",
                "samples": len(images),
                "references": len(test.images),
                "classifier_accuracy": self.measure.accuracy(),
                **self.measure.distances("real", images, test),
            },
        )
        self._picture("real", test.images)

    def _do(self, job: Job, reference: Reference) -> None:
        if self.left == 0 or any(job.is_row(row) for row in self.results.rows()):
            return
        self.left -= 1
        place = self.asked.out / job.name
        overrides = [
            *COMMON,
            f"data_dir={self.asked.data_dir}",
            f"images.train_images={self.asked.train_images}",
            f"images.batch_size={self.asked.batch_size}",
            f"seed={job.seed}",
            f"run_dir={place}",
            *METHODS[job.method].overrides,
            *job.setting,
        ]
        try:
            found: Row = {**asdict(learn_for(training(overrides), 60 * job.cpu_minutes))}
            found |= self._measured(job, place, reference)
        except InferenceError as error:
            found = {"failed": str(error)}
        row = {**asdict(job), "train_images": self.asked.train_images, **found}
        self.results.append(row)
        print(json.dumps(row), flush=True)

    def _measured(self, job: Job, place: Path, reference: Reference) -> Row:
        asked = ["samples=0", f"held_out={self.asked.held_out}", f"sweeps={self.asked.sweeps}"]
        model = Evaluation(evaluation([f"run={place}", "annealed_images=0", *asked]), str(place))
        number, seed = self.asked.samples, model.config.seed
        mixture = RootMixture(model.trained, seed=seed)
        drawn = {
            "prior": prior_samples(model.trained, number, seed=seed + 3),
            "mixture": mixture.samples(number, seed=seed + 4),
        }
        found: Row = {"samples": self.asked.samples, "references": len(reference.images)}
        for mode, images in drawn.items():
            found |= self.measure.distances(mode, images, reference)
            if job.kind == "run":
                self._picture(f"{job.method}-{job.seed}-{mode}", images)
        return {**found, **(model.reconstructions(seed) if job.kind == "run" else {})}

    def _picture(self, name: str, images: torch.Tensor) -> None:
        folder = self.asked.out / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / f"{name}.png", png_bytes(image_grid(images[:GRID].numpy(), columns=5, scale=1)))


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=STEPS)
    parser.add_argument("--data-dir", default="data", help="where cifar10_subset.npz lies")
    parser.add_argument("--rows", type=Path, default=Path("experiments/cifar10/results.jsonl"))
    parser.add_argument("--figure", type=Path, default=Path("experiments/cifar10/samples.png"))
    parser.add_argument(
        "--out", type=Path, default=Path("runs/cifar10"), help="models, classifier, pictures of samples"
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cpu-minutes", type=float, default=60.0, help="of learning, for each run")
    parser.add_argument("--tune-minutes", type=float, default=1.0, help="of learning, for each setting")
    parser.add_argument("--train-images", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=2000, help="of each way to sample")
    parser.add_argument("--held-out", type=int, default=50, help="test images whose particles are inferred afresh")
    parser.add_argument("--sweeps", type=int, default=40, help="for each of them, from the prior")
    parser.add_argument("--classifier-steps", type=int, default=1500)
    parser.add_argument("--at-most", type=int, default=-1, help="new rows before stopping; -1: all that are missing")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    """Do the steps that are asked for, in order."""
    asked = arguments(given)
    comparison = Comparison(asked) if {"tune", "run"} & set(asked.steps) else None
    for step in asked.steps:
        if step == "table":
            print(table(Results(asked.rows).rows(), asked.cpu_minutes, asked.tune_minutes))
        elif step == "figure":
            figure(asked.out / "samples", list(METHODS), MODES, asked.seeds[0], asked.figure)
        elif comparison is not None:
            getattr(comparison, step)()


if __name__ == "__main__":
    main()
