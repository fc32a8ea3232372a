"""What compiling a sweep gains: the sweep itself, its recording, and the compiled graph, timed in turn.

    python -m aif_dcpc.experiments.benchmarks.compiled [--models eight_schools ...] [--device cuda]

Adaptation is frozen; times are medians of one windowed (or first) sweep and the next one in processor
time, calls made in turn, with drawing noise and putting the cloud together included. Beside them stands
what recording and compiling took, in seconds of processor time, those of the compiler's own processes
included. Prints a table; asserts nothing.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import HalfCauchy, HalfNormal, Independent, Normal

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.benchmarks.sweeps import hierarchy, median_seconds, state_space
from aif_dcpc.inference import DCPC, GraphicalModel, State
from aif_dcpc.inference.model.compiling import compiled_or_raise
from aif_dcpc.inference.model.parts import Parts
from aif_dcpc.inference.recorded_sweeps import Recording, record_sweep
from aif_dcpc.inference.sweeping import make_moves

Data = dict[str, Tensor]
Function = Callable[..., tuple[Tensor, ...]]


def eight_schools(device: str) -> tuple[GraphicalModel, Data]:
    """Rubin's eight schools, centred."""
    effects = torch.tensor([[28.0, 8, -3, 7, -1, 1, 18, 12]], device=device)
    errors = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], device=device)
    nought = torch.zeros((), device=device)
    model = GraphicalModel()
    model.add_site("mu", lambda: Normal(nought, 5.0))
    model.add_site("tau", lambda: HalfCauchy(nought + 5.0))
    model.add_site("theta", lambda mu, tau: _alike(mu, tau, 8), ["mu", "tau"])
    model.add_site("y", lambda theta: Independent(Normal(theta, errors), 1), ["theta"])
    return model, {"y": effects}


def hierarchical_regression(
    device: str, groups: int = 40, members: int = 20
) -> tuple[GraphicalModel, Data]:
    """Intercepts and slopes of 40 groups with common means and scales; 800 data."""
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(groups, members, generator=generator)
    response = torch.randn(1, groups, members, generator=generator) + 0.5 * given
    given, response = given.to(device), response.to(device)
    nought = torch.zeros((), device=device)
    model = GraphicalModel()
    for name in ("intercept", "slope"):
        model.add_site(f"{name}_mean", lambda: Normal(nought, 5.0))
        model.add_site(f"{name}_scale", lambda: HalfNormal(nought + 1.0))
        parents = [f"{name}_mean", f"{name}_scale"]
        model.add_site(name, lambda mean, scale: _alike(mean, scale, groups), parents)
    model.add_site("noise", lambda: HalfNormal(nought + 1.0))
    model.add_site(
        "y",
        lambda intercept, slope, noise: Independent(
            Normal(intercept.unsqueeze(-1) + slope.unsqueeze(-1) * given, noise[..., None, None]),
            2,
        ),
        ["intercept", "slope", "noise"],
    )
    return model, {"y": response}


def _alike(mean: Tensor, scale: Tensor, size: int) -> Independent:
    law = Normal(mean.unsqueeze(-1), scale.unsqueeze(-1))
    return Independent(law.expand(torch.Size((*mean.shape, size))), 1)


MODELS: dict[str, tuple[Callable[[str], tuple[GraphicalModel, Data]], int]] = {
    "eight_schools": (eight_schools, 16),
    "hierarchical_regression": (hierarchical_regression, 16),
    "state_space_100": (partial(state_space, 100, 1), 16),
    "state_space_1000": (partial(state_space, 1000, 1), 16),
    "image_hierarchy": (partial(hierarchy, 128), 4),
}


def seconds_so_far() -> float:
    """Processor time of this process and of those that it has started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def replayed(
    recording: Recording, function: Function, state: State, generator: torch.Generator
) -> Callable[[], object]:
    """A call that makes a sweep by a graph: noise drawn, graph called, cloud put together."""
    parts = Parts.of(state)

    def call() -> object:
        with torch.no_grad():
            outputs = function(*recording.arguments(parts, generator))
        return recording.result(state, parts, outputs)

    return call


def measure(model: GraphicalModel, data: Data, particles: int, device: str) -> list[float]:
    """Milliseconds of a sweep, recorded, compiled; nodes; seconds to record and to compile, for a mean of two sweeps."""
    engine = DCPC(model, num_particles=particles, warmup=30)
    state, _ = engine.run(engine.init(data, seed=0), 38)
    generator = engine.generator
    assert generator is not None
    rows = []
    for _ in range(2):
        moves = engine.schedule(state).moves(state.sweeps)
        start = seconds_so_far()
        recording, later, _ = record_sweep(moves, state, generator, adapt=False)
        recorded = seconds_so_far()
        arguments = recording.arguments(Parts.of(state), generator)
        function = compiled_or_raise(recording.graph, *arguments)
        compiled = seconds_so_far()
        times = median_seconds(
            partial(make_moves, moves, state, generator, adapt=False),
            replayed(recording, recording.graph, state, generator),
            replayed(recording, function, state, generator),
            device=device,
        )
        nodes = float(len(recording.graph.graph.nodes))
        rows.append([*(1e3 * t for t in times), nodes, recorded - start, compiled - recorded])
        state = later
    return torch.tensor(rows).mean(0).tolist()


def main() -> None:
    """Time every model, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | sweep, ms | recorded | compiled | gain | nodes | record, s | compile, s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models:
        build, particles = MODELS[name]
        plain, recorded, compiled, nodes, record, compile_ = measure(
            *build(options.device), particles, options.device
        )
        print(
            f"| {name} | {plain:.2f} | {recorded:.2f} | {compiled:.3f} | {plain / compiled:.1f} | "
            f"{nodes:.0f} | {record:.1f} | {compile_:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
