"""What subjects chose and what they saw, from arrays or from a file with one line a trial."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.misspelt import unknown_name

COLUMNS = ("choices", "wins", "losses")


@dataclass(frozen=True)
class Behaviour:
    """What subjects chose and saw, B subjects of T trials with A arms each.

    Attributes:
        choices: `(B, T)` arms from 0.
        wins, losses: `(B, T, A)` 1 where an arm won, or lost; 0 else; NaN where that was not shown.

    Raises:
        AgentError: for shapes or values that do not fit.
    """

    choices: Tensor
    wins: Tensor
    losses: Tensor

    def __post_init__(self) -> None:
        if self.wins.shape != self.losses.shape or self.wins.shape[:2] != self.choices.shape:
            raise AgentError(
                f"behaviour: expected choices (B, T), wins and losses (B, T, A), found "
                f"{tuple(self.choices.shape)}, {tuple(self.wins.shape)} and "
                f"{tuple(self.losses.shape)}."
            )
        if not 0 <= int(self.choices.min()) <= int(self.choices.max()) < self.wins.shape[-1]:
            raise AgentError(
                f"behaviour: choices are arms from 0 to {self.wins.shape[-1] - 1}, found "
                f"{int(self.choices.min())} to {int(self.choices.max())}."
            )
        for name in ("wins", "losses"):
            seen = getattr(self, name)
            if not bool((seen.isnan() | ((seen >= 0) & (seen <= 1))).all()):
                raise AgentError(f"behaviour: {name} lie from 0 to 1, or are NaN where not shown.")

    @classmethod
    def from_arrays(cls, table: Mapping[str, Any]) -> "Behaviour":
        """Take arrays by name.

        Raises:
            AgentError: a name is missing, or the arrays do not fit.
        """
        for name in COLUMNS:
            if name not in table:
                raise AgentError(unknown_name("behaviour: needed array", name, table))
        choices = torch.as_tensor(np.asarray(table["choices"])).long()
        wins = torch.as_tensor(np.asarray(table["wins"], np.float64)).to(torch.get_default_dtype())
        losses = torch.as_tensor(np.asarray(table["losses"], np.float64)).to(wins.dtype)
        return cls(choices, wins, losses)

    @classmethod
    def from_csv(cls, path: str | Path) -> "Behaviour":
        """Read one line a trial: subject, choice, win_0, loss_0, win_1, loss_1 ...; empty where not shown.

        Subjects follow in the order in which they first occur, and all have as many trials.

        Raises:
            AgentError: columns are missing, a choice is no whole number or an outcome no number, or
                subjects differ in the number of their trials.
        """
        rows, arms = _rows_of(path)
        subjects: dict[str, list[Mapping[str, str]]] = {}
        for row in rows:
            subjects.setdefault(row["subject"], []).append(row)
        if len({len(trials) for trials in subjects.values()}) > 1:
            raise AgentError(f"{path}: subjects differ in the number of trials; cut them to one.")

        def outcomes(kind: str) -> list[Any]:
            names = [f"{kind}_{arm}" for arm in range(arms)]
            return [
                [[_number(float, path, n, row[n] or "nan") for n in names] for row in trials]
                for trials in subjects.values()
            ]

        choices = [
            [_number(int, path, "choice", row["choice"]) for row in trials]
            for trials in subjects.values()
        ]
        return cls.from_arrays(
            {"choices": choices, "wins": outcomes("win"), "losses": outcomes("loss")}
        )

    @property
    def data(self) -> dict[str, Tensor]:
        """Clamp these: site -> `(B, *event)`."""
        return {name: getattr(self, name) for name in COLUMNS}


def _rows_of(path: str | Path) -> tuple[list[dict[str, str]], int]:
    """Read the lines of a table, and how many arms it tells of.

    Raises:
        AgentError: columns are missing, or there is no line.
    """
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        rows = list(reader)
    arms = sum(name.startswith("win_") for name in columns)
    shown = {f"{kind}_{arm}" for kind in ("win", "loss") for arm in range(arms)}
    if not rows or arms < 2 or not {"subject", "choice", *shown} <= set(columns):
        raise AgentError(
            f"{path}: expected columns subject, choice, win_0, loss_0, win_1, loss_1 ..."
        )
    return rows, arms


def _number(
    kind: type[int] | type[float], path: str | Path, column: str, text: str | None
) -> float:
    """Read a number from a cell.

    Raises:
        AgentError: it holds something else.
    """
    try:
        return kind(text or "")
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise AgentError(f"{path}: column {column}: expected {wanted}, found {text!r}.") from error
