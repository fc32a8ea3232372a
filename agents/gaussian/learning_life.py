"""A life whose world is linear in features: weights are drawn at each step, features looked at now and then."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.agents.gaussian.evidence import ROWS, fit_shape, scales_of
from aif_dcpc.agents.gaussian.features import Features, Scales, Shape
from aif_dcpc.agents.gaussian.hidden import SEEN, HiddenWeights, X
from aif_dcpc.agents.gaussian.linear import Linear
from aif_dcpc.agents.gaussian.model import World
from aif_dcpc.agents.life import Life, Streams
from aif_dcpc.inference import State

FIRST = 2  # slices before scales are first looked at
FEWEST = 2  # rows that have a scale
ENOUGH = 10  # slices before smoothness is


class LearningLife(Life):
    """A life that looks at scales and smoothness of its world's features at growing intervals.

    Args:
        world: the declared world.
        growth: of the series, between two looks.
        like: a life of the same engine, whose settings are taken over.

    Attributes:
        next_look: length of the series at which features are looked at again.
    """

    def __init__(self, world: World, growth: float, like: Life) -> None:
        super().__init__(
            like.engine,
            observed=like.observed,
            action=like.action,
            placeholder=like.placeholder,
            reset=like.reset,
            num_sweeps=like.num_sweeps,
            window=like.window,
        )
        self.world = world
        self.growth = growth
        self.next_look = FIRST

    def observe(self, streams: Streams) -> State:
        """Append what is seen, `(B, *shape)`, and sweep the history; returns the cloud."""
        for conditional in self.world.learned.values():
            if isinstance(conditional, HiddenWeights):
                conditional.held = self.frozen
        return super().observe(streams)

    def _swept(self, state: State) -> State:
        """Draw the weights given the whole life; a frozen life keeps those that it has."""
        if self.frozen:
            return super()._swept(state) if X in self.engine.model.sites else state
        if state.length >= self.next_look:
            self._look(state)
            state = self._redrawn(state) if X in self.engine.model.sites else state
        for _ in range(self.num_sweeps):
            # the log joint of a whole life is not asked for: all that is needed of it is in sums
            state, info = self.engine.sweep(state, log_joint=False)
            self.acceptance = {name: float(share) for name, share in info.acceptance.items()}
        return state

    def _begun(self, new: Mapping[str, Tensor]) -> State:
        """Make the cloud over the first slice; hidden positions begin where they are seen."""
        if X not in self.engine.model.sites:
            return super()._begun(new)
        sites = self.engine.model.sites
        data = {n: v if sites[n].period is None else v[:, None] for n, v in new.items()}
        seen = data[SEEN].expand(self.engine.num_particles, -1, -1, -1)
        return self.engine.init(data, length=1, particles={X: seen})

    def _redrawn(self, state: State) -> State:
        """Draw weights of new features before positions move, which old ones would mislead."""
        drawn: dict[str, Tensor] = {}
        for conditional in self.world.learned.values():
            drawn |= conditional(state.natural, self.engine.generator)
        return state.with_values(state.conditioning.unconstrain(drawn))

    def _look(self, state: State) -> None:
        """Fit the features of all that is learned to the series, of the first particle if they differ."""
        sites = self.engine.model.sites
        series = {n: v if sites[n].period is None else v[:1] for n, v in state.natural.items()}
        for conditional in self.world.learned.values():
            fit_features(conditional.linear, series, fit=state.length >= ENOUGH)
        self.next_look = max(FIRST, math.ceil(self.growth * state.length))

    # -- keeping -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        learned = {
            name: {"sums": conditional.state_dict(), **_plain(conditional.linear.features)}
            for name, conditional in self.world.learned.items()
        }
        return {**super().state_dict(), "world": learned, "next_look": self.next_look}

    def load_state_dict(self, packed: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, conditional in self.world.learned.items():
            kept = packed["world"][name]
            features = conditional.linear.features
            features.set(Scales(**kept["scales"]), Shape(**kept["shape"]))
        super().load_state_dict(packed)
        self.next_look = int(packed["next_look"])
        values = None if self.state is None else self.state.natural
        for name, conditional in self.world.learned.items():
            conditional.load_state_dict(packed["world"][name]["sums"], values)


def _plain(features: Features) -> dict[str, dict[str, Tensor]]:
    """Scales and shape as plain tensors."""
    parts: dict[str, Scales | Shape] = {"scales": features.scales, "shape": features.shape}
    return {
        name: {f.name: getattr(part, f.name).clone() for f in fields(part)}
        for name, part in parts.items()
    }


def fit_features(linear: Linear, values: Mapping[str, Tensor], *, fit: bool) -> None:
    """Set scales, and smoothness if there is enough to `fit` it to, by a series."""
    features = linear.features
    inputs, outputs, used = (part.flatten(0, 2) for part in linear.rows(values, 0))
    inputs = inputs[used]
    if len(inputs) < FEWEST:
        return
    changes = outputs[used] * features.change
    scales = scales_of(inputs, changes)
    shape = features.shape
    if fit:
        rows = latest_and_some(len(inputs))
        shape = fit_shape(
            features.base,
            features.phases,
            ((inputs - scales.centre) / scales.spread)[rows],
            (changes / scales.change)[rows],
            shape,
        )
    features.set(scales, shape)


def latest_and_some(num: int) -> Tensor:
    """Choose at most `ROWS` of so many rows: the latest half, and others at equal distances."""
    if num <= ROWS:
        return torch.arange(num)
    latest = ROWS // 2
    earlier = torch.linspace(0, num - latest - 1, ROWS - latest).long()
    return torch.cat([earlier, torch.arange(num - latest, num)])
