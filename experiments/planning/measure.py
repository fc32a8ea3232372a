"""Exact planning on finite worlds, in milliseconds a plan, beside jitted pymdp.

    pip install inferactively-pymdp
    python -m aif_dcpc.experiments.planning.measure
    python -m aif_dcpc.experiments.planning.measure --alone

One process, one thread, medians over plans from the first belief. "Cold" lays the tables out anew,
"warm" is any later plan with the same tables. pymdp's "sophisticated" search branches on outcomes
as ours does, with its own default pruning; "open loop" judges fixed sequences of actions, which is
less. A filter's step predicts and takes one outcome of every modality in.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.planners.finite_model import FiniteModel
from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.planning.worlds import World, cue_chaining, random_world, tmaze

BESIDE = "aif_dcpc.experiments.planning.pymdp_agents"
CASES: tuple[tuple[str, Callable[[], World], int], ...] = (
    ("T-maze", tmaze, 3),
    ("cue chaining 5x7", cue_chaining, 3),
    ("cue chaining 5x7", cue_chaining, 15),
    ("random POMDP", lambda: random_world(0), 2),
    ("random POMDP", lambda: random_world(0), 3),
)
# further, pymdp's search runs out of its nodes, or takes half a minute
BESIDE_CASES = {("T-maze", 3), ("cue chaining 5x7", 3), ("random POMDP", 2)}
HEADER = (
    "world",
    "steps ahead",
    "warm, ms",
    "cold, ms",
    "nodes",
    "pymdp, sophisticated, ms",
    "times as long",
    "its first action",
    "pymdp, open loop, ms",
)
TIED = 1e-4  # nats
SHALLOW = 3  # steps ahead; deeper plans are timed three times only


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    """Time a call, the median of some repeats; the first one apart."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def planning(planner: BeliefGraph, finite: FiniteModel) -> Callable[[], Any]:
    """Plan from the first belief."""
    return lambda: planner.plan_tables(finite, finite.initial)


def planning_afresh(depth: int, finite: FiniteModel) -> Callable[[], Any]:
    """Plan from the first belief by a planner that has not seen the tables before."""
    return lambda: BeliefGraph(horizon=depth).plan_tables(finite, finite.initial)


def filter_step(finite: FiniteModel) -> Callable[[], Any]:
    """One step of the filter: the last action, and the likeliest outcomes after it."""
    predicted = finite.predict(finite.initial, 0)
    seen = {name: int((predicted @ table).argmax()) for name, table in finite.likelihood.items()}
    return lambda: finite.filter(finite.predict(finite.initial, 0), seen)


def rows(repeats: int, beside: Any) -> Iterator[tuple[str, ...]]:
    """Measure every case; `beside` is the module that times pymdp, or None."""
    for name, make, depth in CASES:
        world = make()
        finite = world.finite()
        planner = BeliefGraph(horizon=depth)
        plan = planner.plan_tables(finite, finite.initial)
        few = repeats if depth <= SHALLOW else 3
        warm = milliseconds(planning(planner, finite), few)
        cold = milliseconds(planning_afresh(depth, finite), few)
        own = (f"{warm:.3g}", f"{cold:.3g}", f"{plan.nodes}")
        others: tuple[str, ...] = ("", "", "", "")
        if beside is not None and (name, depth) in BESIDE_CASES:
            search, best, alone = beside.planning(world, depth, repeats)
            lost = float(plan.expected_free_energy[best] - plan.expected_free_energy.min())
            agrees = "as good" if lost < TIED else f"{lost:.2g} nats worse"
            others = (f"{search:.3g}", f"{search / warm:.0f}", agrees, f"{alone:.3g}")
        yield (name, str(depth), *own, *others)


def filter_rows(repeats: int, beside: Any) -> Iterator[tuple[str, ...]]:
    """Measure a step of the filter in each world."""
    for name, make in {name: make for name, make, _ in CASES}.items():
        world = make()
        own = milliseconds(filter_step(world.finite()), 20 * repeats)
        others = ("", "")
        if beside is not None:
            taken = beside.filtering(world, 20 * repeats)
            others = (f"{taken:.3g}", f"{own / taken:.2g}")
        yield (name, f"{own:.3g}", *others)


def difference(world: World, beside: Any) -> float:
    """Compare one step with pymdp's, which counts what modalities tell twice as often, nats."""
    finite = world.finite()
    plan = BeliefGraph(horizon=1).plan_tables(finite, finite.initial)
    each = -plan.expected_free_energy + plan.terms.get("shared", 0.0)
    return float(np.abs(beside.one_step(world) - each.numpy()).max())


def show(header: tuple[str, ...], lines: Iterator[tuple[str, ...]]) -> None:
    """Print a table line by line, as soon as each is known."""
    print("| " + " | ".join(header) + " |")
    print("|---" * len(header) + "|")
    for line in lines:
        print("| " + " | ".join(line) + " |", flush=True)


def main() -> None:
    """Print what every case took, and how far both agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--alone", action="store_true", help="without pymdp")
    parser.add_argument("--repeats", type=int, default=20, help="plans timed in each case")
    options = parser.parse_args()
    if options.repeats < 1:
        raise ConfigError(f"--repeats {options.repeats}: at least 1.")
    # before anything is compiled, so that both have one thread
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
    beside = None if options.alone else _pymdp()
    show(HEADER, rows(options.repeats, beside))
    print()
    show(
        ("world", "filter, ms", "pymdp, ms", "ours / theirs"), filter_rows(options.repeats, beside)
    )
    if beside is not None:
        for name, make in {name: make for name, make, _ in CASES}.items():
            print(f"{name}: one step differs by at most {difference(make(), beside):.1e} nats")


def _pymdp() -> Any:
    """Import what times pymdp.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(BESIDE)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed: pip install inferactively-pymdp, or pass --alone."
        ) from error


if __name__ == "__main__":
    run_script(main)
