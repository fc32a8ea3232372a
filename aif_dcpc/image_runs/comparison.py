"""Compare methods on one image experiment: the same graph, data, processor time, effort of tuning, and measurement.

Every method gets the same number of settings to try, each learned for the same processor time and
judged by one criterion on training images that were held out; the best one then learns from several
seeds and is measured on test images. Seconds become numbers of learning steps by timing all methods
in turn before anything is learned, so that a busy machine takes from none of them. Each result is
one line of a file as soon as it is there: a second invocation goes on behind the last, within the
run that was interrupted, and several may work on different methods at a time.

    protocol = Protocol(experiment="mnist", settings={"vae": [["images.method=vae",
    "images.rate=0.001"], ...]}, ...) Comparison(protocol, Results(Path("results.jsonl")),
    Path("runs/comparison")).run(["vae"])
"""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from aif_dcpc.configuration import load_config
from aif_dcpc.image_runs.assembly import make_data, make_model
from aif_dcpc.image_runs.evaluation import evaluate
from aif_dcpc.image_runs.loop import ImageLoop
from aif_dcpc.image_runs.run import LearningError, continue_image_run, create_image_run
from aif_dcpc.outside import outside_names
from aif_dcpc.results import Results, Row
from aif_dcpc.runs import open_run
from aif_dcpc.schema import TrainConfig, evaluate_config, train_config

ROUNDS = 12  # of timing a learning step of every method; the quickest time counts
SAVE_EVERY = 120.0  # seconds of processor time between checkpoints
Measure = Callable[[Path, Row], Row]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is the same for all methods, and what tells them apart.

    Attributes:
        experiment: name of a group in `configs/experiment`.
        methods: method -> its overrides of `aif-train`.
        settings: method -> the settings to choose from, each some overrides; as many for every
            method.
        measure: the numbers of a finished run, from its folder and its key: the line so far, of which `stage` is
            "tuning" or "final".
        common: overrides of `aif-train` for all.
        seeds: of the final runs.
        tuning_seed: with which settings are tried.
        tuning_seconds, final_seconds: processor time of one run.
        hold_out: training images that stand in for the test images while settings are chosen.
        criterion: the number by which a setting is chosen; lower is better.
        changes: what else a line depends on, `name=value` with spaces between; None as usual. Lines
            of other changes are not taken.
    """

    experiment: str
    methods: Mapping[str, Sequence[str]]
    settings: Mapping[str, Sequence[Sequence[str]]]
    measure: Measure
    common: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2)
    tuning_seed: int = 0
    tuning_seconds: float = 30.0
    final_seconds: float = 120.0
    hold_out: int = 1000
    criterion: str = "neg_log_marginal"
    changes: str | None = None


def evaluations(*, tuning: Sequence[str], final: Sequence[str]) -> Measure:
    """Measure by `aif-evaluate` with these overrides."""
    overrides = {"tuning": tuning, "final": final}

    def measure(run: Path, key: Row) -> Row:
        found = evaluate(
            evaluate_config(load_config("evaluate", f"run={run}", *overrides[key["stage"]]))
        )
        return {name: value for name, value in found.items() if name != "run"}

    return measure


def rates(*values: float) -> list[list[str]]:
    """Settings that differ in the learning rate, the same for covariances and the rest."""
    return [[f"images.rate={value}", f"images.covariance_rate={value}"] for value in values]


class Comparison:
    """Times, tunes and measures methods.

    Args:
        protocol: what to compare.
        results: where the numbers go.
        folder: of the run folders; those of the final runs stay.
    """

    def __init__(self, protocol: Protocol, results: Results, folder: Path) -> None:
        self.protocol = protocol
        self.results = results
        self.folder = folder

    def run(self, methods: Iterable[str], *, number: int | None = None) -> None:
        """Measure whatever is still missing of these methods, seed by seed.

        Args:
            methods: which.
            number: of the setting to learn with; None: the best in tuning.
        """
        chosen = list(methods)
        self.time()
        best = {
            m: self.tune(m) if number is None else self.protocol.settings[m][number] for m in chosen
        }
        for seed in self.protocol.seeds:
            for method in chosen:
                self.measure(method, best[method], seed)

    def time(self) -> None:
        """Processor seconds of a learning step of every method, the quickest of some rounds in turn."""
        if set(self.protocol.methods) <= self._step_seconds().keys():
            return
        loops = {method: _loop(self._train(method, (), 0)) for method in self.protocol.methods}
        rounds = [{method: _seconds(loop) for method, loop in loops.items()} for _ in range(ROUNDS)]
        for method in loops:
            quickest = {"step_seconds": min(found[method] for found in rounds)}
            key = {"stage": "timing", "method": method, "changes": self.protocol.changes}
            self.results.once(key, partial(dict, quickest))

    def _step_seconds(self) -> dict[str, float]:
        """Method -> seconds of a learning step, the first that were measured; others may have timed as well."""
        found: dict[str, float] = {}
        for row in self.results.rows(stage="timing"):
            if row.get("changes") == self.protocol.changes:
                found.setdefault(row["method"], row["step_seconds"])
        return found

    def tune(self, method: str) -> Sequence[str]:
        """The best of a method's settings by the criterion, on held-out training images."""
        protocol = self.protocol
        found = {}
        for setting in map(tuple, protocol.settings[method]):
            key = self._key(
                "tuning", method, setting, protocol.tuning_seed, protocol.tuning_seconds
            )
            row = self._once(key, setting, f"images.hold_out={protocol.hold_out}")
            found[setting] = row.get(protocol.criterion, float("inf"))
        return min(found, key=lambda setting: found[setting])

    def measure(self, method: str, setting: Sequence[str], seed: int) -> Row:
        """One final run on the test images."""
        return self._once(
            self._key("final", method, setting, seed, self.protocol.final_seconds), setting
        )

    def _key(
        self, stage: str, method: str, setting: Sequence[str], seed: int, seconds: float
    ) -> Row:
        return {
            "stage": stage,
            "method": method,
            "setting": " ".join(setting),
            "seed": seed,
            "seconds": seconds,
            "changes": self.protocol.changes,
        }

    def _once(self, key: Row, setting: Sequence[str], *more: str) -> Row:
        """The line with this key; learned and measured if there is none yet."""
        number = list(map(tuple, self.protocol.settings[key["method"]])).index(tuple(setting))
        words = (
            key["stage"],
            key["method"].replace(" ", "-"),
            number,
            key["seed"],
            f"{key['seconds']:g}",
            *re.findall(r"[\w.]+", key["changes"] or ""),
        )
        place = self.folder / "-".join(map(str, words))
        row = self.results.once(key, partial(self._learn, key, place, [*setting, *more]))
        if key["stage"] == "tuning":
            shutil.rmtree(place, ignore_errors=True)
        return row

    def _learn(self, key: Row, place: Path, overrides: Sequence[str]) -> Row:
        """Learn for the key's seconds, and measure; a run that broke down says why."""
        timed = self._step_seconds()[key["method"]]
        steps, saving = (max(1, round(seconds / timed)) for seconds in (key["seconds"], SAVE_EVERY))
        given = [
            *overrides,
            f"images.steps={steps}",
            f"checkpoint_every={saving}",
            f"run_dir={place}",
        ]
        try:
            learned = _learned(self._train(key["method"], given, key["seed"]), place)
        except LearningError as error:
            return {"failed": str(error)}
        return {**learned, **self.protocol.measure(place, key)}

    def _train(self, method: str, overrides: Sequence[str], seed: int) -> TrainConfig:
        quiet = [
            "device=cpu",
            "picture_every=0",
            "images.validation_images=1",
            "images.validation_sweeps=1",
        ]
        protocol = self.protocol
        mine = [*protocol.common, *protocol.methods[method], *overrides, f"seed={seed}"]
        return train_config(
            load_config("train", f"experiment={protocol.experiment}", *quiet, *mine)
        )


def _loop(config: TrainConfig) -> ImageLoop:
    data = make_data(config)
    loop = ImageLoop(config, make_model(config, data), data)
    loop.step()
    return loop


def _seconds(loop: ImageLoop) -> float:
    start = time.process_time()
    loop.step()
    return time.process_time() - start


def _learned(config: TrainConfig, place: Path) -> Row:
    """Run `aif-train`, or go on with a run that was interrupted: its time is then not known."""
    begun = place.exists()
    folder = open_run(str(place)) if begun else create_image_run(config)
    start = time.process_time()
    outcome = continue_image_run(folder, folder.config(trust=outside_names(config)))
    spent = {} if begun else {"cpu_seconds": round(time.process_time() - start, 1)}
    if outcome.reason != "finished":
        raise KeyboardInterrupt
    return {"steps": outcome.steps, **spent}


def table(rows: Sequence[Row], columns: Mapping[str, int], *, order: str) -> str:
    """Markdown: a line for each method and setting, mean and standard deviation over its runs, the lowest `order` first.

    Args:
        rows: of one stage.
        columns: name of a number -> digits after the point.
        order: the number that lines are ordered by; what broke down comes last.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["setting"]), []).append(row)
    lines = [["method", "setting", "runs", *columns], ["---"] * (len(columns) + 3)]
    means = {key: _mean(group, order) for key, group in groups.items()}
    for key in sorted(groups, key=lambda key: means[key]):
        cells = [_cell(groups[key], name, digits) for name, digits in columns.items()]
        lines.append([*key, str(len(groups[key])), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean(rows: Sequence[Row], name: str) -> float:
    """Mean of a number over runs; infinity if one of them broke down."""
    return fmean(row.get(name, float("inf")) for row in rows)


def _cell(rows: Sequence[Row], name: str, digits: int) -> str:
    """A number's mean and standard deviation over the runs that have it."""
    values = [row[name] for row in rows if name in row]
    if not values:
        return "failed"
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean
