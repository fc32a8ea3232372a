"""Posteriors and evidence of every model with a closed form: exact sweeps, the published update, NUTS, a particle filter.

    python -m aif_dcpc.experiments.exactness.compare [--only WORD] [--methods exact nuts] [--save
    rows.jsonl] python -m aif_dcpc.experiments.exactness.compare --load rows.jsonl --figure
    comparison.png

Errors of means are in posterior standard deviations, of (cross-)covariances in products of two of
them; z is the largest error in its own Monte Carlo standard errors over all entries. Prints a table
and asserts nothing.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.exactness.cases import CASES
from aif_dcpc.experiments.exactness.methods import METHODS, methods_for
from aif_dcpc.experiments.exactness.moments import Row
from aif_dcpc.results import Results

HEADER = (
    "| model | method | mean error (%) | its 5 se | covariance error (%) | its 5 se | worst z | variance / exact | "
    "log evidence error | CPU s |\n|---|---|---|---|---|---|---|---|---|---|"
)
LIMIT_Z = 5.0
COLOURS = {"exact": "#0a7d3c", "paper": "#c0392b", "NUTS": "#2c5aa0", "bootstrap filter": "#8e5bb5"}


def line(row: Row) -> str:
    """One line of the table; errors and 5 standard errors in % of a posterior sd (of a product of two)."""
    percent = (row.mean_error, 5 * row.mean_se, row.covariance_error, 5 * row.covariance_se)
    evidence = f"{row.evidence_error:+.3f} ± {row.evidence_se:.3f}, worst {row.evidence_worst:.3f}"
    numbers = [
        *(f"{100 * x:.{1 if x < 1 else 0}f}" for x in percent),
        f"{row.z:.1f}",
        f"{row.variance_ratio:.3f}",
        evidence,
        f"{row.seconds:.0f}",
    ]
    return (
        "| "
        + " | ".join([row.case, row.method, *("-" if "nan" in n else n for n in numbers)])
        + " |"
    )


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """Rows of what was asked for, as they come."""
    cases = [make() for make in CASES]
    chosen = [case for case in cases if options.only in case.name]
    if not chosen:
        names = ", ".join(case.name for case in cases)
        raise ConfigError(f"--only {options.only}: no case has that in its name. Known: {names}.")
    for case in chosen:
        for method in (m for m in methods_for(case) if m.__name__ in options.methods):
            yield from method(case)


def loaded(path: Path) -> list[Row]:
    """Rows that an earlier run has saved.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"--load {path}: there is no such file; --save FILE makes one.")
    return [Row(**row) for row in Results(path).rows()]


# -- figure ----------------------------------------------------------------------------------------


def draw(rows: list[Row], path: Path) -> None:
    """Errors of means and covariances and ratios of variances, case by case; hollow marks are biased."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [r for r in rows if not math.isnan(r.mean_error)]
    names = list(dict.fromkeys(r.case for r in rows))
    figure, axes = plt.subplots(
        1, 3, figsize=(15, 0.5 * len(names) + 2.2), sharey=True, layout="constrained"
    )
    for axis in axes:
        panel(axis, names)
    for row in rows:
        mark(axes, row, names.index(row.case))
    dress(axes, names)
    figure.legend(handles=legend(), loc="outside upper center", ncols=6, frameon=False, fontsize=12)
    figure.savefig(path, dpi=110)


def mark(axes: Any, row: Row, place: float) -> None:
    """One row in its three panels, at the height of its case."""
    kind = next(k for k in COLOURS if row.method.startswith(k))
    height = place + 0.2 * (list(COLOURS).index(kind) - 1.5)
    colour = COLOURS[kind]
    sound = row.z <= LIMIT_Z
    shape = "o" if sound else "X"
    fill = colour if sound else "white"
    values = (row.mean_error, row.covariance_error, row.variance_ratio)
    for axis, value in zip(axes, values, strict=True):
        axis.plot(max(value, 1e-3), height, shape, color=colour, mfc=fill, ms=8, mew=1.6)


def panel(axis: Any, names: list[str]) -> None:
    """Stripes behind every other case."""
    axis.set_xscale("log")
    for place in range(0, len(names), 2):
        axis.axhspan(place - 0.5, place + 0.5, color="#f2f2f2", zorder=0)


def dress(axes: Any, names: list[str]) -> None:
    """Labels, and what is within the bar."""
    axes[0].set(xlabel="largest error of a mean\n(posterior sd)", xlim=(8e-4, None))
    axes[1].set(
        xlabel="largest error of a variance or covariance\n(products of two posterior sd)",
        xlim=(8e-4, None),
    )
    axes[2].set(
        xlabel="variance found / exact\n(mean over coordinates)", xscale="linear", xlim=(0, None)
    )
    for axis in axes[:2]:
        axis.axvspan(axis.get_xlim()[0], 0.03, color="#0a7d3c", alpha=0.08, zorder=0)
    axes[2].axvline(1, color="#0a7d3c", linewidth=1)
    axes[0].set_yticks(range(len(names)), names, fontsize=12)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for axis in axes:
        axis.xaxis.label.set_size(12)


def legend() -> list[Any]:
    """Colours are methods; a hollow cross is an error that Monte Carlo does not explain."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Line2D([], [], marker="o", linestyle="", color=c, ms=8, label=k) for k, c in COLOURS.items()
    ]
    biased = Line2D(
        [],
        [],
        marker="X",
        linestyle="",
        color="black",
        mfc="white",
        ms=8,
        label="biased: above 5 se",
    )
    return [*marks, biased, Patch(color="#0a7d3c", alpha=0.12, label="below 3 %")]


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="part of a case's name")
    methods = [m.__name__ for m in METHODS]
    parser.add_argument("--methods", nargs="+", default=methods, choices=methods)
    parser.add_argument(
        "--save", type=Path, help="where to append the rows, one JSON object a line"
    )
    parser.add_argument("--load", type=Path, help="take the rows from there instead of measuring")
    parser.add_argument("--figure", type=Path, help="where to save the plot")
    options = parser.parse_args()
    if options.load and (options.only or options.methods != methods):
        raise ConfigError(
            f"--load {options.load} takes the saved rows as they are: leave out --only and --methods."
        )
    torch.set_num_threads(1)
    rows = []
    print(HEADER, flush=True)
    for row in loaded(options.load) if options.load else measured(options):
        rows.append(row)
        print(line(row), flush=True)
        if options.save:
            Results(options.save).append(asdict(row))
    if options.figure and rows:
        draw(rows, options.figure)


if __name__ == "__main__":
    run_script(main)
