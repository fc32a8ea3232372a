"""Common random numbers: candidates that lie side by side along the batch axis share all noise.

Most random operations are a function of noise whose law is fixed (normal, uniform, Bernoulli,
categorical, Gamma ...): it is drawn once for all candidates. The others (Poisson, binomial) are made
for one candidate after the other, from generators of the same seed. Every candidate's draws have the
law that they would have alone; two candidates differ in what their distributions differ in.

References: Glasserman and Yao 1992, "Some guidelines and guarantees for common random numbers". A
categorical draw is the winner of a race of exponentials, which is Gumbel noise (Maddison, Tarlow,
Minka 2014, arXiv 1411.0030). Gamma: Marsaglia and Tsang 2000, "A simple method for generating gamma
variables", whose proposals do not depend on the shape.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from aif_dcpc.inference.model.isolation import DrawsFrom

FACTORIES = ("aten::rand", "aten::randn")
ROUNDS = 8  # proposals for a Gamma draw, one in 20 of which is rejected at most: 4e-11 fail in all


class SharedDraws(DrawsFrom):
    """Make draws of shape `(K, B * N, 1, *rest)` from noise `(K, B, 1, *rest)`.

    What has another shape is drawn as it is.

    Args:
        seed: of all generators.
        num_particles: K.
        batch_size: B.
        num_candidates: N; candidate n of datum b lies at b * N + n.
    """

    def __init__(self, seed: int, num_particles: int, batch_size: int, num_candidates: int) -> None:
        super().__init__(seed)
        self.sizes = (num_particles, batch_size, num_candidates)
        self.seeds = random.Random(seed)

    def draw(self, operation: OpOverload, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Make a random operation, with noise that candidates share where it is theirs."""
        name = operation._schema.name
        if name in FACTORIES and self._is_wide(args[0]):
            return self._spread(operation(self._narrow(args[0]), *args[1:], **options))
        if name == "aten::multinomial" and self._is_table(*args):
            return self._winners(args[0], args[1], options["generator"])
        first = self._first_wide(args)
        if first is None:
            return operation(*args, **options)
        if name in RULES:
            return RULES[name](self._noise(first, options["generator"]), *args)
        if name.endswith("_"):
            return self._filled(operation, args, options)
        return self._one_by_one(operation, args)

    def _first_wide(self, args: tuple[Any, ...]) -> Tensor | None:
        """The first tensor of an operation whose tensors are all those of all candidates."""
        tensors = [x for x in args if isinstance(x, Tensor)]
        are_wide = all(self._is_wide(x.shape) for x in tensors)
        return tensors[0] if tensors and are_wide else None

    def _filled(
        self, operation: OpOverload, args: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """Fill a tensor in place, from one of the noise's shape if nothing but numbers tells with what."""
        if any(isinstance(x, Tensor) for x in args[1:]):
            return operation(*args, **options)
        noise = operation(self._empty(args[0]), *args[1:], **options)
        return args[0].copy_(self._spread(noise))

    def _is_wide(self, shape: Any) -> bool:
        """Whether a shape begins with particles, data by candidates, and one slice."""
        particles, data, candidates = self.sizes
        return tuple(shape[:3]) == (particles, data * candidates, 1)

    def _narrow(self, shape: Any) -> tuple[int, ...]:
        return (*self.sizes[:2], *shape[2:])

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_empty(self._narrow(like.shape))

    def _noise(self, like: Tensor, generator: torch.Generator) -> "Noise":
        """A source of noise of the shape of an operation's argument, the same for all candidates."""
        empty = self._empty(like)

        def draw(kind: str) -> Tensor:
            return self._spread(getattr(empty, kind)(generator=generator))

        return draw

    def _spread(self, noise: Tensor) -> Tensor:
        """Noise `(K, B, *rest)` for all candidates, `(K, B * N, *rest)`."""
        candidates = self.sizes[2]
        return noise.unsqueeze(2).expand(-1, -1, candidates, *noise.shape[2:]).flatten(1, 2)

    def _is_table(self, weights: Tensor, number: int, replacement: bool = False) -> bool:
        """Whether rows of weights are those of all candidates, in their order."""
        particles, data, candidates = self.sizes
        is_whole = weights.ndim == 2 and len(weights) % (particles * data * candidates) == 0
        return is_whole and (replacement or number == 1)

    def _winners(self, weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """Draw `number` indices for each row of weights `(K * B * N * R, M)`, as `multinomial` does."""
        particles, data, candidates = self.sizes
        outcomes = weights.shape[-1]
        rows = weights.view(particles, data, candidates, -1, 1, outcomes)
        race = weights.new_empty(particles, data, 1, rows.shape[3], number, outcomes)
        race.exponential_(generator=generator)
        tiny = torch.finfo(weights.dtype).tiny
        return (rows / race.clamp_min(tiny)).argmax(-1).view(-1, number)

    def _one_by_one(self, operation: OpOverload, args: tuple[Any, ...]) -> Any:
        """Make an operation for each candidate, each time from the same seed."""
        seed = self.seeds.getrandbits(62)
        device = next(x.device for x in args if isinstance(x, Tensor))
        parts = []
        for n in range(self.sizes[2]):
            generator = torch.Generator(device=device).manual_seed(seed)
            own = [self._candidate(x, n) if isinstance(x, Tensor) else x for x in args]
            parts.append(operation(*own, generator=generator))
        return torch.stack(parts, 2).flatten(1, 2)

    def _candidate(self, value: Tensor, n: int) -> Tensor:
        """One candidate's part of `(K, B * N, *rest)`, `(K, B, *rest)`."""
        return value.unflatten(1, self.sizes[1:])[:, :, n].contiguous()


# -- operations as functions of noise --------------------------------------------------------------

Noise = Callable[[str], Tensor]


def _normal(noise: Noise, mean: Any, scale: Any) -> Tensor:
    return mean + scale * noise("normal_")


def _bernoulli(noise: Noise, probability: Tensor) -> Tensor:
    return (noise("uniform_") < probability).to(probability.dtype)


def _log_gamma(noise: Noise, shape: Tensor) -> Tensor:
    """Logarithms of Gamma draws, exact for shapes however small: Gamma(a) = Gamma(a + 1) U^(1/a)."""
    centre = shape + 2 / 3
    width = (9 * centre).rsqrt()
    found = torch.zeros_like(shape)
    waiting = torch.ones_like(shape, dtype=torch.bool)
    for _ in range(ROUNDS):
        x = noise("normal_")
        cube = (1 + width * x).clamp_min(0).pow(3)
        log_ratio = 0.5 * x.square() + centre * (1 - cube + cube.log())
        found = torch.where(waiting, (centre * cube).log(), found)
        waiting = waiting & (noise("uniform_").log() >= log_ratio)
    return found - noise("exponential_") / shape


def _gamma(noise: Noise, shape: Tensor) -> Tensor:
    return _log_gamma(noise, shape).exp().clamp_min(torch.finfo(shape.dtype).tiny)


def _dirichlet(noise: Noise, concentration: Tensor) -> Tensor:
    return torch.softmax(_log_gamma(noise, concentration), -1)


RULES: Mapping[str, Callable[..., Tensor]] = {
    "aten::normal": _normal,
    "aten::bernoulli": _bernoulli,
    "aten::_standard_gamma": _gamma,
    "aten::_sample_dirichlet": _dirichlet,
}
