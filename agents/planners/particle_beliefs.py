"""Beliefs as weighted particles, many at once: what actions lead to, and beliefs after outcomes.

Beliefs lie along the batch axis of one cloud. Particles are carried on, never resampled, so that
what is global stays shared: a belief differs from another in where its particles are and in their
weights, which follow the likelihood of what would be seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.inference import State
from aif_dcpc.inference.model.graph import Site


@dataclass(frozen=True)
class Children:
    """Beliefs after some outcomes of each row, a belief with an action.

    Attributes:
        row: `(C,)` belief * A + action.
        chance: `(C,)`, in sum 1 for each row.
        beliefs: the beliefs themselves.
    """

    row: Tensor
    chance: Tensor
    beliefs: "ParticleBeliefs"


@dataclass(frozen=True)
class Futures:
    """What one step leads to from B beliefs by A actions.

    Attributes:
        drawn: random site with time -> `(K, B, A, *event)`, each particle's own.
        crossed: `(K, K, B, A)` nats, log density of particle i's outcomes under particle j's laws.
    """

    drawn: Mapping[str, Tensor]
    crossed: Tensor


@dataclass(frozen=True)
class ParticleBeliefs:
    """B beliefs over the present, as weights of K particles.

    Attributes:
        situation: engine, action and preferences.
        state: a cloud of B data, of the slices that a new one reads.
        log_weights: `(K, B)`, normalised, nats.
        actions: `(A, *event)` what can be done.
    """

    situation: Situation
    state: State
    log_weights: Tensor
    actions: Tensor

    @staticmethod
    def present(situation: Situation, actions: Tensor, least: int) -> "ParticleBeliefs":
        """Return the present belief, each particle as often as it takes to have at least so many.

        Raises:
            AgentError: for several data, and sites that are slow or set by `do`.
        """
        state = situation.state.last()
        if state.batch_size != 1 or state.length == 0:
            raise AgentError(
                f"a sampled tree plans from one life with time, found {state.batch_size} data over "
                f"{state.length} slices."
            )
        for site in _timed(state):
            if site.period != 1 or site.name in state.conditioning.intervened:
                raise AgentError(
                    f"site {site.name!r} has no value of its own in each slice (it is slow, or set "
                    "by do=); plan with CrossEntropy instead."
                )
        number = state.num_particles
        times = -(-least // number)
        values = {
            name: value.repeat(times, *[1] * (value.ndim - 1)) if value.shape[0] > 1 else value
            for name, value in state.values.items()
        }
        weights = state.log_weights.repeat(times, 1).log_softmax(0)
        reach = _reach(state)
        state = _cloud(state, {n: _cut(state, n, v, reach) for n, v in values.items()}, weights)
        return ParticleBeliefs(situation, state.replace(length=reach), weights, actions)

    @property
    def number(self) -> int:
        """The number of beliefs, B."""
        return self.log_weights.shape[1]

    @cached_property
    def observed(self) -> tuple[str, ...]:
        """Random sites with time that will be seen."""
        latent = self.situation.state.conditioning.latent
        masks = self.situation.state.masks
        names = [site.name for site in _timed(self.state) if site.kind == "stochastic"]
        return tuple(name for name in names if name not in latent or name in masks)

    # -- one step ----------------------------------------------------------------------------------

    def imagine(self) -> Futures:
        """Draw what every action leads to at every particle."""
        sites = [site.name for site in _timed(self.state) if site.kind == "stochastic"]
        shape = (self.number, len(self.actions), 1, *self.actions.shape[1:])
        actions = self.actions[:, None].expand(shape)
        found = self.situation.engine.imagine(
            self.state,
            {self.situation.action: actions if self.number > 1 else actions[0]},
            sites,
            cross_log_prob=self.observed,
            generator=self.situation.generator,
        )
        if self.number == 1:
            crossed = [found[f"cross_log_prob/{name}"].unsqueeze(2) for name in self.observed]
            drawn = {name: found[name].unsqueeze(1) for name in sites}
        else:
            crossed = [found[f"cross_log_prob/{name}"] for name in self.observed]
            drawn = {name: found[name] for name in sites}
        together = torch.stack(crossed).sum(0).squeeze(-1)
        return Futures({name: value[:, :, :, 0] for name, value in drawn.items()}, together)

    def terms(self, futures: Futures) -> dict[str, Tensor]:
        """Every term of one step, `(B, A)` nats each, by nested Monte Carlo over the particles."""
        weights = self.log_weights.exp().unsqueeze(-1)
        own = futures.crossed.diagonal(dim1=0, dim2=1).movedim(-1, 0)
        mixture = (futures.crossed + self.log_weights.unsqueeze(-1)).logsumexp(1)
        wanted = torch.zeros_like(own)
        for name, preference in self.situation.preferences.items():
            values = futures.drawn[name]
            told = preference(values) if callable(preference) else preference[values.long()]
            wanted = wanted + told
        ambiguity = -_expected(weights, own)
        gain = _expected(weights, own - mixture)
        cross = -_expected(weights, wanted)
        return {
            "risk": cross - gain - ambiguity,
            "ambiguity": ambiguity,
            "information_gain": gain,
            "novelty": torch.zeros_like(gain),
            "neg_expected_log_preference": cross,
        }

    # -- what would be seen ------------------------------------------------------------------------

    def children(self, futures: Futures, width: int) -> Children:
        """Draw at most so many outcomes of each row, and update the belief by each.

        Equal outcomes of a row are one.
        """
        particle = systematic_draws(self.log_weights, width, self.situation.generator)
        belief = torch.arange(self.number)
        action = torch.arange(len(self.actions))
        places = [
            place.flatten()
            for place in torch.broadcast_tensors(particle[:, :, None], belief[:, None], action)
        ]
        seen = [futures.drawn[name][places[0], places[1], places[2]] for name in self.observed]
        row = places[1] * len(self.actions) + places[2]
        told = [row[:, None].double(), *(value.reshape(len(row), -1).double() for value in seen)]
        _, which, counts = torch.unique(
            torch.cat(told, 1), dim=0, return_inverse=True, return_counts=True
        )
        first = torch.full((len(counts),), len(row)).scatter_reduce(
            0, which, torch.arange(len(row)), "amin"
        )
        i, b, a = (place[first] for place in places)
        log_weights = (self.log_weights[:, b] + futures.crossed[i, :, b, a].T).log_softmax(0)
        beliefs = ParticleBeliefs(
            self.situation, self._moved(futures, i, b, a, log_weights), log_weights, self.actions
        )
        return Children(row[first], counts / width, beliefs)

    def _moved(
        self, futures: Futures, i: Tensor, b: Tensor, a: Tensor, log_weights: Tensor
    ) -> State:
        """Return the cloud one slice on, for outcomes that particles `i` gave in rows `(b, a)`."""
        values = {}
        for name, value in self.state.values.items():
            site = self.state.conditioning.site(name)
            if site.scope == "global":
                values[name] = value
                continue
            past = value[:, b] if value.shape[1] > 1 else value.expand(-1, len(b), *value.shape[2:])
            values[name] = past
            if site.period is not None:
                new = self._new(site, past, futures, i, b, a)
                whole = torch.cat([self._chosen(site, past, a), new], 2)
                values[name] = whole[:, :, -self.state.length :]
        return _cloud(self.state, values, log_weights)

    def _new(
        self, site: Site, past: Tensor, futures: Futures, i: Tensor, b: Tensor, a: Tensor
    ) -> Tensor:
        """Return a site's value in the new slice, `(K or 1, C, 1, *event)`; inputs are 0."""
        if site.kind != "stochastic":
            return torch.zeros_like(past[:, :, -1:])
        drawn = futures.drawn[site.name]
        if site.name not in self.observed:
            own = drawn[:, b, a].unsqueeze(2)
            return self.state.conditioning.unconstrain({site.name: own})[site.name]
        new = drawn[i, b, a][None, :, None]
        return new.expand(past.shape[0], *new.shape[1:]).to(past.dtype)

    def _chosen(self, site: Site, past: Tensor, a: Tensor) -> Tensor:
        """Put the action into the slice in which it is chosen."""
        if site.name != self.situation.action:
            return past
        taken = self.actions[a][None, :, None].to(past.dtype)
        return torch.cat([past[:, :, :-1], taken], 2)

    def split(self, size: int) -> list["ParticleBeliefs"]:
        """Cut into parts of so many beliefs."""
        parts = []
        for start in range(0, self.number, size):
            kept = torch.arange(start, min(start + size, self.number))
            values = {
                name: value[:, kept] if value.shape[1] > 1 else value
                for name, value in self.state.values.items()
            }
            weights = self.log_weights[:, kept]
            state = _cloud(self.state, values, weights)
            parts.append(ParticleBeliefs(self.situation, state, weights, self.actions))
        return parts


def joined(parts: list[Children], rows: list[int]) -> Children:
    """Put children of several parts side by side; `rows` counts the rows before each part."""
    first = parts[0].beliefs
    if len(parts) == 1:
        return parts[0]
    values = {}
    for name, value in first.state.values.items():
        if first.state.conditioning.site(name).scope == "global":
            values[name] = value
        else:
            values[name] = torch.cat([part.beliefs.state.values[name] for part in parts], 1)
    weights = torch.cat([part.beliefs.log_weights for part in parts], 1)
    state = _cloud(first.state, values, weights)
    return Children(
        torch.cat([part.row + before for part, before in zip(parts, rows, strict=True)]),
        torch.cat([part.chance for part in parts]),
        ParticleBeliefs(first.situation, state, weights, first.actions),
    )


def systematic_draws(log_weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw particles by weights `(K, B)`, evenly spread, `(number, B)`."""
    start = torch.rand(1, log_weights.shape[1], generator=generator, dtype=torch.float64)
    steps = (torch.arange(number).double()[:, None] + start) / number
    edges = log_weights.double().exp().cumsum(0)
    places = torch.searchsorted((edges / edges[-1]).T.contiguous(), steps.T.contiguous())
    return places.T.clamp(max=len(log_weights) - 1)


def _expected(weights: Tensor, values: Tensor) -> Tensor:
    """Average `(K, B, A)` over particles, by weights; what has weight 0 does not count."""
    return (weights * torch.where(weights > 0, values, 0.0)).sum(0)


def _timed(state: State) -> list[Site]:
    """List the sites with time that hold values of their own."""
    sites = state.conditioning.factor_graph.model.sites.values()
    return [s for s in sites if s.period is not None and s.kind != "deterministic"]


def _reach(state: State) -> int:
    """Count the slices that a new one reads, at least 1."""
    longest = max((f.start for f in state.conditioning.factor_graph.factors), default=1)
    return min(max(longest, 1), state.length)


def _cut(state: State, name: str, value: Tensor, length: int) -> Tensor:
    """Keep a site's last slices."""
    return value if state.conditioning.site(name).period is None else value[:, :, -length:]


def _cloud(state: State, values: Mapping[str, Tensor], log_weights: Tensor) -> State:
    """Return a cloud at other values, and of as many data as there are weights."""
    number, batch = log_weights.shape
    return state.replace(
        values=values,
        masks={},
        log_weights=torch.zeros_like(log_weights),
        ancestors=torch.arange(number)[:, None].expand(number, batch),
        log_evidence=log_weights.new_zeros(batch),
        cache={},
    )
