"""`aif-check package.module:model`: is a model of one's own declared soundly, and inferred soundly?

All that `check_model` looks for, then simulation-based calibration with a plot of the ranks, drawn
last. The last line of standard output is the verdict. Exit code 0: no fault found; 1: faults, a
line for each; 2: it could not be checked or drawn, and one sentence says why.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aif_dcpc.commands.command import fail
from aif_dcpc.errors import ConfigError, UserError
from aif_dcpc.interruption import exit_code, stopping_at_once
from aif_dcpc.named_code import NotThere, import_named
from aif_dcpc.notes import note, say
from aif_dcpc.schema import LARGEST_SEED

if TYPE_CHECKING:
    from torch import Tensor

    from aif_dcpc.inference import GraphicalModel
    from aif_dcpc.inference.checks.calibration import Calibration

DESCRIPTION = (
    "Check a model of your own: shapes, independence of particles and data, scores against finite "
    "differences, Geweke's joint test, and simulation-based calibration with a plot of the ranks."
)
EXIT_CODES = "Exit code 0: no fault found; 1: faults, a line for each; 2: it could not be checked."


@dataclass(frozen=True)
class Report:
    """What a check has found.

    Attributes:
        faults: one sentence for each.
        calibration: ranks of true values; None where faults before it left nothing to calibrate.
    """

    faults: tuple[str, ...]
    calibration: "Calibration | None"

    @property
    def verdict(self) -> str:
        """One line that says it all."""
        if self.faults:
            return f"not sound: {len(self.faults)} fault{'s' * (len(self.faults) > 1)} found."
        ranked = len(self.calibration.ranks) if self.calibration else 0
        return f"sound: no fault found, true values of {ranked} latent sites ranked evenly."


def check(
    model: "GraphicalModel",
    data: "Mapping[str, Tensor] | None" = None,
    *,
    moves: Mapping[str, str] | None = None,
    data_sets: int = 400,
    seed: int = 0,
) -> Report:
    """Check a model's declaration, and then how the engine infers data drawn from it.

    Args:
        model: the model.
        data: site -> `(B, [T,] *event)`: its inputs at least.
        moves: as in `DCPC`.
        data_sets: how many are simulated; at least 100.
        seed: of all random draws; from 0 to 2^32 - 1.

    Raises:
        ConfigError: an input was not given, there are too few data sets, or the seed is none.
    """
    from aif_dcpc.inference import InferenceError, check_model
    from aif_dcpc.inference.checks.calibration import calibrate

    if data_sets < 100:
        raise ConfigError(f"--data-sets {data_sets}: expected at least 100.")
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"--seed {seed}: expected a whole number from 0 to {LARGEST_SEED}.")
    _check_inputs(model, data or {})
    faults = check_model(model, data, moves=moves, seed=seed)
    if faults:
        return Report(faults, None)
    try:
        found = calibrate(model, data, moves=moves, num_data_sets=data_sets, seed=seed)
    except InferenceError as error:
        return Report((f"simulated data cannot be inferred: {error}",), None)
    return Report(found.faults, found)


def _check_inputs(model: "GraphicalModel", data: Mapping[str, Any]) -> None:
    """Refuse to judge a model whose inputs are merely not given."""
    missing = [n for n, s in model.sites.items() if s.kind == "input" and n not in data]
    if missing:
        raise ConfigError(
            f"the model reads {', '.join(map(repr, missing))}, of which nothing is given: name "
            "example values with --data package.module:name, a mapping of site -> tensor "
            "(B, [T,] *event)."
        )


# -- the command -----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `aif-check`.

    Raises:
        SystemExit: 0, 1 or 2; 128 + its number after a signal.
    """
    options = _parser().parse_args(arguments)
    sys.path.append(os.getcwd())
    try:
        with stopping_at_once():
            report = _judged(options)
    except UserError as error:
        fail(error)
    except KeyboardInterrupt as error:
        note("interrupted.")
        raise SystemExit(exit_code(getattr(error, "number", None))) from None
    raise SystemExit(1 if report.faults else 0)


def _judged(options: argparse.Namespace) -> Report:
    """Check what is asked for, print faults and verdict, and then draw the ranks."""
    _check_place(options.plot)
    model, data = _find(options.model, options.data)
    report = check(model, data, data_sets=options.data_sets, seed=options.seed)
    for sentence in report.faults:
        say(f"fault: {sentence}")
    say(report.verdict)
    if report.calibration is not None:
        _save(report.calibration, options.plot)
    return report


def _check_place(plot: Path) -> None:
    """Refuse, before anything is calibrated, a plot that has no folder to lie in."""
    try:
        fits = plot.parent.is_dir() and not plot.is_dir()
    except OSError:
        fits = False
    if not fits:
        raise ConfigError(f"--plot {plot}: expected a file in a folder that is there.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("aif-check", description=DESCRIPTION, epilog=EXIT_CODES)
    parser.add_argument(
        "model",
        metavar="package.module:model",
        help="a GraphicalModel, or a function without arguments that returns one, or one and data",
    )
    parser.add_argument(
        "--data",
        metavar="package.module:data",
        help="site -> tensor (B, [T,] *event), or a function that returns it: inputs, and which "
        "sites are observed (the leaves of the graph by default)",
    )
    parser.add_argument(
        "--data-sets", type=int, default=400, help="how many are simulated (default 400)"
    )
    parser.add_argument("--version", action="version", version=version("aif_dcpc"))
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default 0)")
    parser.add_argument(
        "--plot", type=Path, default=Path("ranks.png"), help="where the ranks go (ranks.png)"
    )
    return parser


def _find(model_name: str, data_name: str | None) -> tuple[Any, Any]:
    """Import a model, and its data where they are named or come with it."""
    from aif_dcpc.inference import GraphicalModel

    found = _made(model_name)
    model, data = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(model, GraphicalModel):
        raise ConfigError(
            f"{model_name} is a {type(model).__name__}, expected a GraphicalModel or a function "
            "that returns one."
        )
    if data_name is not None:
        data = _made(data_name)
    if data is not None and not isinstance(data, Mapping):
        place = f"the data of {model_name}" if data_name is None else data_name
        raise ConfigError(f"{place}: found a {type(data).__name__}, expected site -> tensor.")
    return model, data


def _made(name: str) -> Any:
    """Import what a name stands for; call it if it is a function."""
    from torch.nn import Module

    try:
        found = import_named(name)
    except NotThere as error:
        raise ConfigError(f"{name}: {error}") from error
    if isinstance(found, Module) or not callable(found):
        return found
    try:
        return found()
    except Exception as error:  # somebody else's function
        raise ConfigError(f"{name}() fails: {type(error).__name__}: {error}.") from error


def _save(calibration: "Calibration", path: Path) -> None:
    """Draw the ranks and say where, beside the verdict."""
    from aif_dcpc.rank_plot import save_rank_plot

    try:
        save_rank_plot(calibration, path)
    except OSError as error:
        raise ConfigError(
            f"--plot {path}: cannot be written: {error.strerror or error}."
        ) from error
    note(f"ranks: {path}")


if __name__ == "__main__":
    main()
