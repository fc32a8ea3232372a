"""The engine beside NumPyro's NUTS: effective draws per processor second, and the time to a thousand.

    python -m aif_dcpc.experiments.posteriordb.beside_nuts

Joins the lines of `measure` (programs and simulated posteriors) and of `nuts.run`, and measures
nothing. Seconds hold both warm-ups. "Compiled" is what remains once tracing and compiling are done:
for the engine without recording its densities and without its diagnostics of what it has drawn, for
NUTS the bare loop. "Waiting" is all of it (diagnostics on the engine's side alone), the model's
construction or import included. Every figure of NUTS is that of the way that serves it best
among the forms, numbers of chains and precisions that were tried: fewest wrong runs, then the best
figure.

A ratio is the engine's effective draws per second over those of NUTS, geometric means over seeds. A
wrong run of the engine counts as .01 times NUTS; one of NUTS counts at its full speed, and one that
raised is left out.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.posteriordb.files import FOLDER
from aif_dcpc.experiments.posteriordb.report import cells, newest
from aif_dcpc.results import Results, Row

WRONG_RATIO = 0.01
ENOUGH = 1000  # effective draws of the worst scalar
WAY = ("form", "chains", "double", "dense")
LEAST_ESS = 1e-9  # of chains that do not move
BAD = ("wrong", "silently wrong", "failed")
HEADER = (
    "posterior",
    "engine",
    "ESS/s",
    "NUTS",
    "ESS/s",
    "ratio",
    "the same, waiting",
    "s to 1,000: engine, NUTS",
    "the same, waiting",
)
Seconds = Callable[[Row], tuple[float, float]]  # row -> before the draws, and of drawing them


def engine_compiled(row: Row) -> tuple[float, float]:
    """Seconds before the kept draws and of drawing, without recording and without judging what was drawn."""
    apart = (
        row["recording"] + row["drawing"] + row.get("judging", 0.0)
    )  # earlier rows tell no such part
    return row["seconds"] - apart, row["drawing"]


def engine_waiting(row: Row) -> tuple[float, float]:
    """Seconds before the kept draws, the model's import included, and of drawing."""
    return row["building"] + row["seconds"] - row["drawing"], row["drawing"]


def nuts_compiled(row: Row) -> tuple[float, float]:
    """Seconds of warming up and of drawing."""
    return row["warm_up"], row["drawing"]


def nuts_waiting(row: Row) -> tuple[float, float]:
    """Seconds of tracing, compiling and warming up; and of drawing."""
    return row["tracing"] + row["compiling"] + row["warm_up"], row["drawing"]


def is_wrong(row: Row) -> bool:
    """Whether a run is off by more than .2 sd or 20 %, or has failed."""
    return row["verdict"] in BAD


def speed(row: Row, seconds: Seconds) -> float:
    """Effective draws of the worst scalar per processor second."""
    return max(row["ess"], LEAST_ESS) / sum(seconds(row))


def time_to_enough(row: Row, seconds: Seconds) -> float:
    """Seconds until the worst scalar has `ENOUGH` effective draws, at the rate of the run."""
    before, drawing = seconds(row)
    return before + drawing * ENOUGH / max(row["ess"], LEAST_ESS)


def geometric(values: Iterable[float]) -> float:
    """Geometric mean; not a number where there is nothing."""
    logs = [math.log(max(value, 1e-300)) for value in values]
    return math.exp(fmean(logs)) if logs else math.nan


def best_way(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    """The runs of NUTS in the way that serves it best: fewest wrong runs, then the lowest cost."""
    ways: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        ways.setdefault(tuple(row[name] for name in WAY), []).append(row)
    return min(ways.values(), key=lambda runs: (share_wrong(runs), geometric(map(cost, runs))))


def share_wrong(runs: Sequence[Row]) -> float:
    """Share of the runs that are wrong."""
    return fmean(map(is_wrong, runs))


def fastest(rows: Sequence[Row], seconds: Seconds) -> list[Row]:
    """The runs of NUTS in the way that gives most effective draws per second."""
    return best_way(rows, lambda row: 1 / speed(row, seconds))


def ratio(
    engine: Sequence[Row], nuts: Sequence[Row], of_engine: Seconds, of_nuts: Seconds
) -> float:
    """Effective draws per second, engine over NUTS; a wrong run of the engine counts as .01."""
    other = geometric(speed(row, of_nuts) for row in fastest(nuts, of_nuts))
    return geometric(
        WRONG_RATIO if is_wrong(row) else speed(row, of_engine) / other for row in engine
    )


def times_shorter(
    engine: Sequence[Row], nuts: Sequence[Row], of_engine: Seconds, of_nuts: Seconds
) -> float:
    """Time to `ENOUGH`, NUTS over engine; a wrong run of the engine counts as .01."""
    quickest = best_way(nuts, lambda row: time_to_enough(row, of_nuts))
    other = geometric(time_to_enough(row, of_nuts) for row in quickest)
    return geometric(
        WRONG_RATIO if is_wrong(row) else other / time_to_enough(row, of_engine) for row in engine
    )


def by_posterior(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by every posterior that they stand for."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        for name in row.get("posteriors", [row["posterior"]]):
            found.setdefault(name, []).append(row)
    return found


def table(engine: Sequence[Row], nuts: Sequence[Row]) -> str:
    """A Markdown table of what both have sampled, and geometric means of its ratios.

    Raises:
        ConfigError: there is no such posterior.
    """
    ours = by_posterior(newest(engine, "posterior", "seed"))
    done = [row for row in newest(nuts, "posterior", *WAY, "seed") if row["verdict"] != "failed"]
    theirs = by_posterior(done)
    both = {name: (ours[name], theirs[name]) for name in ours if name in theirs}
    if not both:
        raise ConfigError("no posterior has been sampled by both: call measure and nuts.run first.")
    lines = [cells(*HEADER), "|---" * len(HEADER) + "|"]
    lines += [_line(name, *runs) for name, runs in both.items()]
    return "\n".join([*lines, "", closing(both)])


def closing(both: Mapping[str, tuple[Sequence[Row], Sequence[Row]]]) -> str:
    """Geometric means over posteriors, in one sentence each."""
    compiled = [ratio(*runs, engine_compiled, nuts_compiled) for runs in both.values()]
    waiting = [ratio(*runs, engine_waiting, nuts_waiting) for runs in both.values()]
    soon = [times_shorter(*runs, engine_compiled, nuts_compiled) for runs in both.values()]
    sooner = [times_shorter(*runs, engine_waiting, nuts_waiting) for runs in both.values()]
    wrong = sum(is_wrong(row) for runs in both.values() for row in runs[0])
    return (
        f"{len(both)} posteriors, geometric mean of the ratios: {geometric(compiled):.2f} compiled, "
        f"{geometric(waiting):.2f} waiting; smallest {min(compiled):.2f}; "
        f"{wrong} wrong runs of the engine. Time to {ENOUGH:,} effective draws, times shorter: "
        f"{geometric(soon):.2f} compiled, {geometric(sooner):.2f} waiting."
    )


def _line(name: str, engine: Sequence[Row], nuts: Sequence[Row]) -> str:
    good = [row for row in engine if not is_wrong(row)]
    best = fastest(nuts, nuts_compiled)
    return cells(
        name,
        _wrong(engine),
        _number(geometric(speed(row, engine_compiled) for row in good)),
        f"{_way(best[0])}, {_wrong(best)}",
        _number(geometric(speed(row, nuts_compiled) for row in best)),
        f"{ratio(engine, nuts, engine_compiled, nuts_compiled):.2f}",
        f"{ratio(engine, nuts, engine_waiting, nuts_waiting):.2f}",
        _times(good, nuts, engine_compiled, nuts_compiled),
        _times(good, nuts, engine_waiting, nuts_waiting),
    )


def _way(row: Row) -> str:
    parts = [row["form"], f"{row['chains']} chains" if row["chains"] > 1 else "1 chain"]
    parts += [word for word in ("double", "dense") if row[word]]
    return ", ".join(parts)


def _wrong(runs: Sequence[Row]) -> str:
    return f"{sum(map(is_wrong, runs))} of {len(runs)} wrong"


def _times(engine: Sequence[Row], nuts: Sequence[Row], of_engine: Seconds, of_nuts: Seconds) -> str:
    quickest = best_way(nuts, lambda row: time_to_enough(row, of_nuts))
    ours = geometric(time_to_enough(row, of_engine) for row in engine)
    theirs = geometric(time_to_enough(row, of_nuts) for row in quickest)
    return f"{_number(ours)}, {_number(theirs)}"


def _number(value: float) -> str:
    """Three digits, or a dash for what is not there."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(given: Sequence[str] | None = None) -> None:
    """Print the table of ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", type=Path, default=FOLDER / "results.jsonl")
    parser.add_argument("--nuts", type=Path, default=FOLDER / "nuts.jsonl")
    parser.add_argument("--compile", action="store_true", help="the engine's compiled runs")
    asked = parser.parse_args(given)
    engine = Results(asked.engine).rows(way="compiled" if asked.compile else "program")
    print(table(engine, Results(asked.nuts).rows()))


if __name__ == "__main__":
    run_script(main)
