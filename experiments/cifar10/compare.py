"""A generator on CIFAR-10 learned by five methods: equal processor time, equal tuning, one measure.

    python -m aif_dcpc.experiments.cifar10.compare tune run table figure --data-dir ...

`tune` tries each method's five settings for `--tune-minutes`; the one whose samples come closest
(KID, mean of both ways to sample) to training images that nothing learned from is taken. `run`
learns with it for `--cpu-minutes` and measures samples against the test images. Every finished
trial or run is one line of `--results`; a second call skips what is there and goes on, another
budget or other sizes start new runs. `table` and `figure` need the lines and the pictures of samples
alone.
"""

import argparse
from pathlib import Path

from aif_dcpc.commands.command import run_script
from aif_dcpc.devices import set_up
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.cifar10.measure import Measure, Reference, distances_of_run, learning_part
from aif_dcpc.experiments.cifar10.methods import COMMON, METHODS, SETTINGS
from aif_dcpc.experiments.cifar10.report import Budget, figure, save_samples, table
from aif_dcpc.image_runs.comparison import Comparison, Protocol
from aif_dcpc.image_runs.data import load_images
from aif_dcpc.results import Results, Row

HERE = Path(__file__).parent
TUNING_SEED = 100
STEPS = ("tune", "run", "table", "figure")
SIZES = (
    "train_images",
    "batch_size",
    "samples",
    "held_out",
    "sweeps",
    "classifier_steps",
)  # flags that every line depends on


def comparison(asked: argparse.Namespace, results: Results) -> Comparison:
    """The comparison on its data.

    Raises:
        ConfigError: more images are asked for than there are to learn from.
    """
    set_up("cpu", 1)
    data = load_images("cifar10_subset", asked.data_dir)
    learning = learning_part(data)
    if asked.train_images > len(learning.train):
        raise ConfigError(f"--train-images {asked.train_images}: at most {len(learning.train)}.")
    measure = Measure(data, asked.out, steps=asked.classifier_steps)
    results.once({"stage": "floor", "changes": changes(asked)}, lambda: floor(asked, measure))
    budget = [f"images.train_images={asked.train_images}", f"images.batch_size={asked.batch_size}"]
    protocol = Protocol(
        experiment="cifar10_subset",
        methods=METHODS,
        settings=SETTINGS,
        measure=lambda place, key: measured(asked, measure, place, key),
        common=[*COMMON, f"data_dir={asked.data_dir}", *budget],
        seeds=asked.seeds,
        tuning_seed=TUNING_SEED,
        tuning_seconds=60 * asked.tune_minutes,
        final_seconds=60 * asked.cpu_minutes,
        hold_out=len(data.train) - len(learning.train),
        criterion="kid",
        changes=changes(asked),
    )
    return Comparison(protocol, results, asked.out)


def changes(asked: argparse.Namespace) -> str | None:
    """The sizes that are not the defaults, `name=value` with spaces between; None where all of them are."""
    usual = arguments(["table"])
    other = [name for name in SIZES if getattr(asked, name) != getattr(usual, name)]
    return " ".join(f"{name}={getattr(asked, name)}" for name in other) or None


def floor(asked: argparse.Namespace, measure: Measure) -> Row:
    """How far as many training images are from the test images."""
    images = measure.held_out.images[: asked.samples]
    test = measure.test
    save_samples(asked.out, "real", test.images)
    found = measure.distances("real", images, test)
    return {
        "samples": len(images),
        "references": len(test.images),
        "classifier_accuracy": measure.accuracy(),
        **found,
    }


def measured(asked: argparse.Namespace, measure: Measure, place: Path, key: Row) -> Row:
    """Measure a run's samples against held-out training images, a final run's against test images."""
    final = key["stage"] == "final"
    reference: Reference = measure.test if final else measure.held_out
    model = [
        "samples=0",
        "annealed_images=0",
        f"held_out={asked.held_out}",
        f"sweeps={asked.sweeps}",
    ]
    found, drawn = distances_of_run(
        measure, place, model, reference, samples=asked.samples, reconstruct=final
    )
    for mode, images in drawn.items() if final else ():
        save_samples(asked.out, f"{key['method']}-{key['seed']}-{mode}", images)
    return found


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="+", choices=STEPS)
    parser.add_argument("--data-dir", default="data", help="where cifar10_subset.npz lies")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--figure", type=Path, default=HERE / "samples.png")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/cifar10"),
        help="runs, classifier, pictures of samples",
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cpu-minutes", type=float, default=15.0, help="of learning, for each run")
    parser.add_argument(
        "--tune-minutes", type=float, default=3.0, help="of learning, for each setting"
    )
    parser.add_argument("--train-images", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=2000, help="of each way to sample")
    parser.add_argument(
        "--held-out", type=int, default=50, help="test images whose particles are inferred afresh"
    )
    parser.add_argument("--sweeps", type=int, default=40, help="for each of them, from the prior")
    parser.add_argument("--classifier-steps", type=int, default=1500)
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    """Do the steps that are asked for, in order."""
    asked = arguments(given)
    results = Results(asked.results)
    running = comparison(asked, results) if {"tune", "run"} & set(asked.steps) else None
    for step in asked.steps:
        if step == "table":
            budget = Budget(60 * asked.tune_minutes, 60 * asked.cpu_minutes)
            print(table(results, budget, changes(asked)))
        elif step == "figure":
            figure(asked.out, list(METHODS), asked.seeds[0], asked.figure)
        elif running is not None and step == "run":
            running.run(asked.methods)
        elif running is not None:
            running.time()
            for method in asked.methods:
                running.tune(method)


if __name__ == "__main__":
    run_script(main)
