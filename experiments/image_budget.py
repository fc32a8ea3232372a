"""Image models learned for a given processor time: what comparisons of methods on the same graph and data share.

The schedule of the rates follows the share of the budget that is spent, so that every method ends its schedule when its
time ends, however dear its steps are. A run that is interrupted goes on from its newest checkpoint.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from aif_dcpc.configuration import composed
from aif_dcpc.devices import set_up
from aif_dcpc.runs import RunFolder, open_run
from aif_dcpc.schema import EvaluateConfig, TrainConfig, evaluate_config, train_config
from aif_dcpc.training.image_loop import ImageLoop
from aif_dcpc.training.image_run import create_image_run, make_loop

SAVE_EVERY = 120.0  # seconds of processor time between checkpoints
UNKNOWN = 10**9  # steps expected as long as too few were timed


@dataclass(frozen=True)
class Spent:
    """What a run took: learning steps, and seconds of processor time within them."""

    steps: int
    cpu_seconds: float


def training(overrides: Iterable[str]) -> TrainConfig:
    """The configuration of `aif-train` with these overrides, its epochs set by the budget."""
    return replace(train_config(composed("train", *overrides)), epochs=1)


def evaluation(overrides: Iterable[str]) -> EvaluateConfig:
    """The configuration of `aif-evaluate` with these overrides."""
    return evaluate_config(composed("evaluate", *overrides))


def learn_for(config: TrainConfig, cpu_seconds: float) -> Spent:
    """Learn in `config.run_dir` until the steps have taken so much processor time; a folder that is there goes on.

    Raises:
        UserError: the folder is damaged or does not fit.
        NonFiniteError: learning broke down.
    """
    config = replace(config, device=set_up(config.device, config.threads))
    folder = open_run(str(config.run_dir)) if Path(str(config.run_dir)).exists() else create_image_run(config)
    loop, checkpoint = make_loop(config), folder.load_checkpoint()
    loop.restore(checkpoint)
    spent = saved = float(checkpoint.get("cpu_seconds", 0.0))
    while spent < cpu_seconds:
        spent += _timed_step(loop, spent / cpu_seconds)
        if spent - saved > SAVE_EVERY or spent >= cpu_seconds:
            saved = _save(folder, loop, spent)
    return Spent(loop.progress.step, spent)


def _timed_step(loop: ImageLoop, share: float) -> float:
    """One learning step when `share` of the budget is spent; its seconds of processor time."""
    step = loop.progress.step
    loop.total_steps = max(step + 1, round(step / share)) if step > 2 else UNKNOWN
    start = time.process_time()
    loop.step()
    return time.process_time() - start


def _save(folder: RunFolder, loop: ImageLoop, spent: float) -> float:
    folder.save_checkpoint(loop.progress.step, {**loop.state(), "cpu_seconds": spent, "metrics_length": 0})
    return spent
