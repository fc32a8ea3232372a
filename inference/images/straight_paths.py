"""Whole paths for something that moves straight between mirrors: a draw that hops between far modes.

Given the appearance, each frame says by itself where the digit probably is; straight lines that fit these places are
proposed, and one path is chosen among them and the present one. The kernel leaves p(velocity, position | all else)
invariant, whatever the frames suggest:

1. velocity is drawn from its Gaussian conditional given the positions;
2. M candidates (start, velocity) come from q, a mixture of cells of lines and, in small part, of the prior; their paths
   wander about the line by the model's own law, which cancels; one of the M + 1 paths is chosen in proportion to
   p(start) p(velocity) p(frames | path) / q(start, velocity) (iterated sampling importance resampling).

Reference: Andrieu, Lee, Vihola (2018), "Uniform ergodicity of the iterated conditional SMC", arXiv 1312.6432.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Normal

if TYPE_CHECKING:
    from aif_dcpc.inference.images.bouncing_digits import Renderer

CELL = 1 / 16  # of starts, half free widths
CELLS_OF_VELOCITY = 128  # over 8 standard deviations
SPREAD = 0.1  # how far a frame's best place may be from the line, half free widths
DEFENSIVE = 0.05  # share of the prior in q, so that no path has a weight without bound


def fold(position: Tensor) -> Tensor:
    """Straight lines to paths between mirrors at -1 and 1, elementwise."""
    return ((position + 1).remainder(4) - 2).abs().neg() + 1


class StraightPaths:
    """The draw of velocity and position, given to the engine as a conditional.

    Args:
        renderer: the kernel of the frames.
        speed, noise: of the model.
        candidates: M, new paths per draw.
    """

    def __init__(self, renderer: "Renderer", speed: float, noise: float, candidates: int) -> None:
        self.renderer, self.speed, self.noise, self.candidates = renderer, speed, noise, candidates

    def __call__(self, values: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw `velocity` `(K, B, 2)` and `position` `(K, B, T, 2)` given `what` and `frame`."""
        what, frames, position = values["what"], values["frame"], values["position"]
        velocity = self._velocity(position, generator)
        lines = Lines(self.renderer.best_positions(what, frames), self.speed)
        start, speed = lines.draw(self.candidates, generator)
        starts = torch.cat([position[None, :, :, 0], start])
        velocities = torch.cat([velocity[None], speed])
        paths = torch.cat([position[None], self._paths(start, speed, position.shape[2], generator)])
        fit = self.renderer(what[None, :, :, None], paths).log_prob(frames[None]).sum(-1)
        weights = fit + lines.log_prior(starts, velocities) - lines.log_prob(starts, velocities)
        noise = torch.rand(weights.shape, dtype=weights.dtype, device=weights.device, generator=generator)
        chosen = (weights - (-noise.clamp_min(1e-30).log()).log()).argmax(0)
        return {"velocity": pick(velocities, chosen), "position": pick(paths, chosen)}

    def _velocity(self, position: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from p(velocity | position): a Gaussian mean with a Gaussian prior."""
        steps = position.diff(dim=2)
        precision = self.speed**-2 + steps.shape[2] * self.noise**-2
        noise = torch.randn(steps[:, :, 0].shape if steps.shape[2] else position[:, :, 0].shape, generator=generator)
        return steps.sum(2) * self.noise**-2 / precision + noise.to(position) / math.sqrt(precision)

    def _paths(self, start: Tensor, velocity: Tensor, length: int, generator: torch.Generator) -> Tensor:
        """Paths `(M, K, B, T, 2)` from the model's own law."""
        shape = (*start.shape[:-1], length - 1, 2)
        steps = velocity.unsqueeze(-2) + self.noise * torch.randn(shape, generator=generator).to(start)
        return torch.cat([start.unsqueeze(-2), start.unsqueeze(-2) + steps.cumsum(-2)], -2)


def pick(candidates: Tensor, chosen: Tensor) -> Tensor:
    """`(M, K, B, *event)` at `chosen` `(K, B)`."""
    index = chosen[None].reshape(1, *chosen.shape, *[1] * (candidates.ndim - 3)).expand(1, *candidates.shape[1:])
    return candidates.gather(0, index)[0]


class Lines:
    """q(start, velocity) of each axis: cells of lines, as likely as they fit the places, and a share of the prior.

    Args:
        places: `(K, B, T, 2)` in [-1, 1].
        speed: standard deviation of the velocity's prior.
    """

    def __init__(self, places: Tensor, speed: float) -> None:
        self.speed, self.width = speed, 8 * speed / CELLS_OF_VELOCITY
        self.starts = torch.arange(-1 + CELL / 2, 1, CELL).to(places)
        self.velocities = ((torch.arange(CELLS_OF_VELOCITY) + 0.5) * self.width - 4 * speed).to(places)
        times = torch.arange(places.shape[2], device=places.device)
        lines = fold(self.starts[:, None, None] + self.velocities[:, None] * times).flatten(0, 1)
        distance = lines.square().sum(-1) - 2 * places.transpose(2, 3) @ lines.T  # up to a constant
        fit = -0.5 * distance / SPREAD**2 - 0.5 * (self.velocities / speed).square().repeat(len(self.starts))
        self.log_cells = fit.log_softmax(-1)  # (K, B, 2, starts * velocities)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Starts and velocities, `(count, K, B, 2)` each."""
        shape = (count, *self.log_cells.shape[:3])
        cells = self.log_cells
        uniform = torch.rand(*shape[1:], count, generator=generator).to(cells)
        cell = torch.searchsorted(cells.exp().cumsum(-1), uniform).clamp_max(cells.shape[-1] - 1).movedim(-1, 0)
        jitter, normal = torch.rand(2, *shape, generator=generator), torch.randn(2, *shape, generator=generator)
        start = self.starts[cell // CELLS_OF_VELOCITY] + CELL * (jitter[0] - 0.5).to(cells)
        velocity = self.velocities[cell % CELLS_OF_VELOCITY] + self.width * (jitter[1] - 0.5).to(cells)
        prior = torch.rand(shape, generator=generator) < DEFENSIVE
        return torch.where(prior, normal[0].to(cells), start), torch.where(prior, self.speed * normal[1], velocity)

    def log_prior(self, start: Tensor, velocity: Tensor) -> Tensor:
        """Of the model, `(M, K, B)` nats."""
        return self._prior(start, velocity).sum(-1)

    def log_prob(self, start: Tensor, velocity: Tensor) -> Tensor:
        """log q, `(M, K, B)` nats."""
        i = ((start + 1) / CELL).floor()
        j = (velocity / self.width + CELLS_OF_VELOCITY / 2).floor()
        inside = (i >= 0) & (i < len(self.starts)) & (j >= 0) & (j < CELLS_OF_VELOCITY)
        index = (i * CELLS_OF_VELOCITY + j).long().clamp(0, self.log_cells.shape[-1] - 1)
        cells = self.log_cells.expand(len(start), *self.log_cells.shape).gather(-1, index.unsqueeze(-1)).squeeze(-1)
        cells = torch.where(inside, cells - math.log(CELL * self.width), torch.full_like(cells, -torch.inf))
        prior = self._prior(start, velocity)
        return torch.logaddexp(cells + math.log(1 - DEFENSIVE), prior + math.log(DEFENSIVE)).sum(-1)

    def _prior(self, start: Tensor, velocity: Tensor) -> Tensor:
        return Normal(0.0, 1.0).log_prob(start) + Normal(0.0, self.speed).log_prob(velocity)
