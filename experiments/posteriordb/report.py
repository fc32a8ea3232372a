"""Lines and tables of what `measure` has found, from its rows alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from aif_dcpc.results import Row

VERDICTS = ("right", "middling", "wrong", "silently wrong", "failed")
HEADER = (
    "posterior",
    "verdicts",
    "mean error (sd)",
    "sd error",
    "R-hat",
    "least ESS",
    "processor s",
    "draws",
    "runs that warn",
)


def newest(rows: Iterable[Row], *key: str) -> list[Row]:
    """The last row of every key, in the order of their first."""
    found = {tuple(row[name] for name in key): row for row in rows}
    return list(found.values())


def line(row: Row) -> str:
    """One run in one line."""
    head = f"{row['posterior']:52s} seed {row['seed']}  {row['verdict']:14s}"
    if row["verdict"] == "failed":
        return f"{head} {row['failure']}"
    return (
        f"{head} mean {row['mean_error']:.3f} sd ({row['mean_at']}), sd {row['sd_error']:.1%} "
        f"({row['sd_at']}), R-hat {row['r_hat']:.3f}, ESS {row['ess']:.0f} of {row['draws']}, "
        f"{row['seconds']:.1f} s, {len(row['warnings'])} warnings"
    )


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, one line a posterior: the worst over seeds, the median of seconds and draws.

    The last lines count runs by verdict, and right ones that warn.
    """
    rows = newest(rows, "posterior", "seed")
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["posterior"], []).append(row)
    lines = [cells(*HEADER), "|---" * len(HEADER) + "|"]
    lines += [_cells_of(name, runs) for name, runs in by_name.items()]
    return "\n".join([*lines, "", closing(rows)])


def closing(rows: Sequence[Row]) -> str:
    """Numbers of runs by verdict, in one sentence."""
    count = Counter(row["verdict"] for row in rows)
    alarms = sum(row["verdict"] == "right" and bool(row["warnings"]) for row in rows)
    parts = [f"{count[verdict]} {verdict}" for verdict in VERDICTS]
    return f"{len(rows)} runs: {', '.join(parts)}; {alarms} right ones warn."


def cells(*values: str) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(values)} |"


def _cells_of(name: str, runs: Sequence[Row]) -> str:
    count = Counter(row["verdict"] for row in runs)
    verdicts = ", ".join(f"{count[v]} {v}" for v in VERDICTS if count[v])
    done = [row for row in runs if row["verdict"] != "failed"]
    if not done:
        return cells(name, verdicts, *["-"] * (len(HEADER) - 2))
    return cells(
        name,
        verdicts,
        f"{max(row['mean_error'] for row in done):.3f}",
        f"{max(row['sd_error'] for row in done):.1%}",
        f"{max(row['r_hat'] for row in done):.3f}",
        f"{min(row['ess'] for row in done):.0f}",
        f"{median(row['seconds'] for row in done):.1f}",
        f"{median(row['draws'] for row in done):.0f}",
        f"{sum(bool(row['warnings']) for row in done)} of {len(done)}",
    )
