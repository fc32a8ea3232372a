"""Particles that have not arrived are told by their joint probability, and replaced by others."""

import torch
from small_corridor import AHEAD, grid

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.strays import log_joints, without_strays

LENGTH = 16
RIGHT = torch.tensor([0] + [AHEAD] * 8 + [0] * 7)


def corridor() -> History:
    """Eight steps ahead by action 1 and seven idle ones by action 2, a wall coming nearer in the view."""
    ahead = [8 - min(t, 8) for t in range(LENGTH)]
    rows = [[1 if a == place else 0 if a > place else -1 for place in (2, 1, 0)] for a in ahead]
    still = torch.zeros(LENGTH, dtype=torch.long)
    action = torch.tensor([0] + [1] * 8 + [2] * 7)
    view = torch.tensor([[*row, -1] for row in rows])
    seen = action, still, still, view, torch.ones(LENGTH).long(), still - 2
    return History(*seen, torch.zeros(2, dtype=torch.long))


def cloud(events: torch.Tensor) -> tuple[GridConditionals, GridParticles, History]:
    """Particles with some events."""
    world = grid()
    history = corridor()
    return world, world.replay(events, history, torch.Generator().manual_seed(0)), history


def test_the_truth_has_the_largest_joint_probability() -> None:
    idle = torch.zeros(LENGTH, dtype=torch.long)
    late = RIGHT.roll(3)
    world, particles, history = cloud(torch.stack([idle, RIGHT, late]))
    joints = log_joints(world, particles, history)
    assert int(joints.argmax()) == 1 and float(joints[1] - joints[[0, 2]].max()) > 10


def test_a_stray_is_replaced_by_one_of_the_others_and_they_stay() -> None:
    idle = torch.zeros(LENGTH, dtype=torch.long)
    world, particles, history = cloud(torch.stack([RIGHT, idle, RIGHT, idle]))
    weights = torch.tensor([0.0, 0.5, 0.5, 0.0])
    generator = torch.Generator().manual_seed(0)
    found = without_strays(world, particles, history, weights, generator)
    assert bool((found.events == RIGHT).all())
    for part in ("transition", "misread"):
        tables = getattr(found.tables, part)
        kept = getattr(particles.tables, part)
        assert torch.equal(tables[[0, 2]], kept[[0, 2]])
        assert torch.equal(tables[[1, 3]], kept[[2, 2]])  # the only other one with weight


def test_particles_that_are_alike_stay_as_they_are() -> None:
    world, particles, history = cloud(RIGHT.expand(4, -1).contiguous())
    found = without_strays(
        world, particles, history, torch.full((4,), 0.25), torch.Generator().manual_seed(0)
    )
    assert found is particles
