"""What one appended slice costs, with a windowed sweep after it, by the length of the series.

`python -m aif_dcpc.experiments.online.cost` prints milliseconds of processor time per slice, 16
particles, of a series alone and of one beside two unknown constants (which whole sweeps move now and
then: the mean holds them).
"""

import argparse
import time

import torch
from torch.distributions import Normal

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.online.constants import drift_and_noise
from aif_dcpc.inference import DCPC, GraphicalModel, lag


def series_alone() -> GraphicalModel:
    """A stable linear series under noise."""
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(0.9 * s, 0.5),
        parents=[lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 1.0), parents=["s"], scope="slice")
    return model


def measure(model: GraphicalModel, length: int, slices: int = 100) -> tuple[float, float, float]:
    """Return milliseconds per slice: of `append`, of the windowed sweep (mean), and its median."""
    engine = DCPC(model, num_particles=16)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(1, length + slices, generator=generator)
    state, _ = engine.run(engine.init({"o": data[:, :length]}, seed=0), 60)
    appends = []
    sweeps = []
    for t in range(length, length + slices):
        begin = time.process_time()
        state = engine.append(state, {"o": data[:, t]})
        between = time.process_time()
        state, _ = engine.run(state, 1, recent=48)
        appends.append(1000 * (between - begin))
        sweeps.append(1000 * (time.process_time() - between))
    return sum(appends) / slices, sum(sweeps) / slices, sorted(sweeps)[slices // 2]


def main() -> None:
    """Print one line for each model and length."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    for build in (series_alone, drift_and_noise):
        for length in (200, 1000, 4000):
            append, mean, median = measure(build(), length)
            print(
                f"{build.__name__} T = {length}: append {append:.2f} ms, windowed sweep {mean:.2f} "
                f"ms (median {median:.2f}), together {append + mean:.2f} ms",
                flush=True,
            )


if __name__ == "__main__":
    run_script(main)
