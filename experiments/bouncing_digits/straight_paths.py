"""Whole paths for something that moves straight between mirrors: a draw that hops between far modes.

Given the appearance, each frame says by itself where the digit probably is; straight lines that fit
these places are proposed, and one path is chosen among them and the present one. The kernel leaves
p(velocity, position | all else) invariant, whatever the frames suggest:

1. velocity is drawn from its Gaussian conditional given the positions;
2. M candidates (start, velocity) come from q, a mixture of cells of lines and, in small part, of
   the prior; their paths wander about the line by the model's own law, which cancels; one of the M
   + 1 paths is chosen in proportion to p(start) p(velocity) p(frames | path) / q(start, velocity)
   (iterated sampling importance resampling).

Reference: Andrieu, Lee, Vihola (2018), "Uniform ergodicity of the iterated conditional SMC", arXiv
    1312.6432.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Normal

from aif_dcpc.experiments.bouncing_digits.rendering import fold

if TYPE_CHECKING:
    from aif_dcpc.experiments.bouncing_digits.rendering import Renderer

CELL = 1 / 16  # of starts, half free widths
CELLS_OF_VELOCITY = 128  # over 8 standard deviations
SPREAD = 0.1  # how far a frame's best place may be from the line, half free widths
DEFENSIVE = 0.05  # share of the prior in q, so that no path has a weight without bound


class StraightPaths:
    """The draw of velocity and position, given to the engine as a conditional.

    Args:
        renderer: the kernel of the frames.
        speed, noise: of the model.
        candidates: M, new paths per draw.
    """

    def __init__(self, renderer: "Renderer", speed: float, noise: float, candidates: int) -> None:
        self.renderer = renderer
        self.speed = speed
        self.noise = noise
        self.candidates = candidates

    def __call__(
        self, values: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw `velocity` `(K, B, 2)` and `position` `(K, B, T, 2)` given `what` and `frame`."""
        what = values["what"]
        frames = values["frame"]
        position = values["position"]
        velocity = draw_velocity(position, self.speed, self.noise, generator)
        lines = Lines.through(self.renderer.best_positions(what, frames), self.speed)
        start, speed = lines.draw(self.candidates, generator)
        starts = torch.cat([position[None, :, :, 0], start])
        velocities = torch.cat([velocity[None], speed])
        paths = torch.cat(
            [position[None], draw_paths(start, speed, position.shape[2], self.noise, generator)]
        )
        fit = self.renderer(what[None, :, :, None], paths).log_prob(frames[None]).sum(-1)
        weights = fit + lines.log_prior(starts, velocities) - lines.log_prob(starts, velocities)
        chosen = choose(weights, generator)
        return {"velocity": pick(velocities, chosen), "position": pick(paths, chosen)}


def draw_velocity(
    position: Tensor, speed: float, noise: float, generator: torch.Generator
) -> Tensor:
    """Draw from p(velocity | position), `(K, B, 2)`: a Gaussian mean with a Gaussian prior."""
    steps = position.diff(dim=2)
    precision = speed**-2 + steps.shape[2] * noise**-2
    normal = torch.randn(position[:, :, 0].shape, generator=generator, device=generator.device)
    return steps.sum(2) * noise**-2 / precision + normal.to(position) / math.sqrt(precision)


def draw_paths(
    start: Tensor, velocity: Tensor, length: int, noise: float, generator: torch.Generator
) -> Tensor:
    """Paths `(M, K, B, T, 2)` from the model's own law."""
    shape = (*start.shape[:-1], length - 1, 2)
    normal = torch.randn(shape, generator=generator, device=generator.device).to(start)
    steps = velocity.unsqueeze(-2) + noise * normal
    return torch.cat([start.unsqueeze(-2), start.unsqueeze(-2) + steps.cumsum(-2)], -2)


def choose(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices `(K, B)` of candidates `(M, K, B)`, in proportion to their weights."""
    noise = torch.rand(
        log_weights.shape, dtype=log_weights.dtype, device=generator.device, generator=generator
    )
    gumbel = -(-noise.clamp_min(1e-30).log()).log()
    return (log_weights + gumbel.to(log_weights)).argmax(0)


def pick(candidates: Tensor, chosen: Tensor) -> Tensor:
    """`(M, K, B, *event)` at `chosen` `(K, B)`."""
    index = (
        chosen[None]
        .reshape(1, *chosen.shape, *[1] * (candidates.ndim - 3))
        .expand(1, *candidates.shape[1:])
    )
    return candidates.gather(0, index)[0]


class Lines:
    """q(start, velocity) of some axes: cells of lines, as likely as they fit, and a share of the prior.

    Args:
        fit: `(K, B, axes, starts * velocities)` nats, of every line of `grid`, up to a constant.
        speed: standard deviation of the velocity's prior.
    """

    def __init__(self, fit: Tensor, speed: float) -> None:
        self.speed = speed
        self.starts, self.velocities = (axis.to(fit) for axis in grid(speed))
        self.width = 8 * speed / CELLS_OF_VELOCITY
        prior = -0.5 * (self.velocities / speed).square().repeat(len(self.starts))
        self.log_cells = (fit + prior).log_softmax(-1)

    @classmethod
    def through(cls, places: Tensor, speed: float) -> "Lines":
        """Lines near the places `(K, B, T, 2)` in [-1, 1]."""
        lines = folded_lines(speed, places.shape[2]).to(places)
        distance = lines.square().sum(-1) - 2 * places.transpose(2, 3) @ lines.T  # up to a constant
        return cls(-0.5 * distance / SPREAD**2, speed)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Starts and velocities, `(count, K, B, axes)` each."""
        cells = self.log_cells
        device = generator.device
        shape = (count, *cells.shape[:-1])
        uniform = torch.rand(*shape[1:], count, generator=generator, device=device).to(cells)
        cell = (
            torch.searchsorted(cells.exp().cumsum(-1), uniform)
            .clamp_max(cells.shape[-1] - 1)
            .movedim(-1, 0)
        )
        jitter = torch.rand(2, *shape, generator=generator, device=device).to(cells)
        normal = torch.randn(2, *shape, generator=generator, device=device).to(cells)
        start = self.starts[cell // CELLS_OF_VELOCITY] + CELL * (jitter[0] - 0.5)
        velocity = self.velocities[cell % CELLS_OF_VELOCITY] + self.width * (jitter[1] - 0.5)
        prior = (torch.rand(shape, generator=generator, device=device) < DEFENSIVE).to(cells.device)
        return torch.where(prior, normal[0], start), torch.where(
            prior, self.speed * normal[1], velocity
        )

    def log_prior(self, start: Tensor, velocity: Tensor) -> Tensor:
        """Of the model, `(M, K, B)` nats."""
        return self._prior(start, velocity).sum(-1)

    def log_prob(self, start: Tensor, velocity: Tensor) -> Tensor:
        """log q, `(M, K, B)` nats."""
        i = ((start + 1) / CELL).floor()
        j = (velocity / self.width + CELLS_OF_VELOCITY / 2).floor()
        inside = (i >= 0) & (i < len(self.starts)) & (j >= 0) & (j < CELLS_OF_VELOCITY)
        index = (i * CELLS_OF_VELOCITY + j).long().clamp(0, self.log_cells.shape[-1] - 1)
        cells = (
            self.log_cells.expand(len(start), *self.log_cells.shape)
            .gather(-1, index.unsqueeze(-1))
            .squeeze(-1)
        )
        cells = torch.where(
            inside, cells - math.log(CELL * self.width), torch.full_like(cells, -torch.inf)
        )
        prior = self._prior(start, velocity)
        return torch.logaddexp(cells + math.log(1 - DEFENSIVE), prior + math.log(DEFENSIVE)).sum(-1)

    def _prior(self, start: Tensor, velocity: Tensor) -> Tensor:
        return Normal(0.0, 1.0).log_prob(start) + Normal(0.0, self.speed).log_prob(velocity)


def grid(speed: float) -> tuple[Tensor, Tensor]:
    """Middles of the cells: starts over [-1, 1], velocities over 8 standard deviations."""
    width = 8 * speed / CELLS_OF_VELOCITY
    return torch.arange(-1 + CELL / 2, 1, CELL), (
        torch.arange(CELLS_OF_VELOCITY) + 0.5
    ) * width - 4 * speed


def folded_lines(speed: float, length: int) -> Tensor:
    """Where the line of every cell is at each slice, `(starts * velocities, T)` in [-1, 1]."""
    starts, velocities = grid(speed)
    return fold(starts[:, None, None] + velocities[:, None] * torch.arange(length)).flatten(0, 1)
