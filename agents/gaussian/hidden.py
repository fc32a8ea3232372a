"""A world whose velocities are hidden: positions are a latent series, inferred from all that was ever seen.

    latent  x       (D,)  2 x[t-1] - x[t-2] + change * (phi(z[t-1], action[t-1]) @ weights + noise)
    slice   seen    (D,)  x + what is added to it when it is looked at
    where   z[t] = (x[t], x[t] - x[t-1], action[t-1])

What a position gains in a step is its velocity. The action before is part of z, since a velocity that
an action changes may show in positions a step later only. Weights and noise are drawn exactly given
the series of positions, the positions by the engine's sweeps given them, over the full history.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import one_hot

from aif_dcpc.agents.gaussian.features import Features
from aif_dcpc.agents.gaussian.linear import Linear, Summed, WeightsGivenSeries
from aif_dcpc.agents.gaussian.model import World
from aif_dcpc.agents.gaussian.regression import Regression
from aif_dcpc.inference import GraphicalModel, lag
from aif_dcpc.inference.model.graph import Parent

X = "x"
SEEN = "seen"
UNSURE = 3.0  # times the usual velocity: what a position may gain where nothing is known of it


@dataclass(frozen=True, kw_only=True)
class HiddenLinear(Linear):
    """Positions whose acceleration is linear in features of z and the action.

    Attributes:
        blur: `(D,)` standard deviation of what is added to positions when they are looked at.
    """

    blur: Tensor

    @property
    def num_positions(self) -> int:
        """How many positions there are, D."""
        return len(self.blur)

    def actions(self, action: Tensor) -> Tensor:
        """Actions as numbers, `(..., A)`."""
        if self.num_actions is not None:
            action = one_hot(action.long(), self.num_actions)
        return action.to(self.features.centre.dtype)

    def inputs(self, x: Tensor, past: Tensor, action: Tensor, before: Tensor) -> Tensor:
        """Join z and the action, `(..., I)`."""
        parts = (x, x - past, self.actions(before), self.actions(action))
        shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return torch.cat([part.expand(*shape, -1) for part in parts], -1)

    def next(self, *given: Tensor) -> Distribution:
        """Law of what follows, `(K, B, T, D)`.

        Args:
            given: x and the one before, action and the one before, whether an episode begins, has
                ended, or began in the slice before `(1, B, T)`; weights `(K, 1, 1, F, D)` and noise
                `(K, 1, 1, D)`.
        """
        x, past, action, before, reset, ended, second, weights, noise = given
        change = self.features.change
        phi = self.features(self.inputs(x, past, action, before))
        mean = 2 * x - past + change * (phi @ weights[..., 0, :, :])
        scale = (change * noise.sqrt()).expand_as(mean)
        unsure = ((ended > 0) | (second > 0))[..., None]
        mean = torch.where(unsure, x, mean)
        scale = torch.where(unsure, UNSURE * self.velocity, scale)
        centre, spread = self._usual()
        begins = (reset > 0)[..., None]
        mean = torch.where(begins, centre, mean)
        return Independent(Normal(mean, torch.where(begins, spread, scale)), 1)

    @property
    def velocity(self) -> Tensor:
        """How much positions usually gain in a step, `(D,)`."""
        size = self.num_positions
        return self.features.spread[size : 2 * size]

    def _usual(self) -> tuple[Tensor, Tensor]:
        size = self.num_positions
        return self.features.centre[:size], 2 * self.features.spread[:size]

    def rows(self, values: Mapping[str, Tensor], start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the slices from `start + 2` on teach: inputs, outputs, which of them count."""
        x = values[X][:, :, start:]
        action = values["action"][:, :, start:]
        inputs = self.inputs(x[:, :, 1:-1], x[:, :, :-2], action[:, :, 1:-1], action[:, :, :-2])
        outputs = x[:, :, 2:] - 2 * x[:, :, 1:-1] + x[:, :, :-2]
        reset = values["reset"][:, :, start:]
        ended = values["ended"][:, :, start:]
        broken = (reset[:, :, 2:] > 0) | (ended[:, :, 2:] > 0) | (reset[:, :, 1:-1] > 0)
        return inputs, outputs / self.features.change, (~broken).expand(inputs.shape[:-1])


@dataclass
class HiddenWeights(WeightsGivenSeries):
    """Draw weights and noise given each particle's own series, summed anew, since all of it may have moved.

    Attributes:
        held: whether new slices leave weights and noise as they are, since nothing is learned.
    """

    held: bool = field(default=False, init=False)

    def _summed(self, series: Mapping[str, Tensor], shared: bool) -> Summed:
        return Summed.of(series, self.linear, self._sums(series, 0, shared))

    @property
    def names(self) -> set[str]:
        """What the draw reads."""
        return {X, "action", "reset", "ended"}

    def first(self) -> Regression:
        """The posterior given the first particle's series."""
        assert self.last is not None
        found = self.last.regression
        if found.mean.ndim == 2:
            return found
        parts = {name: getattr(found, name)[0, 0] for name in ("root", "mean", "shape", "rate")}
        return Regression(prior_scale=found.prior_scale, **parts)


@dataclass(frozen=True)
class NextPosition:
    """One more slice: positions drawn given what is seen, with weights integrated out, then these.

    Positions drawn under weights of the past would follow them wherever they are not yet known, and
    the next weights these positions. Where weights are held, they are drawn under these.
    """

    conditional: HiddenWeights

    @property
    def linear(self) -> HiddenLinear:
        """The law of positions."""
        assert isinstance(self.conditional.linear, HiddenLinear)
        return self.conditional.linear

    def __call__(
        self,
        values: Mapping[str, Tensor],
        observation: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return positions `(K, B, T + 1, D)`, weights and noise, and the log density of what is seen."""
        mean, variance = self._predicted(values, observation)
        blur = self.linear.blur.square()
        seen = observation[SEEN][None]
        total = variance + blur
        centre = mean + variance / total * (seen - mean)
        noise = torch.randn(centre.shape, generator=generator, dtype=centre.dtype)
        new = centre + (variance * blur / total).sqrt() * noise
        log_weights = Normal(mean, total.sqrt()).log_prob(seen).sum(-1)
        longer = {X: torch.cat([values[X], new[:, :, None]], 2)}
        longer["action"] = torch.cat([values["action"], values["action"][:, :, -1:]], 2)
        for name in ("reset", "ended"):
            told = observation[name][None, :, None].to(values[name])
            longer[name] = torch.cat([values[name], told], 2)
        if self.conditional.held:
            return {X: longer[X]}, log_weights
        learned = self.conditional({**values, **longer}, generator)
        return {X: longer[X], **learned}, log_weights

    def _predicted(
        self, values: Mapping[str, Tensor], observation: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of the next positions, weights integrated out or held, `(K, B, D)`."""
        x = values[X]
        past = x[:, :, -2:] if x.shape[2] > 1 else torch.cat([x, x], 2)
        action = values["action"]
        actions = action[:, :, -2:] if x.shape[2] > 1 else torch.cat([action, action], 2)
        begins = (
            torch.ones(1, x.shape[1], 1)
            if x.shape[2] == 1
            else 0 * observation["reset"][None, :, None]
        )
        told = [observation[name][None, :, None] for name in ("reset", "ended")]
        told[0] = told[0] + begins
        weights, noise = (values[name] for name in self.linear.block)
        spread = noise
        if not self.conditional.held:
            posterior = self.conditional.posterior(values, shared=weights.shape[1] == 1)
            weights = posterior.mean.expand(len(x), 1, *posterior.mean.shape[-2:])
            inputs = self.linear.inputs(
                past[:, :, -1:], past[:, :, :1], actions[:, :, -1:], actions[:, :, :1]
            )
            phi = self.linear.features(inputs)[:, :, 0]
            unknown = (phi[..., None, :] @ posterior.whitening.mT).square().sum((-2, -1))
            spread = noise * (1 + unknown[..., None])
        law = self.linear.next(
            past[:, :, -1:],
            past[:, :, :1],
            actions[:, :, -1:],
            actions[:, :, :1],
            *told,
            values["reset"][:, :, -1:],
            weights[:, :, None],
            spread[:, :, None],
        )
        assert isinstance(law, Independent)
        return law.base_dist.loc[:, :, 0], law.base_dist.scale[:, :, 0].square()


def declare_hidden(
    *,
    blur: Tensor,
    num_inputs: int,
    num_actions: int | None,
    num_waves: int,
    generator: torch.Generator,
) -> World:
    """Declare a world of which positions are seen.

    Args:
        blur: `(D,)` standard deviation of what is added to each position when it is looked at.
        num_inputs: I, of z and an action together.
        num_actions: of a Discrete action space; None for a Box.
        num_waves: R.
        generator: draws the directions of the waves.
    """
    model = GraphicalModel()
    for name in ("action", "reset", "ended"):
        model.add_input(name)
    linear = HiddenLinear(
        site=X,
        features=Features(num_inputs, len(blur), num_waves, generator),
        num_actions=num_actions,
        breaks=("reset", "ended"),
        changes=True,
        blur=blur,
    )
    weights, noise = linear.block
    model.add_site(noise, linear.noise, scope="global")
    model.add_site(weights, linear.weights, [noise], scope="global")
    conditional = HiddenWeights(linear)
    model.add_conditional(linear.block, conditional)
    past: list[Parent] = [lag(X), lag(X, 2), lag("action"), lag("action", 2)]
    flags: list[Parent] = ["reset", "ended", lag("reset")]
    model.add_site(
        X,
        linear.next,
        [*past, *flags, *linear.block],
        initial=linear.first,
        scope="slice",
    )
    model.add_site(SEEN, Looking(linear), [X], scope="slice")
    model.add_slice_proposal(NextPosition(conditional))
    return World(model=model, learned={"state": conditional})


@dataclass(frozen=True)
class Looking:
    """The law of what is seen of positions."""

    linear: HiddenLinear

    def __call__(self, x: Tensor) -> Distribution:
        """Return Normal(x, blur), `(K, B, T, D)`."""
        return Independent(Normal(x, self.linear.blur.expand_as(x)), 1)


# -- planning --------------------------------------------------------------------------------------


@dataclass
class WholeState:
    """The same world as one whose state z is seen: what is known of it beside what is learned.

    Positions gain their velocity, and the action before is the action. The noise of a step shows in
    positions one step later than in velocities.

    Attributes:
        linear: what is learned.
        features: of z and action, with the change of all of z as unit.
    """

    linear: HiddenLinear
    features: Features | None = field(default=None, init=False)
    of: Tensor | None = field(default=None, init=False)

    def laid_out(self) -> Features:
        """Features whose outputs are all of z."""
        own = self.linear.features
        if self.features is None or self.of is not own.projection:
            found = copy.copy(own)
            found._buffers = dict(own._buffers)
            ones = torch.ones(self.num_actions, dtype=own.change.dtype)
            found._buffers["change"] = torch.cat([own.change, own.change, ones])
            self.features = found
            self.of = own.projection
        return self.features

    @property
    def num_actions(self) -> int:
        """How many numbers an action is, A."""
        return (self.linear.features.num_inputs - 2 * self.linear.num_positions) // 2

    def state(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return z in the last slice of the first world, `(K, D_z)`."""
        return self.states(values)[:, 0]

    def states(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return z in the last slice of every world, `(K, B, D_z)`."""
        x = values[X]
        now = x[:, :, -1]
        actions = self.linear.actions(values["action"])
        begins = (values["reset"][:, :, -1:] > 0) | (x.shape[2] == 1)
        gained = torch.where(begins, 0.0, now - x[:, :, -2:][:, :, 0])
        before = torch.where(begins, 0.0, actions[:, :, -2:][:, :, 0])
        return torch.cat([now, gained, before.expand(len(now), -1, -1)], -1)

    def weights(self, learned: Tensor) -> Tensor:
        """Return weights of all of z `(K, F, D_z)`, of those that are learned `(K, F, D)`."""
        size = self.linear.num_positions
        features = self.linear.features
        known = learned.new_zeros(features.num_features, size)
        for d in range(size):
            known[0, d] = features.centre[size + d] / features.change[d]
            known[1 + size + d, d] = features.spread[size + d] / features.change[d]
        copied = learned.new_zeros(features.num_features, self.num_actions)
        for a in range(self.num_actions):
            before = 2 * size + a
            now = before + self.num_actions
            copied[0, a] = features.centre[now] - features.centre[before]
            copied[1 + now, a] = features.spread[now]
            copied[1 + before, a] = -features.spread[before]
        copied = copied.expand(len(learned), -1, -1)
        return torch.cat([learned + known, learned, copied], -1)

    def noise(self, learned: Tensor) -> Tensor:
        """Return noise variances of all of z `(K, D_z)`."""
        nothing = learned.new_zeros(len(learned), self.num_actions)
        return torch.cat([torch.zeros_like(learned), learned, nothing], -1)


__all__: Sequence[str] = ["HiddenLinear", "HiddenWeights", "WholeState", "declare_hidden"]
