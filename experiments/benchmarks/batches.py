"""What a datum of a large batch costs: processor time of a sweep, and of a learning step, by the size of the batch.

    python -m aif_dcpc.experiments.benchmarks.batches [--sizes 512 4096]

The published deep latent Gaussian model (K = 4) and a linear-Gaussian state-space model (20 slices,
K = 16). Microseconds a datum, one thread; prints a table and asserts nothing.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.benchmarks.sweeps import state_space
from aif_dcpc.inference import DCPC, State
from aif_dcpc.inference.images import dlgm
from aif_dcpc.inference.learning import parameter_groups, reuse_gradients_step

LENGTH = 20
Step = Callable[[State], State]


def learning(size: int) -> dict[str, tuple[Step, State]]:
    """A sweep, and a learning step, of images."""
    model = dlgm()
    engine = DCPC(model, num_particles=4)
    state = engine.init({"image": torch.rand(size, 1, 28, 28)}, seed=0)
    optimizer = torch.optim.Adam(parameter_groups(model, 1e-3), amsgrad=True)
    return {
        "images, sweep": (partial(_swept, engine), state),
        "images, learning step": (lambda s: reuse_gradients_step(engine, s, optimizer)[0], state),
    }


def series(size: int) -> dict[str, tuple[Step, State]]:
    """A sweep of series while moves adapt."""
    model, data = state_space(LENGTH, size, "cpu")
    engine = DCPC(model, num_particles=16)
    return {"series, sweep": (partial(_swept, engine), engine.init(data, seed=0))}


def _swept(engine: DCPC, state: State) -> State:
    return engine.sweep(state, adapt=True, log_joint=False)[0]


def seconds(step: Step, state: State, repeats: int) -> float:
    """Processor seconds of a step: the mean of some, after two to warm up."""
    for _ in range(2):
        state = step(state)
    start = time.process_time()
    for _ in range(repeats):
        state = step(state)
    return (time.process_time() - start) / repeats


def main() -> None:
    """Print a row for each step and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512, 4096])
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| step | batch | microseconds a datum |\n|---|---|---|")
    for build in (learning, series):
        for size in options.sizes:
            for name, (step, state) in build(size).items():
                taken = seconds(step, state, max(4, 2048 // size))
                print(f"| {name} | {size} | {1e6 * taken / size:.0f} |", flush=True)


if __name__ == "__main__":
    run_script(main)
