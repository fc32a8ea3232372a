"""Walk through the code with one observation and note which files it meets: `python docs/walks.py`.

The walks of docs/structure.md, measured: every call of a function of the project, in order. A call
crosses from one file to another if its nearest caller of the project stands in another file; what
is called by torch in between counts as called by whoever called torch.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.distributions import Normal

from aif_dcpc import agents, envs
from aif_dcpc.agent_runs.assembly import agent_metadata
from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.learning import Learner
from aif_dcpc.inference.stores import ParticleStore

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("aif_dcpc", "agents", "envs", "inference")  # a virtual environment may lie beside them
SET_UP = ("agents/gridworld/filter.py", "set_up")


@dataclass
class Walk:
    """What ran, in order.

    Attributes:
        calls: file, from the root on, and function of every call.
        crossings: how many of these calls came from another file.
    """

    calls: list[tuple[str, str]] = field(default_factory=list)
    crossings: int = 0

    @property
    def files(self) -> dict[str, list[str]]:
        """Functions of every file, both in the order in which they were first called."""
        found: dict[str, list[str]] = {}
        for file, function in dict.fromkeys(self.calls):
            found.setdefault(file, []).append(function)
        return found

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note one call, as `sys.setprofile` reports it."""
        file = _file_of(frame)
        if event != "call" or file is None or "<" in frame.f_code.co_name:
            return
        self.calls.append((file, frame.f_code.co_qualname.replace(".<locals>", "")))
        caller = frame.f_back
        while caller is not None and _file_of(caller) is None:
            caller = caller.f_back
        self.crossings += caller is None or _file_of(caller) != file


def _file_of(frame: FrameType) -> str | None:
    """The file of a function of the project, from the root on."""
    return _project_file(frame.f_code.co_filename)


@cache
def _project_file(name: str) -> str | None:
    path = Path(name)
    if not any(path.is_relative_to(ROOT / folder) for folder in FOLDERS):
        return None
    return path.relative_to(ROOT).as_posix()


def follow(action: Callable[[], object]) -> Walk:
    """Note every call of an action."""
    walk = Walk()
    sys.setprofile(walk.note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return walk


def joined(walks: list[Walk]) -> Walk:
    """Several walks, one after the other; the crossings of one of them on average."""
    calls = [call for walk in walks for call in walk.calls]
    return Walk(calls, round(sum(walk.crossings for walk in walks) / len(walks)))


def engine() -> Walk:
    """Clamp a series of 20 slices, and sweep once: the model of the README."""
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(0.9 * s, 0.5),
        parents=[lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 1.0), parents=["s"], scope="slice")
    data = {"o": torch.linspace(-1, 1, 20)[None]}
    first = DCPC(model, num_particles=8)
    second = DCPC(model, num_particles=8)
    first.sweep(first.init(data, seed=0))  # torch loads parts of itself at their first use
    return follow(lambda: second.sweep(second.init(data, seed=0)))


def agent() -> Walk:
    """Act in the middle of an episode on six observations that show nothing new.

    What is new makes the vocabulary grow, and the engine is then set up afresh on the way.
    """
    generator = torch.Generator().manual_seed(0)
    env = envs.make("MiniGrid")
    acting = agents.make(
        "hierarchical",
        observation_space=env.observation_space,
        action_space=env.action_space,
        metadata=agent_metadata(env),
        settings={},
        seed=0,
    )
    acting.begin(seed=0)
    observation, _ = env.reset(seed=5)
    walks: list[Walk] = []
    for step in range(40):
        walk = follow(lambda seen=observation: acting.act(seen))
        if step > 5 and SET_UP not in walk.calls:
            walks.append(walk)
        acting.action = int(torch.randint(3, (1,), generator=generator))
        observation, reward, terminated, truncated, _ = env.step(acting.action)
        acting.feedback(observation, float(reward), terminated, truncated)
        if len(walks) == 6:
            break
    return joined(walks)


def learner() -> Walk:
    """Learn from one batch of eight data."""
    model = GraphicalModel()
    decoder = nn.Linear(2, 5)
    model.add_site("z", lambda: Normal(torch.zeros(2), 1.0))
    model.add_site("x", lambda z: Normal(decoder(z), 0.5), parents=["z"])
    inferring = DCPC(model, num_particles=4)
    data = {"x": torch.linspace(-1, 1, 40).view(8, 5)}
    state = inferring.init(data, seed=0)
    store = ParticleStore.like(state, 8)
    store.write(torch.arange(8), state.values)
    optimizer = torch.optim.SGD(decoder.parameters(), lr=0.01)
    learning = Learner(inferring, optimizer, state, store)
    return follow(lambda: learning.step(data, torch.arange(8)))


WALKS: dict[str, Callable[[], Walk]] = {"engine": engine, "agent": agent, "learner": learner}


def main() -> None:
    """Print every walk: its files, and the functions that ran in each."""
    for name, measure in WALKS.items():
        walk = measure()
        print(f"{name}: {len(walk.files)} files run, {walk.crossings} calls from file to file")
        for file, functions in walk.files.items():
            print(f"    {file}: {', '.join(functions)}")


if __name__ == "__main__":
    main()
