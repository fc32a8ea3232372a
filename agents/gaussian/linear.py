"""A site type: values that follow from the state and the action before, linear in features.

    outcome[t] = base + scale * (phi(state[t - 1], action[t - 1]) @ weights + noise)

where base is the state itself, for a state that changes, or nothing. Weights `(F, D)` and noise
`(D,)` are global sites, drawn together given the whole series, in closed form: moves that change
weights alone, given a series, hardly move.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, InverseGamma, Normal

from aif_dcpc.agents.gaussian.features import Features, inputs_of
from aif_dcpc.agents.gaussian.regression import RATE, SHAPE, Regression, Sums
from aif_dcpc.inference import GraphicalModel


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A site that is linear in features.

    Attributes:
        site: its name; its weights are called `site.weights`, its noise `site.noise`.
        features: phi, with scales.
        num_actions: of a Discrete action space; None for a Box.
        breaks: inputs that are 1 where the site does not follow from the slice before.
        changes: whether it is the state, and what is predicted its change.
    """

    site: str
    features: Features
    num_actions: int | None
    breaks: tuple[str, ...]
    changes: bool

    @property
    def block(self) -> tuple[str, str]:
        """Names of the weights and of the noise."""
        return f"{self.site}.weights", f"{self.site}.noise"

    def declare_globals(self, model: GraphicalModel) -> "WeightsGivenSeries":
        """Add weights, noise, and the exact draw of both."""
        weights, noise = self.block
        model.add_site(noise, self.noise, scope="global")
        model.add_site(weights, self.weights, [noise], scope="global")
        conditional = WeightsGivenSeries(self)
        model.add_conditional(self.block, conditional)
        return conditional

    def phi(self, state: Tensor, action: Tensor) -> Tensor:
        """Features of states `(..., D)` and actions, `(..., F)`."""
        return self.features(inputs_of(state, action, self.num_actions))

    def noise(self) -> Distribution:
        """Prior of the noise variances, `(D,)`."""
        rate = torch.full_like(self.features.change, RATE)
        return Independent(InverseGamma(torch.full_like(rate, SHAPE), rate), 1)

    def weights(self, noise: Tensor) -> Distribution:
        """Prior of the weights `(..., F, D)` given noise `(..., D)`."""
        scale = self.features.prior_scale[:, None] * noise.sqrt()[..., None, :]
        return Independent(Normal(torch.zeros_like(scale), scale), 2)

    def first(self, *given: Tensor) -> Distribution:
        """Law of the first slice, given breaks `(1, B, T)`, weights and noise: anything usual."""
        shape = torch.broadcast_shapes(*(flag.shape for flag in given[:-2]), given[-1].shape[:-1])
        centre, spread = self._usual()
        return Independent(Normal(centre.expand(*shape, -1), spread.expand(*shape, -1)), 1)

    def next(self, state: Tensor, action: Tensor, *given: Tensor) -> Distribution:
        """Law of what follows, `(K, B, T, D)`.

        Args:
            state: `(K or 1, B, T, D)`.
            action: `(1, B, T)` numbers, or `(1, B, T, A)`.
            given: breaks `(1, B, T)` each, weights `(K, 1, 1, F, D)`, noise `(K, 1, 1, D)`.
        """
        weights, noise = given[-2:]
        change = self.features.change
        mean = change * (self.phi(state, action) @ weights[..., 0, :, :])
        if self.changes:
            mean = mean + state
        scale = (change * noise.sqrt()).expand_as(mean)
        broken = torch.stack(torch.broadcast_tensors(*given[:-2])).any(0)[..., None]
        centre, spread = self._usual()
        mean = torch.where(broken, centre, mean)
        return Independent(Normal(mean, torch.where(broken, spread, scale)), 1)

    def _usual(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation where the site does not follow from anything."""
        if not self.changes:
            return torch.zeros_like(self.features.change), self.features.change
        outputs = len(self.features.change)
        return self.features.centre[:outputs], self.features.spread[:outputs]

    def rows(self, values: Mapping[str, Tensor], start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the transitions from slice `start` on teach.

        Returns:
            inputs `(K or 1, B, N, I)`, outputs `(K or 1, B, N, D)` in units of change, and which of
            them count, `(1, B, N)`.
        """
        state = values["state"][:, :, start:-1]
        inputs = inputs_of(state, values["action"][:, :, start:-1], self.num_actions)
        outputs = values[self.site][:, :, start + 1 :]
        if self.changes:
            outputs = outputs - state
        broken = torch.stack([values[name][:, :, start + 1 :] for name in self.breaks]).any(0)
        return inputs, outputs / self.features.change, ~broken


@dataclass
class WeightsGivenSeries:
    """Draw weights and noise together given a series, `draw(values, generator)` of the engine.

    What the posterior needs of the series is summed once: where a series has only grown since the
    last call, the new slices are added, and a step costs O(F^2) to sum and O(F^3 / 3) to factor,
    whatever the length. A series that differs from the last one in its past, or features that have
    changed, are summed anew.

    Attributes:
        linear: the site.
        last: what was summed.
    """

    linear: Linear
    last: "Summed | None" = field(default=None, init=False)

    def __call__(
        self, values: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Draw weights `(K, 1, F, D)` and noise `(K, 1, D)`, or one for each datum."""
        names = self.linear.block
        size = values[names[0]].shape[:2]
        drawn = self.posterior(values, shared=size[1] == 1).draw(*size, generator=generator)
        return dict(zip(names, drawn, strict=True))

    def posterior(self, values: Mapping[str, Tensor], *, shared: bool = True) -> Regression:
        """Condition weights and noise on a series.

        Returns:
            one posterior where all particles have the same series, else one each, `(K, 1)`; where
            weights are not `shared` by data, `(K or 1, B)`.
        """
        self.last = self._summed({name: values[name] for name in self.names}, shared)
        return self.last.regression

    @property
    def names(self) -> set[str]:
        """What the draw reads."""
        return {"state", "action", self.linear.site, *self.linear.breaks}

    def _summed(self, series: Mapping[str, Tensor], shared: bool) -> "Summed":
        last = self.last
        if last is None or not shared or not last.begins(series, self.linear.features):
            return Summed.of(series, self.linear, self._sums(series, 0, shared))
        if last.length == series["state"].shape[2]:
            return last
        new = self._sums(series, last.length - 1, shared)
        return Summed.of(series, self.linear, last.sums + new)

    def _sums(self, series: Mapping[str, Tensor], start: int, shared: bool) -> Sums:
        """Sum over the transitions from slice `start` on, and over data that share weights."""
        inputs, outputs, used = self.linear.rows(series, start)
        phi = self.linear.features(inputs)
        sums = Sums.of(phi, outputs, used.expand(phi.shape[:-1]))
        if not shared:
            return sums
        pooled = sums.pooled()
        return pooled.only() if len(pooled.count) == 1 else pooled

    def predict(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of what follows, `(..., D)` each.

        Args:
            state: `(..., D)`.
            action: a number `(...)`, or `(..., A)`.
        """
        assert self.last is not None
        regression = self.last.regression
        phi = self.linear.phi(state, action)
        change = self.linear.features.change
        mean = change * (phi @ regression.mean)
        unknown = (phi @ regression.whitening.mT).square().sum(-1, keepdim=True)
        spread = change * (regression.noise * (1 + unknown)).sqrt()
        return (state + mean if self.linear.changes else mean), spread

    # -- keeping -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any] | None:
        """Sums, which would come out with other last digits if they were made anew."""
        return None if self.last is None else dict(vars(self.last.sums))

    def load_state_dict(
        self, kept: Mapping[str, Any] | None, values: Mapping[str, Tensor] | None
    ) -> None:
        """Restore what `state_dict` gave, for the same series."""
        self.last = None
        if kept is not None and values is not None:
            series = {name: values[name] for name in self.names}
            self.last = Summed.of(series, self.linear, Sums(**kept))


@dataclass(frozen=True)
class Summed:
    """A series, what was summed of it, and what follows.

    Attributes:
        series: what the sums are of.
        projection: of the features that were summed.
        regression: the posterior.
    """

    series: Mapping[str, Tensor]
    projection: Tensor
    sums: Sums
    regression: Regression

    @classmethod
    def of(cls, series: Mapping[str, Tensor], linear: Linear, sums: Sums) -> "Summed":
        """Condition weights and noise on sums."""
        posterior = Regression.given(sums, linear.features.prior_scale)
        return cls(dict(series), linear.features.projection, sums, posterior)

    @property
    def length(self) -> int:
        """How many slices the series has."""
        return self.series["state"].shape[2]

    def begins(self, series: Mapping[str, Tensor], features: Features) -> bool:
        """Whether another series goes on from here, in the same features.

        The last action does not count: nothing follows from it yet.
        """
        same = features.projection is self.projection and self.sums.count.ndim == 0
        if not same or len(series["state"]) > 1:
            return False
        told = {name: self.length - (name == "action") for name in series}
        return all(
            series[name].shape[2] >= self.length
            and torch.equal(value[:, :, : told[name]], series[name][:, :, : told[name]])
            for name, value in self.series.items()
        )
