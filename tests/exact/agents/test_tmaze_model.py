"""The T-maze as it is declared: where actions lead, what is shown there, what is wished for; trajectories that live on."""

import gymnasium
import pytest
import torch

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.imagined_steps import ImaginedSteps
from aif_dcpc.agents.tmaze import (
    CENTRE,
    CUE,
    LEFT,
    OVER,
    RIGHT,
    arrive,
    build,
    in_arm,
    point,
    show_cue,
    show_outcome,
    tmaze_model,
)

EVERY = torch.arange(5)
SPACE = gymnasium.spaces.Dict(
    {
        name: gymnasium.spaces.Discrete(number)
        for name, number in (("location", 5), ("cue", 3), ("outcome", 3))
    }
)


def test_one_goes_on_until_an_arm_is_entered() -> None:
    assert in_arm(EVERY).tolist() == [False, True, True, False, False]
    for location in (CENTRE, CUE):
        goes = arrive(torch.full((5,), location), EVERY).probs.argmax(-1)
        assert goes.tolist() == EVERY.tolist()
    for location in (LEFT, RIGHT, OVER):
        assert set(arrive(torch.full((4,), location), EVERY[:4]).probs.argmax(-1).tolist()) == {
            OVER
        }


def test_a_cue_points_as_it_is_trusted_and_is_shown_where_it_is() -> None:
    side, trust = torch.tensor([0, 1]), torch.tensor([0.9, 0.7])
    assert point(side, trust).probs.tolist() == pytest.approx([0.1, 0.7])
    for pointed in (0.0, 1.0):
        at = torch.full((5,), pointed)
        mark = 1 + int(pointed)
        assert show_cue(EVERY, at, at_centre=False).probs.argmax(-1).tolist() == [0, 0, 0, mark, 0]
        assert show_cue(EVERY, at, at_centre=True).probs.argmax(-1).tolist() == [
            mark,
            0,
            0,
            mark,
            0,
        ]


def test_the_baited_arm_rewards() -> None:
    for side, expected in ((0, [0, 2, 1, 0, 0]), (1, [0, 1, 2, 0, 0])):
        shown = show_outcome(EVERY, torch.full((5,), side)).probs
        assert shown.argmax(-1).tolist() == expected and (shown.max(-1).values == 1).all()


def agent_of(**settings: object) -> object:
    return build(SPACE, 4, {}, {"inference": {"num_particles": 40}, **settings}, 0)


def test_reward_is_wished_for_and_its_absence_is_not() -> None:
    """Preferences 0, -wish and wish, as log probabilities; settings reach the planner and the model."""
    agent = agent_of(wish=2.0, horizon=2, discount=0.5, cue_at_centre=True)
    found = agent.preferences["outcome"]
    assert torch.allclose(found, torch.tensor([0.0, -2.0, 2.0]).log_softmax(0))
    planner = agent.deliberation.planners[0]
    assert planner.horizon == 2 and planner.discount == 0.5
    with pytest.raises(AgentError, match="no 'cue'"):
        build(gymnasium.spaces.Dict({"location": SPACE["location"]}), 4, {}, {}, 0)


def looked(**settings: object) -> object:
    agent = agent_of(**settings)
    agent.begin(seed=0)
    agent.act({"location": 0, "cue": 0, "outcome": 0})
    return agent


def test_trajectories_live_on_by_their_own_actions() -> None:
    """Each with the side and the trust of its particle; outcomes and locations by the definition."""
    agent = looked()
    steps = ImaginedSteps(agent.life, torch.Generator().manual_seed(0))
    assert steps.depth == 1 and set(steps.carried) >= {
        "side",
        "trust",
        "location",
        "outcome",
        "action",
    }
    held = steps.begin(300)
    assert held["location"].shape == (300, 1) and held["trust"].shape == (300,)
    assert not held["location"].any()
    action = torch.arange(300) % 4
    after = steps.step(held, action)
    assert after["location"][:, 0].tolist() == action.tolist()
    assert torch.equal(after["side"], held["side"]) and torch.equal(after["trust"], held["trust"])
    side = held["side"].flatten()
    expected = torch.where(in_arm(action), torch.where((action == RIGHT) == (side == 1), 2, 1), 0)
    assert torch.equal(after["outcome"][:, 0], expected)
    shown = torch.where(action == CUE, 1 + held["pointed"].flatten().long(), 0)
    assert torch.equal(after["cue"][:, 0], shown)
    last = steps.step(after, torch.full((300,), CUE))
    goes_on = ~in_arm(action)
    assert torch.equal(last["location"][:, 0], torch.where(goes_on, CUE, OVER))
    assert 0.3 < float(held["side"].float().mean()) < 0.7  # drawn by weight, all alike


def test_what_cannot_be_imagined_is_said() -> None:
    with pytest.raises(AgentError, match="nothing to imagine from"):
        ImaginedSteps(agent_of().life, torch.Generator())
    model = tmaze_model(cue_at_centre=True)
    assert set(model.sites) == {"action", "trust", "side", "pointed", "location", "cue", "outcome"}
