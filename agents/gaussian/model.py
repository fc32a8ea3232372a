"""The declared world: what a state and an action lead to is linear in features of the two.

    slice   state     (D,)    state[t - 1] + change * (phi(state[t - 1], action[t - 1]) @ weights + noise)
    slice   outcome   (2,)    reward and end of the step, where they are to be learned, in the same way
    input   action            chosen after the state of its slice was seen
    input   reset             1 where an episode begins
    input   ended             1 where one has ended: the step before may have been cut short

A life is one series: weights and noise are learned over all episodes (see `linear`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.agents.gaussian.features import Features
from aif_dcpc.agents.gaussian.linear import Linear, WeightsGivenSeries
from aif_dcpc.inference import GraphicalModel, lag
from aif_dcpc.inference.model.graph import Parent

OUTCOMES = 2  # reward, ended


@dataclass(frozen=True, kw_only=True)
class World:
    """A declared world, and what draws its weights.

    Attributes:
        model: the graph.
        learned: what is linear in features, by its site's name: "state", and maybe "outcome".
    """

    model: GraphicalModel
    learned: dict[str, WeightsGivenSeries]

    def features(self, site: str) -> Features:
        """Return the features that a site is linear in."""
        return self.learned[site].linear.features


def declare(
    *,
    num_states: int,
    num_inputs: int,
    num_actions: int | None,
    num_waves: int,
    outcomes: bool,
    generator: torch.Generator,
) -> World:
    """Declare a world whose state is observed.

    Args:
        num_states: D.
        num_inputs: I, of state and action together.
        num_actions: of a Discrete action space; None for a Box.
        num_waves: R.
        outcomes: whether rewards and ends are to be learned.
        generator: draws the directions of the waves.
    """
    model = GraphicalModel()
    for name in ("action", "reset", "ended"):
        model.add_input(name)
    sites: dict[str, tuple[int, tuple[str, ...]]] = {"state": (num_states, ("reset", "ended"))}
    if outcomes:
        sites["outcome"] = (OUTCOMES, ("reset",))
    learned = {}
    for name, (outputs, breaks) in sites.items():
        linear = Linear(
            site=name,
            features=Features(num_inputs, outputs, num_waves, generator),
            num_actions=num_actions,
            breaks=breaks,
            changes=name == "state",
        )
        learned[name] = linear.declare_globals(model)
        _declare_slices(model, linear)
    model.add_slice_proposal(NextSlice([found.linear for found in learned.values()]))
    return World(model=model, learned=learned)


def _declare_slices(model: GraphicalModel, linear: Linear) -> None:
    """Add the site itself."""
    parents: list[Parent] = [lag("state"), lag("action"), *linear.breaks, *linear.block]
    model.add_site(linear.site, linear.next, parents, initial=linear.first, scope="slice")


@dataclass(frozen=True)
class NextSlice:
    """One more slice of a world that is seen as it is: no latent to draw, particles weighed.

    Attributes:
        linear: all sites of slices.
    """

    linear: Sequence[Linear]

    def __call__(
        self,
        values: Mapping[str, Tensor],
        observation: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return no new values, and the log density of what is seen at every particle, `(K, B)`."""
        total = torch.zeros(())
        for linear in self.linear:
            before = (values[name][:, :, -1:] for name in ("state", "action"))
            breaks = (observation[name][None, :, None] for name in linear.breaks)
            learned = (values[name][:, :, None] for name in linear.block)
            law = linear.next(*before, *breaks, *learned)
            total = total + law.log_prob(observation[linear.site][None, :, None])[:, :, 0]
        return {}, total
