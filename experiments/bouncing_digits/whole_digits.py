"""A whole digit at once, appearance and path, given the others: a draw that leaves wrong modes.

Two latent digits may share one digit of the film, or one may explain a bit of two: local moves
never leave such a place. What the others leave unexplained says by itself where a further digit may
be, and what it looks like there. The kernel leaves p(what, velocity, position of one digit | all
else) invariant, whatever the frames suggest:

1. velocity is drawn from its Gaussian conditional given the positions;
2. M candidates come from q(x line) q(y line | x line) q(what | path), which does not depend on the
   present digit; paths wander about their lines by the model's own law, which cancels; one of the M
   + 1 digits is chosen in proportion to p(start) p(velocity) p(what) p(frames | digit, others) / q
   (iterated sampling importance resampling).

q: lines are as likely as a typical digit fits what is left of each frame along them; appearances
are near those of a bank, as likely as they fit what is left along the path; a share of the prior in
each keeps the weights bounded.

Reference: Andrieu, Lee, Vihola (2018), "Uniform ergodicity of the iterated conditional SMC", arXiv
    1312.6432.
"""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import conv2d

from aif_dcpc.experiments.bouncing_digits.rendering import blend, fold, shares
from aif_dcpc.experiments.bouncing_digits.straight_paths import (
    DEFENSIVE,
    Lines,
    choose,
    draw_paths,
    draw_velocity,
    folded_lines,
    pick,
)

if TYPE_CHECKING:
    from aif_dcpc.experiments.bouncing_digits.rendering import Renderer

PLACE_SCALE = 0.5  # standard deviation of a pixel where places are weighed
LOOK_SCALE = (
    0.5  # and where appearances are: above the model's, since neither digit nor path is refined yet
)
ELSEWHERE = 0.1  # chance that a frame says nothing about where the digit is
BANDWIDTH = 0.3  # of appearances about those of the bank, standard deviations of the prior


class Digit(NamedTuple):
    """Names of one digit's sites."""

    what: str
    velocity: str
    position: str


class WholeDigit:
    """The draw of one digit, given to the engine as a conditional.

    Args:
        renderer: the kernel of the frames.
        own: the digit's sites.
        others: those of the other digits.
        speed, noise: of the model.
        candidates: M, new digits per draw.
        bank: appearances to propose from, `(N, latents)`.
    """

    def __init__(
        self,
        renderer: "Renderer",
        own: Digit,
        others: Sequence[Digit],
        *,
        speed: float,
        noise: float,
        candidates: int,
        bank: Tensor,
    ) -> None:
        self.renderer = renderer
        self.own = own
        self.others = tuple(others)
        self.speed = speed
        self.noise = noise
        self.candidates = candidates
        self.bank = bank

    def __call__(
        self, values: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw the digit's `what` `(K, B, L)`, `velocity` `(K, B, 2)` and `position` `(K, B, T, 2)`."""
        position = values[self.own.position]
        velocity = draw_velocity(position, self.speed, self.noise, generator)
        rest = Rest(self.renderer, values["frame"], self._background(values))
        digits = self.renderer.digit(self.bank.to(position))

        lines = Tracks(rest.places(digits.mean(0)), self.speed)
        starts, velocities, log_q = lines.draw(
            position[:, :, 0], velocity, self.candidates, generator
        )
        new = draw_paths(starts[1:], velocities[1:], position.shape[2], self.noise, generator)
        paths = torch.cat([position[None], new])
        looks = Looks(rest.looks(paths, digits), self.bank.to(position))
        what = torch.cat([values[self.own.what][None], looks.draw(generator)[1:]])

        prior = lines.log_prior(starts, velocities) + _standard(what)
        chosen = choose(rest.log_fit(what, paths) + prior - log_q - looks.log_prob(what), generator)
        return dict(
            zip(self.own, (pick(v, chosen) for v in (what, velocities, paths)), strict=True)
        )

    def _background(self, values: Mapping[str, Tensor]) -> Tensor:
        """The other digits alone, `(K, B, T, 1, canvas, canvas)`."""
        layers = [
            self.renderer.layer(values[d.what].unsqueeze(2), values[d.position])
            for d in self.others
        ]
        return reduce(blend, layers) if layers else torch.zeros_like(values["frame"])


class Rest:
    """What the other digits leave of the frames.

    A further digit d adds light * d to the background, where light = 1 - background, so that the
    squared error falls by 2 <light * rest, d> - <light^2, d^2>, with rest = frames - background:
    linear in d and d^2.

    Args:
        renderer: the kernel of the frames.
        frames: `(1, B, T, 1, canvas, canvas)`.
        background: `(K, B, T, 1, canvas, canvas)`.
    """

    def __init__(self, renderer: "Renderer", frames: Tensor, background: Tensor) -> None:
        self.renderer = renderer
        self.frames = frames
        self.background = background
        light = 1 - background
        self.wanted = light * (frames - background)
        self.light = light.square()

    def log_fit(self, what: Tensor, paths: Tensor) -> Tensor:
        """log p(frames | digit, others) up to a constant, `(M, K, B)` nats."""
        layer = self.renderer.layer(what.unsqueeze(3), paths)
        return self.renderer.log_fit(blend(self.background, layer), self.frames).sum(-1)

    def places(self, digit: Tensor) -> Tensor:
        """How well a digit `(1, patch, patch)` fits at every whole pixel, `(K, B, T, height, width)` nats."""
        gain = (
            conv2d(self.wanted.flatten(0, 2), digit[None])
            - conv2d(self.light.flatten(0, 2), digit[None] ** 2) / 2
        )
        return gain[:, 0].unflatten(0, self.wanted.shape[:3]) / PLACE_SCALE**2

    def looks(self, paths: Tensor, digits: Tensor) -> Tensor:
        """How well digits `(N, 1, patch, patch)` fit along paths `(M, K, B, T, 2)`, `(M, K, B, N)` nats."""
        across, down = shares(paths, self.renderer.patch, self.renderer.canvas)
        wanted, light = (
            (down.mT @ x.squeeze(-3) @ across).sum(3).flatten(-2) for x in (self.wanted, self.light)
        )
        flat = digits.flatten(1)
        return (wanted @ flat.T - light @ flat.square().T / 2) / LOOK_SCALE**2


class Tracks:
    """q(start, velocity) of both axes: a line of x, then a line of y along it.

    Args:
        places: how well the digit fits, `(K, B, T, height, width)` nats.
        speed: standard deviation of the velocity's prior.
    """

    def __init__(self, places: Tensor, speed: float) -> None:
        self.places = places
        self.speed = speed
        self.across = self._lines(places.logsumexp(-2))

    def draw(
        self, start: Tensor, velocity: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The present line `(K, B, 2)` and `count` new ones.

        Returns:
            starts and velocities `(1 + count, K, B, 2)`, the present ones first, and their log q
                `(1 + count, K, B)`.
        """
        present = torch.stack([start, velocity])[:, None]  # (2, 1, K, B, 2)
        x = torch.cat([present[..., :1], torch.stack(self.across.draw(count, generator))], 1)
        down = self._down(*x)
        y = torch.cat([present[..., 1:], torch.stack(down.draw(1, generator))[:, 0, 1:]], 1)
        log_q = self.across.log_prob(*x) + down.log_prob(*y.unsqueeze(1))[0]
        starts, velocities = torch.cat([x, y], -1)
        return starts, velocities, log_q

    def log_prior(self, start: Tensor, velocity: Tensor) -> Tensor:
        """Of the model, `(M, K, B)` nats."""
        return self.across.log_prior(start, velocity)

    def _down(self, start: Tensor, velocity: Tensor) -> Lines:
        """Lines of y along lines of x `(M, K, B, 1)`."""
        times = torch.arange(self.places.shape[2], device=start.device)
        column = between(fold(start + velocity * times), self.places.shape[-1])
        return self._lines((self.places @ column.unsqueeze(-1)).squeeze(-1))

    def _lines(self, fit: Tensor) -> Lines:
        """Lines along which places of one axis `(*batch, T, width)` fit, any frame being wrong now and then."""
        width = fit.shape[-1]
        told = fit.log_softmax(-1) + math.log(1 - ELSEWHERE)
        told = torch.logaddexp(told, torch.full_like(told, math.log(ELSEWHERE / width)))
        paths = between(folded_lines(self.speed, fit.shape[-2]).to(fit), width)
        return Lines((told.flatten(-2) @ paths.flatten(-2).T).unsqueeze(-2), self.speed)


def between(position: Tensor, width: int) -> Tensor:
    """Weights `(*batch, width)` by which values at whole pixels are interpolated at folded positions `(*batch)`."""
    pixel = (position + 1) * ((width - 1) / 2)
    return (
        1 - (pixel.unsqueeze(-1) - torch.arange(width, device=position.device)).abs()
    ).clamp_min(0)


class Looks:
    """q(what): near the appearances of a bank, and a share of the prior.

    Args:
        fit: `(M, K, B, N)` nats.
        bank: `(N, L)`.
    """

    def __init__(self, fit: Tensor, bank: Tensor) -> None:
        self.log_shares = fit.log_softmax(-1)
        self.bank = bank

    def draw(self, generator: torch.Generator) -> Tensor:
        """One appearance each, `(M, K, B, L)`."""
        shares = self.log_shares
        device = generator.device
        uniform = torch.rand(*shares.shape[:-1], 1, generator=generator, device=device).to(shares)
        index = (
            torch.searchsorted(shares.exp().cumsum(-1), uniform)
            .squeeze(-1)
            .clamp_max(len(self.bank) - 1)
        )
        normal = torch.randn(
            *index.shape, self.bank.shape[1], generator=generator, device=device
        ).to(shares)
        prior = (torch.rand(*index.shape, 1, generator=generator, device=device) < DEFENSIVE).to(
            shares.device
        )
        return torch.where(prior, normal, self.bank[index] + BANDWIDTH * normal)

    def log_prob(self, what: Tensor) -> Tensor:
        """log q, `(M, K, B)` nats."""
        size = what.shape[-1]
        distance = torch.cdist(what.flatten(0, -2), self.bank).unflatten(0, what.shape[:-1])
        near = self.log_shares - 0.5 * (distance / BANDWIDTH).square()
        near = near.logsumexp(-1) - size * math.log(BANDWIDTH * math.sqrt(2 * math.pi))
        return torch.logaddexp(
            near + math.log(1 - DEFENSIVE), _standard(what) + math.log(DEFENSIVE)
        )


def _standard(what: Tensor) -> Tensor:
    """log density of the prior of appearances."""
    return Normal(0.0, 1.0).log_prob(what).sum(-1)
