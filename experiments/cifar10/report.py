"""Tables and the figure, from rows and pictures of samples alone."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import t

from aif_dcpc.errors import UserError
from aif_dcpc.pictures import captioned_file, image_grid, png_bytes, same_size, save
from aif_dcpc.results import Results, Row

NORMAL_95 = 1.96
COLUMNS = ("kid_prior", "kid_mixture", "fid_prior", "fid_mixture")
MODES = ("prior", "mixture")
GRID = 20  # samples that are kept as a picture


class NoRowsError(UserError):
    """A step needs what no earlier step left."""


class Budget(NamedTuple):
    """Seconds of processor time of a trial and of a run."""

    tuning: float
    final: float


def tries(rows: Sequence[Row]) -> str:
    """What tuning found, one line a setting; several processes may have written the rows."""
    lines = ["| method | setting | steps | KID, mean of both ways to sample |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: str(row["method"])):
        words = ", ".join(
            word.split(".", 1)[1] for word in row["setting"].split() if "covariance" not in word
        )
        lines.append(
            f"| {row['method']} | {words} | {row.get('steps', '-')} | {row.get('kid', math.inf):.3f} |"
        )
    return "\n".join(lines)


def interval(rows: Sequence[Row], name: str) -> tuple[float, float]:
    """Mean over seeds and half of a 95 % interval.

    The variance is that of one estimate (references, which all runs share, and samples drawn anew)
    plus that of the mean over seeds: on the safe side, for the samples of each seed are counted
    twice.
    """
    values = [row[name] for row in rows]
    error = fmean(row[f"{name}_se"] ** 2 for row in rows)
    spread = variance(values) / len(values) if len(values) > 1 else 0.0
    return fmean(values), NORMAL_95 * math.sqrt(error + spread)


def of_changes(rows: Sequence[Row], changes: str | None) -> list[Row]:
    """The lines of some changes; one without such an entry is of none."""
    return [row for row in rows if row.get("changes") == changes]


def table(results: Results, budget: Budget, changes: str | None) -> str:
    """All tables, methods in the order of their KID of samples from the prior.

    Args:
        results: all lines.
        budget: of the lines that are shown.
        changes: of the lines that are shown, beside the budget.
    """
    tried = of_changes(results.rows(stage="tuning", seconds=budget.tuning), changes)
    runs = of_changes(results.rows(stage="final", seconds=budget.final), changes)
    by_method: dict[str, list[Row]] = {}
    for row in runs:
        if "failed" not in row:
            by_method.setdefault(row["method"], []).append(row)
    lines = [
        "| method | seeds | steps | KID, prior | KID, mixture | FID, prior | FID, mixture | mse |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in sorted(by_method, key=lambda m: fmean(row["kid_prior"] for row in by_method[m])):
        lines.append(_line(method, by_method[method]))
    for row in of_changes(results.rows(stage="floor"), changes):
        kernel = interval([row], "kid_real")
        frechet = interval([row], "fid_real")
        lines.append(
            f"| training images | | | {_number(kernel, 3)} | | {_number(frechet, 1)} | | |"
        )
    lines += [
        f"\n{row['method']}, seed {row['seed']}: {row['failed']}" for row in runs if "failed" in row
    ]
    return "\n".join([*lines, "", differences(by_method), "", tries(tried)])


def differences(by_method: Mapping[str, Sequence[Row]]) -> str:
    """Mean difference of KID between two methods on the same seeds; the better one first, 95 % t-interval."""
    lines = [
        "| KID of samples from | first | second | first minus second | seeds in which the first is ahead |"
    ]
    lines.append("|---|---|---|---|---|")
    for mode in MODES:
        found: dict[str, dict[int, float]] = {}
        for method, rows in by_method.items():
            found[method] = {row["seed"]: row[f"kid_{mode}"] for row in rows}
        order = sorted(found, key=lambda m: fmean(found[m].values()))
        for first, second in combinations(order, 2):
            by = [
                found[first][seed] - found[second][seed]
                for seed in found[first]
                if seed in found[second]
            ]
            if len(by) > 1:
                half = t.ppf(0.975, len(by) - 1) * stdev(by) / math.sqrt(len(by))
                ahead = f"{sum(x < 0 for x in by)} of {len(by)}"
                lines.append(
                    f"| {mode} | {first} | {second} | {fmean(by):.3f} ± {half:.3f} | {ahead} |"
                )
    return "\n".join(lines)


def _line(method: str, rows: Sequence[Row]) -> str:
    cells = [_number(interval(rows, name), 3 if name.startswith("kid") else 1) for name in COLUMNS]
    steps = fmean(row["steps"] for row in rows)
    mse = [row["mse"] for row in rows]
    spread = f" (sd {stdev(mse):.4f})" if len(mse) > 1 else ""
    return (
        f"| {method} | {len(rows)} | {steps:.0f} | {' | '.join(cells)} | {fmean(mse):.4f}{spread} |"
    )


def _number(found: tuple[float, float], digits: int) -> str:
    return f"{found[0]:.{digits}f} ± {found[1]:.{digits}f}"


def save_samples(folder: Path, name: str, images: torch.Tensor) -> None:
    """Keep the first images `(N, C, H, W)` as a picture."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    grid = image_grid(images[:GRID].numpy(), columns=5, scale=1)
    save(folder / "samples" / f"{name}.png", png_bytes(grid))


def figure(folder: Path, methods: Sequence[str], seed: int, path: Path) -> None:
    """Samples side by side: real images and one column a method, one row for each way to sample.

    Raises:
        NoRowsError: there are no pictures.
    """
    pictures = folder / "samples"
    if not (pictures / "real.png").exists():
        raise NoRowsError(f"no pictures in {pictures}: call the step `run` first.")
    rows = [[captioned_file(pictures / "real.png", "test images", times=2)] for _ in MODES]
    for row, mode in zip(rows, MODES, strict=True):
        for method in methods:
            picture = pictures / f"{method}-{seed}-{mode}.png"
            if picture.exists():
                row.append(captioned_file(picture, f"{method}, {mode}", times=2))
    lines = [np.concatenate(same_size(row), 1) for row in rows]
    save(path, png_bytes(np.concatenate(same_size(lines), 0)))
