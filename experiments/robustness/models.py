"""Random malformed models and data: each is inferred, or refused by the engine's own errors, in bounded time.

python -m aif_dcpc.experiments.robustness.models --number 400 --seed 0
"""

import argparse
import random
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch.distributions import (
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    Poisson,
)

from aif_dcpc.commands.command import run_script
from aif_dcpc.inference import DCPC, GraphicalModel, InferenceError, every, lag

LONGEST = 60  # seconds

Kernel = Callable[..., Any]


def _sound(draw: random.Random) -> Kernel:
    """A kernel that is right, of a random kind."""
    return draw.choice(
        (
            lambda *p: Normal(sum(p, torch.zeros(())), 1.0),
            lambda *p: Normal(torch.zeros(3), 1.0),
            lambda *p: Independent(Normal(torch.zeros(3), 1.0), 1),
            lambda *p: Gamma(2.0, 1.0),
            lambda *p: Beta(2.0, 2.0),
            lambda *p: Categorical(torch.ones(3)),
            lambda *p: Dirichlet(torch.ones(3)),
            lambda *p: Poisson(torch.tensor(3.0)),
            lambda *p: MultivariateNormal(torch.zeros(2), torch.eye(2)),
        )
    )


def _unsound(draw: random.Random) -> Kernel:
    """A kernel with a fault of a random kind."""
    return draw.choice(
        (
            lambda *p: None,
            lambda *p: 3.0,
            lambda *p: Normal,
            lambda *p: torch.zeros(3),
            lambda *p: Normal(float("nan"), 1.0),
            lambda *p: Normal(0.0, torch.zeros(()) / 0),
            lambda *p: Normal(0.0, -1.0),
            lambda *p: Normal(torch.zeros(4), 1.0).expand((2, 4)),
            lambda *p: Normal(p[7], 1.0),
            lambda a, b, c, d, e: Normal(0.0, 1.0),
            lambda *p: Categorical(torch.zeros(3)),
            lambda *p: Categorical(logits=torch.full((3,), float("-inf"))),
            lambda *p: MultivariateNormal(torch.zeros(2), -torch.eye(2)),
            lambda *p: Dirichlet(torch.zeros(3)),
            lambda *p: dict[str, int]()["no such key"],
            lambda *p: [][1],
            lambda *p: 1 // 0,
            lambda *p: Normal(sum(x.numpy().sum() for x in p), 1.0),
            lambda *p: Normal(torch.zeros(draw.randint(1, 5)), 1.0),
        )
    )


def random_model(draw: random.Random) -> GraphicalModel:
    """A model of two to four sites, one or two of which may be malformed."""
    model = GraphicalModel()
    names = ["a", "b", "c", "d"][: draw.randint(2, 4)]
    for place, name in enumerate(names):
        kernel = _unsound(draw) if draw.random() < 0.25 else _sound(draw)
        scope = draw.choice(
            ("episode", "episode", "slice", "slice", "global", every(2), "odd", None)
        )
        known = names[:place]
        parents: list[Any] = draw.sample(known, draw.randint(0, len(known)))
        if draw.random() < 0.2:
            parents.append(draw.choice(("nobody", name, lag(name), lag("a", 3), 3, None)))
        more: dict[str, Any] = {} if draw.random() < 0.5 else {"initial": _sound(draw)}
        more |= {"scope": scope} if scope else {}
        model.add_site(name, kernel, parents, **more)
    return model


def random_data(draw: random.Random) -> dict[str, Any]:
    """Data that may not fit."""
    values: tuple[Any, ...] = (
        torch.zeros(2),
        torch.zeros(2, 3),
        torch.zeros(2, 4, 3),
        torch.full((2,), float("nan")),
        torch.full((2, 3), float("inf")),
        torch.zeros(0),
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, dtype=torch.bool),
        torch.full((2,), -7.0),
        torch.zeros(2, dtype=torch.complex64),
        [0.0, 1.0],
        "text",
        None,
        3.0,
    )
    return {name: draw.choice(values) for name in ("b", "c", "x") if draw.random() < 0.5}


@dataclass(frozen=True)
class Finding:
    """A model that ended as it should not."""

    seed: int
    what: str


def tried(seed: int) -> Finding | None:
    """Declare, clamp and sweep a random model; None if it ended well."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LONGEST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine = DCPC(random_model(draw), num_particles=draw.choice((1, 4)))
            length: dict[str, Any] = {"length": 3} if draw.random() < 0.3 else {}
            state = engine.init(random_data(draw), seed=seed, **length)
            engine.run(state, 3)
    except InferenceError as error:
        told = str(error)
        return Finding(seed, f"not one sentence: {told}") if "\n" in told or not told else None
    except BaseException:
        return Finding(seed, traceback.format_exc(limit=-3))
    finally:
        signal.alarm(0)
    return None


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {LONGEST} s")


def main() -> None:
    """Try random models, and print those that ended as they should not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.number)
    wrong = [finding for finding in map(tried, seeds) if finding is not None]
    for finding in wrong:
        print(f"seed {finding.seed}: {finding.what}")
    print(f"{options.number} tried, {len(wrong)} ended as they should not.")


if __name__ == "__main__":
    run_script(main)
