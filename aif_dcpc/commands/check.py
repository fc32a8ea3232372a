"""`aif-check package.module:model`: is a model of one's own declared soundly, and inferred soundly?

All that `check_model` looks for, then simulation-based calibration with a plot of the ranks. The
last line of standard output is the verdict. Exit code 0: no fault found; 1: faults, a line for
each; 2: it could not be checked, and one sentence says why.
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
from aif_dcpc.named_code import NotThere, import_named

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
        seed: of all random draws.

    Raises:
        ConfigError: an input was not given, or there are too few data sets.
    """
    from aif_dcpc.inference import InferenceError, check_model
    from aif_dcpc.inference.checks.calibration import calibrate

    if data_sets < 100:
        raise ConfigError(f"--data-sets {data_sets}: expected at least 100.")
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
        SystemExit: 0, 1 or 2.
    """
    options = _parser().parse_args(arguments)
    sys.path.append(os.getcwd())
    try:
        model, data = _find(options.model, options.data)
        report = check(model, data, data_sets=options.data_sets, seed=options.seed)
        if report.calibration is not None:
            _save(report.calibration, options.plot)
    except UserError as error:
        fail(error)
    for sentence in report.faults:
        print(f"fault: {sentence}")
    print(report.verdict, flush=True)
    raise SystemExit(1 if report.faults else 0)


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
        raise ConfigError(f"{data_name} is a {type(data).__name__}, expected site -> tensor.")
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
    """Draw the ranks and say where."""
    from aif_dcpc.rank_plot import save_rank_plot

    try:
        save_rank_plot(calibration, path)
    except OSError as error:
        raise ConfigError(
            f"--plot {path}: cannot be written: {error.strerror or error}."
        ) from error
    print(f"ranks: {path}")


if __name__ == "__main__":
    main()
