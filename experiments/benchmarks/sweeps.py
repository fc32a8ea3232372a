"""What a sweep costs, in floors: evaluations of the same log joint with its gradient, timed in the same run.

    python -m aif_dcpc.experiments.benchmarks.sweeps [--device cuda] [--lengths 100 1000 10000]
    [--batches 1 32]

Per complete sweep (every latent visited, factorisations included) of even/odd updating and of
windows: the ratio to the floor, dispatched tensor operations, effective samples of the mean per
floor, and the most memory that the run took beside what it takes for ten slices. Prints a table;
asserts nothing.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.utils._python_dispatch import TorchDispatchMode

from aif_dcpc.commands.command import run_script
from aif_dcpc.inference import DCPC, GraphicalModel, State, lag
from aif_dcpc.inference.model.densities import active_factors, evaluate_all
from aif_dcpc.inference.model.isolation import no_validation

DIMENSION = 4
PARTICLES = 16


def state_space(length: int, batch: int, device: str) -> tuple[GraphicalModel, dict[str, Tensor]]:
    """A linear-Gaussian state-space model with data `(batch, length, 4)`."""
    generator = torch.Generator().manual_seed(0)
    turn = (
        torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=generator))[0].to(device) * 0.95
    )
    data = torch.randn(batch, length, DIMENSION, generator=generator).to(device)
    model = GraphicalModel()
    start = Independent(Normal(torch.zeros(DIMENSION, device=device), 1.0), 1)
    # a kernel that takes a number of Python's would wait for a GPU
    moved, seen = torch.tensor([0.5, 0.7], device=device)
    model.add_site(
        "s",
        lambda s: Independent(Normal(s @ turn.mT, moved), 1),
        parents=[lag("s")],
        initial=lambda: start,
        scope="slice",
    )
    model.add_site("o", lambda s: Independent(Normal(s, seen), 1), parents=["s"], scope="slice")
    return model, {"o": data}


def hierarchy(batch: int, device: str) -> tuple[GraphicalModel, dict[str, Tensor]]:
    """Levels of 20, 128, 256 Gaussian units and 784 outputs, joined by one ReLU layer each."""
    torch.manual_seed(0)
    sizes = (20, 128, 256, 784)
    model = GraphicalModel()
    model.add_site("z0", lambda: Independent(Normal(torch.zeros(20, device=device), 1.0), 1))
    for i in range(1, 4):
        layer = (
            nn.Sequential(nn.ReLU(), nn.Linear(sizes[i - 1], sizes[i]))
            .to(device)
            .requires_grad_(False)
        )
        model.add_site(f"z{i}", _gaussian(layer, device), parents=[f"z{i - 1}"])
    return model, {"z3": torch.rand(batch, 784, device=device)}


def _gaussian(layer: nn.Module, device: str) -> Callable[[Tensor], Independent]:
    one = torch.ones((), device=device)
    return lambda z: Independent(Normal(layer(z), one), 1)


class Operations(TorchDispatchMode):
    """Counts dispatched tensor operations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        """Count one operation and run it."""
        self.count += 1
        return func(*args, **(kwargs or {}))


def median_seconds(
    *runs: Callable[[], object], device: str, least: int = 7, budget: float = 2.0
) -> list[float]:
    """Median times of calls made in turn for about `budget` seconds, so that a busy machine slows all of them alike.

    Processor time on a CPU, wall time on a GPU.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    started = clock()
    while len(times[0]) < least or clock() - started < budget:
        for run, found in zip(runs, times, strict=True):
            _finish(device)
            start = clock()
            run()
            _finish(device)
            found.append(clock() - start)
    return [sorted(found)[len(found) // 2] for found in times]


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def floor(state: State) -> None:
    """One evaluation of the log joint with its gradient, without argument validation (as in sweeps)."""
    with no_validation():
        evaluate_all(state, active_factors(state))


def mean_ess_per_sweep(trace: Tensor) -> float:
    """Effective samples of the mean per particle and sweep, median over latents; `trace` `(S, K, B, ...)`."""
    flat = trace.flatten(3).flatten(2)[:, :, :64]
    centred = flat - flat.mean((0, 1))
    sweeps = flat.shape[0]
    power = torch.fft.rfft(centred, n=2 * sweeps, dim=0).abs().square()
    correlation = torch.fft.irfft(power, dim=0)[:sweeps].mean(1)
    correlation = correlation / correlation[0]
    pairs = correlation[: sweeps // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    positive = (pairs > 0).cumprod(0)
    return float((1 / (2 * (pairs * positive).sum(0) - 1).clamp_min(1e-3)).median())


def measure(
    model: GraphicalModel,
    data: dict[str, Tensor],
    *,
    window: int,
    device: str,
    particles: int,
    site: str,
) -> Iterator[str]:
    """Columns of one row: floor, sweep, ratio, operations, effective samples per floor."""
    engine = DCPC(model, num_particles=particles, window=window, warmup=30)
    state, _ = engine.run(engine.init(data, seed=0), 30)
    state, _ = engine.run(state, 4)

    class Clock:
        now = state

    def two_sweeps() -> None:
        for _ in range(2):
            Clock.now, _info = engine.sweep(Clock.now, log_joint=False)

    def one_kind() -> None:
        before = Clock.now.replace(sweeps=100 if window > 1 else 101)
        Clock.now, _info = engine.sweep(before, log_joint=False)

    least, sweep, pair = median_seconds(lambda: floor(state), one_kind, two_sweeps, device=device)
    pair = pair / 2
    with Operations() as operations:
        one_kind()
    trace = (
        engine.run(state, 100, record=[site])[1].trace[site]
        if state.values[site].numel() < 3e6
        else None
    )
    ess = mean_ess_per_sweep(trace) * least / pair if trace is not None else float("nan")
    yield from (
        f"{1e3 * least:.2f}",
        f"{1e3 * sweep:.2f}",
        f"{sweep / least:.2f}",
        f"{pair / least:.2f}",
    )
    yield from (str(operations.count), f"{ess:.3f}")


def peak_memory(length: int, batch: int, window: int, device: str) -> float:
    """Most memory of a process of its own that runs a few sweeps, MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of_this_process, (length, batch, window, device))


def _peak_of_this_process(length: int, batch: int, window: int, device: str) -> float:
    torch.set_num_threads(1)
    model, data = state_space(length, batch, device)
    engine = DCPC(model, num_particles=PARTICLES, window=window, warmup=2)
    engine.run(engine.init(data, seed=0), 8)
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(peak.split()[1]) / 2**10


def main() -> None:
    """Time every model and update, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| model | update | floor ms | sweep ms | floors | floors, mixed | operations | ESS per floor | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in options.batches:
        for length in options.lengths:
            model, data = state_space(length, batch, options.device)
            for name, window in (("even/odd", 1), ("windows", 16)):
                row = measure(
                    model, data, window=window, device=options.device, particles=PARTICLES, site="s"
                )
                sizes = (peak_memory(t, batch, window, options.device) for t in (length, 10))
                memory = next(sizes) - next(sizes)
                print(
                    f"| T={length} B={batch} | {name} | " + " | ".join(row) + f" | {memory:.0f} |",
                    flush=True,
                )
    model, data = hierarchy(128, options.device)
    row = measure(model, data, window=1, device=options.device, particles=4, site="z0")
    print("| hierarchy K=4 B=128 | sites in turn | " + " | ".join(row) + " | |")


if __name__ == "__main__":
    run_script(main)
