"""Tables and the figure, from rows and pictures of samples alone."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import Any

import numpy as np
from PIL import Image

from aif_dcpc.errors import UserError
from aif_dcpc.pictures import Picture, captioned, png_bytes, same_size, save

Row = dict[str, Any]
NORMAL_95 = 1.96
COLUMNS = ("kid_prior", "kid_mixture", "fid_prior", "fid_mixture")


class NoRowsError(UserError):
    """A step needs rows that no earlier step left."""


def criterion(row: Row) -> float:
    """What tuning minimises: the mean of both KIDs; infinite where learning broke down."""
    value = math.inf if "failed" in row else 0.5 * (row["kid_prior"] + row["kid_mixture"])
    return value if math.isfinite(value) else math.inf


def tuning(rows: Sequence[Row], tune_minutes: float) -> list[Row]:
    """Rows of trials of that length."""
    return [row for row in rows if row["kind"] == "tune" and row["cpu_minutes"] == tune_minutes]


def best_setting(rows: Sequence[Row], method: str, tune_minutes: float) -> tuple[str, ...]:
    """The setting with the least criterion.

    Raises:
        NoRowsError: the method was not tuned.
    """
    tried = [row for row in tuning(rows, tune_minutes) if row["method"] == method]
    if not tried:
        raise NoRowsError(f"no rows of tuning for {method!r}: call the step `tune` first.")
    return tuple(min(tried, key=criterion)["setting"])


def tries(rows: Sequence[Row], tune_minutes: float) -> str:
    """What tuning found, one line a setting."""
    lines = ["| method | setting | steps | KID, mean of both ways to sample |", "|---|---|---|---|"]
    for row in tuning(rows, tune_minutes):
        words = ", ".join(word.split(".", 1)[1] for word in row["setting"] if "covariance" not in word)
        lines.append(f"| {row['method']} | {words} | {row.get('steps', '-')} | {criterion(row):.3f} |")
    return "\n".join(lines)


def interval(rows: Sequence[Row], name: str) -> tuple[float, float]:
    """Mean over seeds and half of a 95 % interval.

    The variance is that of one estimate (references, which all runs share, and samples drawn anew) plus that of the
    mean over seeds: on the safe side, for the samples of each seed are counted twice.
    """
    values = [row[name] for row in rows]
    error = fmean(row[f"{name}_se"] ** 2 for row in rows)
    spread = variance(values) / len(values) if len(values) > 1 else 0.0
    return fmean(values), NORMAL_95 * math.sqrt(error + spread)


def table(rows: Sequence[Row], cpu_minutes: float, tune_minutes: float) -> str:
    """Both tables, methods in the order of their KID of samples from the prior."""
    runs = [row for row in rows if row["kind"] == "run" and row["cpu_minutes"] == cpu_minutes and "failed" not in row]
    by_method: dict[str, list[Row]] = {}
    for row in runs:
        by_method.setdefault(row["method"], []).append(row)
    lines = [
        "| method | seeds | steps | KID, prior | KID, mixture | FID, prior | FID, mixture | mse |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in sorted(by_method, key=lambda m: fmean(row["kid_prior"] for row in by_method[m])):
        lines.append(_line(method, by_method[method]))
    for row in rows:
        if row["kind"] == "floor":
            kernel, frechet = interval([row], "kid_real"), interval([row], "fid_real")
            lines.append(f"| training images | | | {_number(kernel, 3)} | | {_number(frechet, 1)} | | |")
    failed = [row for row in rows if row["kind"] == "run" and row["cpu_minutes"] == cpu_minutes and "failed" in row]
    lines += [f"\n{row['method']}, seed {row['seed']}: {row['failed']}" for row in failed]
    return "\n".join([*lines, "", tries(rows, tune_minutes)])


def _line(method: str, rows: Sequence[Row]) -> str:
    cells = [_number(interval(rows, name), 3 if name.startswith("kid") else 1) for name in COLUMNS]
    steps, mse = fmean(row["steps"] for row in rows), [row["mse"] for row in rows]
    spread = f" (sd {stdev(mse):.4f})" if len(mse) > 1 else ""
    return f"| {method} | {len(rows)} | {steps:.0f} | {' | '.join(cells)} | {fmean(mse):.4f}{spread} |"


def _number(found: tuple[float, float], digits: int) -> str:
    return f"{found[0]:.{digits}f} ± {found[1]:.{digits}f}"


def figure(folder: Path, methods: Sequence[str], modes: Sequence[str], seed: int, path: Path) -> None:
    """Samples side by side: real images and one column a method, one row for each way to sample.

    Raises:
        NoRowsError: there are no pictures of that seed.
    """
    if not (folder / "real.png").exists():
        raise NoRowsError(f"no pictures in {folder}: call the step `run` first.")
    rows = [[_captioned(folder / "real.png", "test images")] for _ in modes]
    for row, mode in zip(rows, modes, strict=True):
        for method in methods:
            picture = folder / f"{method}-{seed}-{mode}.png"
            if picture.exists():
                row.append(_captioned(picture, f"{method}, {mode}"))
    lines = [np.concatenate(same_size(row), 1) for row in rows]
    save(path, png_bytes(np.concatenate(same_size(lines), 0)))


def _captioned(path: Path, words: str) -> Picture:
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("RGB"), dtype=np.uint8)
    return np.pad(captioned(picture.repeat(2, 0).repeat(2, 1), words), ((0, 4), (0, 4), (0, 0)), constant_values=255)
