"""Loops of 50 statements beside the same models vectorised: `python -m aif_dcpc.experiments.pyro_programs.loops`.

Importing a program and a sweep of it, 16 particles, in processor time; sweeps of both forms in turn, so
that a busy machine slows both. Vectorised: `add_site` with time, and a plate for what has none.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import HalfNormal, Normal

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.benchmarks.sweeps import median_seconds
from aif_dcpc.inference import DCPC, GraphicalModel, State, lag
from aif_dcpc.inference.model.graph import Lag

STATEMENTS = 50
PARTICLES = 16
SWEEPS = 10  # of each form between looks at the clock
Program = Callable[[Tensor], None]
Declared = tuple[GraphicalModel, Mapping[str, Tensor]]


def series() -> Tensor:
    """A random walk seen in noise, `(50,)`."""
    noise = torch.randn(2, STATEMENTS, generator=torch.Generator().manual_seed(0))
    return 0.5 * noise[0].cumsum(0) + noise[1]


# -- loops -----------------------------------------------------------------------------------------


def effects(y: Tensor) -> None:
    """Effects around a mean, one statement each."""
    mean = pyro.sample("mean", dist.Normal(0.0, 3.0))
    spread = pyro.sample("spread", dist.HalfNormal(2.0))
    for i in range(len(y)):
        effect = pyro.sample(f"effect_{i}", dist.Normal(mean, spread))
        pyro.sample(f"y_{i}", dist.Normal(effect, 1.0), obs=y[i])


def random_walk(y: Tensor) -> None:
    """A level that takes steps."""
    level = pyro.sample("level_0", dist.Normal(0.0, 1.0))
    pyro.sample("y_0", dist.Normal(level, 1.0), obs=y[0])
    for t in range(1, len(y)):
        level = pyro.sample(f"level_{t}", dist.Normal(level, 0.5))
        pyro.sample(f"y_{t}", dist.Normal(level, 1.0), obs=y[t])


def second_order(y: Tensor) -> None:
    """An autoregression of second order with unknown coefficients."""
    first = pyro.sample("first", dist.Normal(0.5, 0.5))
    second = pyro.sample("second", dist.Normal(0.0, 0.5))
    before = pyro.sample("state_0", dist.Normal(0.0, 1.0))
    state = pyro.sample("state_1", dist.Normal(0.0, 1.0))
    for t in range(2, len(y)):
        mean = first * state + second * before
        before = state
        state = pyro.sample(f"state_{t}", dist.Normal(mean, 0.5))
        pyro.sample(f"y_{t}", dist.Normal(state, 1.0), obs=y[t])


def two_carried(y: Tensor) -> None:
    """Two numbers, each of which reads both."""
    one = pyro.sample("one_0", dist.Normal(0.0, 1.0))
    other = pyro.sample("other_0", dist.Normal(0.0, 1.0))
    pyro.sample("y_0", dist.Normal(one + other, 1.0), obs=y[0])
    for t in range(1, len(y)):
        means = (0.8 * one + 0.1 * other, 0.1 * one + 0.8 * other)
        one = pyro.sample(f"one_{t}", dist.Normal(means[0], 0.5))
        other = pyro.sample(f"other_{t}", dist.Normal(means[1], 0.5))
        pyro.sample(f"y_{t}", dist.Normal(one + other, 1.0), obs=y[t])


def level_and_trend(y: Tensor) -> None:
    """A level, and a trend by which it goes on, both scales unknown."""
    level_scale = pyro.sample("level_scale", dist.HalfNormal(1.0))
    trend_scale = pyro.sample("trend_scale", dist.HalfNormal(0.2))
    level = pyro.sample("level_0", dist.Normal(0.0, 1.0))
    trend = pyro.sample("trend_0", dist.Normal(0.0, 0.3))
    pyro.sample("y_0", dist.Normal(level, 1.0), obs=y[0])
    for t in range(1, len(y)):
        level = pyro.sample(f"level_{t}", dist.Normal(level + trend, level_scale))
        trend = pyro.sample(f"trend_{t}", dist.Normal(trend, trend_scale))
        pyro.sample(f"y_{t}", dist.Normal(level, 1.0), obs=y[t])


# -- the same, vectorised --------------------------------------------------------------------------


def effects_at_once(y: Tensor) -> Declared:
    """All effects in a plate."""

    def program(y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 3.0))
        spread = pyro.sample("spread", dist.HalfNormal(2.0))
        with pyro.plate("data", len(y)):
            effect = pyro.sample("effect", dist.Normal(mean, spread))
            pyro.sample("y", dist.Normal(effect, 1.0), obs=y)

    return GraphicalModel.from_pyro(program, y)


def random_walk_at_once(y: Tensor) -> Declared:
    """The level as one site with time."""
    model = GraphicalModel()
    _walk(model, "level", lambda level: Normal(level, 0.5), [lag("level")], Normal(0.0, 1.0))
    model.add_site("y", lambda level: Normal(level, 1.0), ["level"], scope="slice")
    return model, {"y": y[None]}


def second_order_at_once(y: Tensor) -> Declared:
    """The state as one site that reads two of its own slices."""
    model = GraphicalModel()
    model.add_site("first", lambda: Normal(0.5, 0.5), scope="global")
    model.add_site("second", lambda: Normal(0.0, 0.5), scope="global")
    parents: list[Lag | str] = [lag("state"), lag("state", 2), "first", "second"]
    _walk(
        model,
        "state",
        lambda state, before, first, second: Normal(first * state + second * before, 0.5),
        parents,
        Normal(0.0, 1.0),
    )
    model.add_site("y", lambda state: Normal(state, 1.0), ["state"], scope="slice")
    return model, {"y": y[None]}


def two_carried_at_once(y: Tensor) -> Declared:
    """Both numbers as sites with time."""
    model = GraphicalModel()
    parents = [lag("one"), lag("other")]
    start = Normal(0.0, 1.0)
    _walk(model, "one", lambda a, b: Normal(0.8 * a + 0.1 * b, 0.5), parents, start)
    _walk(model, "other", lambda a, b: Normal(0.1 * a + 0.8 * b, 0.5), parents, start)
    model.add_site("y", lambda a, b: Normal(a + b, 1.0), ["one", "other"], scope="slice")
    return model, {"y": y[None]}


def level_and_trend_at_once(y: Tensor) -> Declared:
    """Level and trend as sites with time."""
    model = GraphicalModel()
    model.add_site("level_scale", lambda: HalfNormal(1.0), scope="global")
    model.add_site("trend_scale", lambda: HalfNormal(0.2), scope="global")
    _walk(
        model,
        "level",
        lambda level, trend, scale: Normal(level + trend, scale),
        [lag("level"), lag("trend"), "level_scale"],
        Normal(0.0, 1.0),
    )
    _walk(model, "trend", Normal, [lag("trend"), "trend_scale"], Normal(0.0, 0.3))
    model.add_site("y", lambda level: Normal(level, 1.0), ["level"], scope="slice")
    return model, {"y": y[None]}


def _walk(
    model: GraphicalModel,
    name: str,
    kernel: Callable[..., Normal],
    parents: Sequence[Lag | str],
    start: Normal,
) -> None:
    model.add_site(name, kernel, parents, initial=lambda *_: start, scope="slice")


# -- the clock -------------------------------------------------------------------------------------

PAIRS: dict[str, tuple[Program, Callable[[Tensor], Declared]]] = {
    "effects around a mean": (effects, effects_at_once),
    "random walk": (random_walk, random_walk_at_once),
    "autoregression of second order": (second_order, second_order_at_once),
    "two numbers carried, each read by both": (two_carried, two_carried_at_once),
    "level and trend": (level_and_trend, level_and_trend_at_once),
}


@dataclass
class Running:
    """A cloud that has warmed up, and goes on."""

    engine: DCPC
    state: State

    @classmethod
    def of(cls, declared: Declared) -> "Running":
        """Start from a model and its data."""
        model, data = declared
        engine = DCPC(model, num_particles=PARTICLES)
        state, _ = engine.run(engine.init(data, seed=0), 100)
        return cls(engine, state)

    def __call__(self) -> None:
        """Sweep a few times."""
        for _ in range(SWEEPS):
            self.state, _ = self.engine.sweep(self.state, log_joint=False)


def line(name: str) -> str:
    """Import one program and sweep both of its forms; a line of the table."""
    program, at_once = PAIRS[name]
    y = series()
    began = time.process_time()
    imported = GraphicalModel.from_pyro(program, y)
    importing = time.process_time() - began
    loop, vectorised = median_seconds(
        Running.of(imported), Running.of(at_once(y)), device="cpu", budget=6.0
    )
    cells = [
        name,
        f"{importing:.1f} s",
        f"{1e3 * loop / SWEEPS:.1f} ms",
        f"{1e3 * vectorised / SWEEPS:.1f} ms",
        f"{loop / vectorised:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure every pair, and print the table."""
    layout = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=layout).parse_args()
    torch.set_num_threads(1)
    GraphicalModel.from_pyro(random_walk, series()[:3])  # what a process imports is no program's
    print("| loop | import | a sweep | vectorised | ratio |\n|---|---|---|---|---|", flush=True)
    for name in PAIRS:
        print(line(name), flush=True)


if __name__ == "__main__":
    run_script(main)
