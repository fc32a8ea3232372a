"""One learning run on two processes beside one process, one thread each: seconds of an epoch, alternated runs.

    python -m aif_dcpc.experiments.benchmarks.team [--data data] [--runs 5] [--images 6144] [--batch 512]

The published deep latent Gaussian model on MNIST by `experiment=mnist`; an epoch is that of the first
images. Times are those of the clock, of learning steps alone: starting processes and loading data
come once a run. Seconds of a processor, those of the
process that takes more, tell how much work is left to each, whatever else the machine does; waiting
for each other is not in them. Prints both, their medians, their ratios, and the load of the machine.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from aif_dcpc.commands.command import run_script

WARM = 4  # steps before the clock


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        data: where MNIST is.
        runs: of each kind.
        images: of an epoch.
        batch: images of a step.
    """

    data: str
    runs: int
    images: int
    batch: int


def epoch_seconds(asked: Asked) -> tuple[float, float]:
    """Seconds of an epoch in this process, which may be one of several: by the clock, and of its processor."""
    from aif_dcpc.configuration import load_config
    from aif_dcpc.devices import set_up
    from aif_dcpc.image_runs.run import make_loop
    from aif_dcpc.image_runs.team import join_team, leave_team
    from aif_dcpc.randomness import seed_everything
    from aif_dcpc.schema import train_config

    words = (f"data_dir={asked.data}", f"images.train_images={asked.images}")
    more = (f"images.batch_size={asked.batch}", "images.paper_share=0")
    config = train_config(load_config("train", "experiment=mnist", "device=cpu", *words, *more))
    team = join_team(config.device)
    try:
        set_up(config.device, 1)
        seed_everything(config.seed)
        loop = make_loop(config, None, team)
        for _ in range(WARM):
            loop.step()
        clock = time.perf_counter()
        processor = time.process_time()
        for _ in range(loop.epoch_steps):
            loop.step()
        return time.perf_counter() - clock, time.process_time() - processor
    finally:
        leave_team(team)


def measured(asked: Asked, processes: int) -> tuple[float, float]:
    """Seconds of an epoch on so many processes, each started afresh, of the slower one.

    Raises:
        SystemExit: they failed, and what they had to say is told.
    """
    own = ["-m", "aif_dcpc.experiments.benchmarks.team", "--once", json.dumps(vars(asked))]
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    words = [sys.executable, *(launcher if processes > 1 else []), *own]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr, flush=True)
        raise SystemExit(done.returncode)
    found = [json.loads(pair) for pair in re.findall(r"\[.*?\]", done.stdout)]  # lines may have met
    return max(clock for clock, _ in found), max(processor for _, processor in found)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=6144)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--once")
    given = parser.parse_args()
    if given.once is not None:
        print(json.dumps(epoch_seconds(Asked(**json.loads(given.once)))), flush=True)
        return
    asked = Asked(os.path.abspath(given.data), given.runs, given.images, given.batch)
    times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(asked.runs):
        for processes, found in times.items():
            found.append(measured(asked, processes))
            clock, processor = found[-1]
            told = f"{clock:.2f} s an epoch, {processor:.2f} s of a processor, load {os.getloadavg()[0]:.1f}"
            print(f"{processes} process(es): {told}", flush=True)
    for place, kind in enumerate(("by the clock", "of a processor")):
        one, two = (statistics.median(t[place] for t in found) for found in times.values())
        print(f"{kind}: medians {one:.2f} s and {two:.2f} s, ratio {two / one:.3f}")


if __name__ == "__main__":
    run_script(main)
