"""An agent for the T-maze: a model, preferences, a planner; everything else is general.

How far the cue can be trusted, which arm is baited and where the cue points are inferred from all
that was ever seen.
"""

import functools

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Beta, Categorical, Distribution

from aif_dcpc.agents.requirements import TMAZE, TMAZE_STREAMS
from aif_dcpc.agents.seeker import Seeker
from aif_dcpc.inference import GraphicalModel, lag

CENTRE, LEFT, RIGHT, CUE, OVER = range(5)  # an episode is over after an arm
TRY_WITH = {"inference": {"num_particles": 8}}  # quick to try


def in_arm(location: Tensor) -> Tensor:
    """Tell whether a location is an arm."""
    return (location == LEFT) | (location == RIGHT)


def point(side: Tensor, trust: Tensor) -> Distribution:
    """Let the cue point to the baited side with probability `trust`."""
    return Bernoulli(torch.where(side == 1, trust, 1 - trust))


def arrive(location: Tensor, action: Tensor) -> Distribution:
    """Go where the action says; nowhere after an arm."""
    goes_on = (location == CENTRE) | (location == CUE)
    return Categorical(torch.eye(5)[torch.where(goes_on, action, OVER)])


def show_cue(location: Tensor, pointed: Tensor, *, at_centre: bool) -> Distribution:
    """Show the cue where it is: 1 for left, 2 for right, 0 elsewhere."""
    shown = (location == CUE) | ((location == CENTRE) & at_centre)
    return Categorical(torch.eye(3)[torch.where(shown, 1 + pointed.long(), 0)])


def show_outcome(location: Tensor, side: Tensor) -> Distribution:
    """Reward (2) in the baited arm, none (1) in the other, 0 elsewhere."""
    won = (location == RIGHT) == (side == 1)
    return Categorical(torch.eye(3)[torch.where(in_arm(location), 1 + won.long(), 0)])


def tmaze_model(*, cue_at_centre: bool = False) -> GraphicalModel:
    """Declare what is known of the T-maze; how far to trust its cue is not.

    Args:
        cue_at_centre: whether the cue is shown at the centre as well.
    """
    show = functools.partial(show_cue, at_centre=cue_at_centre)
    model = GraphicalModel()
    model.add_input("action")
    model.add_site("trust", lambda: Beta(2.0, 1.0), scope="global")
    model.add_site("side", lambda: Bernoulli(0.5), scope="episode")  # 1: the right arm is baited
    model.add_site("pointed", point, ["side", "trust"], scope="episode")
    model.add_site(
        "location",
        arrive,
        [lag("location"), lag("action")],
        initial=lambda: Categorical(torch.eye(5)[CENTRE]),
        scope="slice",
    )
    model.add_site("cue", show, ["location", "pointed"], scope="slice")
    model.add_site("outcome", show_outcome, ["location", "side"], scope="slice")
    return model


build = Seeker("tmaze", tmaze_model, TMAZE_STREAMS, TMAZE)
