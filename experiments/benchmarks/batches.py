"""What a datum of a large batch costs: time of a sweep, and of a learning step, by the size of the batch.

    python -m aif_dcpc.experiments.benchmarks.batches [--sizes 512 4096] [--device cuda] [--compile]

The published deep latent Gaussian model (K = 4) and a linear-Gaussian state-space model (20 slices,
K = 16). Microseconds a datum: processor time of one thread, or time by the clock on a GPU, where a
sweep that waits for the device raises an error. Prints a table and asserts nothing else.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.benchmarks.sweeps import state_space
from aif_dcpc.inference import DCPC, GraphicalModel, State
from aif_dcpc.inference.images import dlgm
from aif_dcpc.inference.learning import parameter_groups, reuse_gradients_step
from aif_dcpc.inference.recycled_gradients import CompiledEvaluation, evaluated

LENGTH = 20
WARM_UP = 10
Step = Callable[[State], State]


def engine_of(model: GraphicalModel, particles: int, compile_: bool) -> DCPC:
    """An engine whose sweeps are compiled at once, or never."""
    warmup = 0 if compile_ else 50
    return DCPC(model, num_particles=particles, warmup=warmup, compile=compile_)


def learning(size: int, device: str, compile_: bool) -> dict[str, tuple[Step, State]]:
    """A sweep, and a learning step, of images."""
    model = dlgm().to(device)
    engine = engine_of(model, 4, compile_)
    state = engine.init({"image": torch.rand(size, 1, 28, 28, device=device)}, seed=0)
    optimizer = torch.optim.Adam(parameter_groups(model, 1e-3), amsgrad=True)
    evaluate = CompiledEvaluation() if compile_ else evaluated

    def learned(state: State) -> State:
        return reuse_gradients_step(engine, state, optimizer, evaluate=evaluate)[0]

    return {
        "images, sweep": (partial(_swept, engine), state),
        "images, learning step": (learned, state),
    }


def series(size: int, device: str, compile_: bool) -> dict[str, tuple[Step, State]]:
    """A sweep of series while moves adapt."""
    model, data = state_space(LENGTH, size, device)
    engine = engine_of(model, 16, compile_)
    return {"series, sweep": (partial(_swept, engine), engine.init(data, seed=0))}


def _swept(engine: DCPC, state: State) -> State:
    with nullcontext() if engine.compiled else never_waiting():
        return engine.sweep(state, adapt=True, log_joint=False)[0]


@contextmanager
def never_waiting() -> Iterator[None]:
    """Let what makes the host wait for a GPU raise an error."""
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def seconds(step: Step, state: State, repeats: int, device: str) -> float:
    """Seconds of a step: the mean of some, after those in which compiling is done."""
    for _ in range(WARM_UP):
        state = step(state)
    start = _now(device)
    for _ in range(repeats):
        state = step(state)
    return (_now(device) - start) / repeats


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    """Print a row for each step and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| step | batch | microseconds a datum |\n|---|---|---|")
    for build in (learning, series):
        for size in options.sizes:
            for name, (step, state) in build(size, options.device, options.compile).items():
                taken = seconds(step, state, max(8, 2048 // size), options.device)
                print(f"| {name} | {size} | {1e6 * taken / size:.4g} |", flush=True)


if __name__ == "__main__":
    run_script(main)
