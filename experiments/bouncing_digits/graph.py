"""Digits that bounce in a canvas: appearance lasts for the episode, position changes by the frame.

    what_i ~ Normal(0, I);  velocity_i ~ Normal(0, speed^2 I);  position_i,0 ~ Normal(0, 1)
    position_i,t ~ Normal(position_i,t-1 + velocity_i, noise^2)
    frame_t ~ Normal(1 - prod_i (1 - render(what_i, fold(position_i,t))), scale^2)

Positions are unfolded: walls are mirrors, `fold` maps the straight line that a digit would take
without them back into the canvas, so the dynamics are linear and forecasts bounce exactly.
Rendering is differentiable (bilinear), and one network draws every digit: what was learned of films
of one digit serves films of several (`load_state_dict`).

The posterior has many modes far from the truth, which local moves never leave: with `candidates`
the model hands the engine draws to hop between them, whole paths of a single digit
(`straight_paths`) or, with a bank of appearances or several digits, each digit whole
(`whole_digits`). Local moves refine what they find::

    engine = DCPC(bouncing_digits(candidates=4), moves={"position": "langevin"})
    model = bouncing_digits(num_digits=3, candidates=4)
    engine = DCPC(model, moves=dict.fromkeys(refined(3), "langevin"))
"""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from aif_dcpc.experiments.bouncing_digits.rendering import Renderer
from aif_dcpc.experiments.bouncing_digits.straight_paths import StraightPaths
from aif_dcpc.experiments.bouncing_digits.whole_digits import Digit, WholeDigit
from aif_dcpc.inference.images.dlgm import StandardNormal
from aif_dcpc.inference.model.graph import GraphicalModel, lag

BANK = 512  # draws of the prior, where no bank of appearances is given


def bouncing_digits(
    *,
    num_digits: int = 1,
    latents: int = 8,
    hidden: int = 64,
    patch: int = 16,
    canvas: int = 32,
    speed: float = 0.2,
    noise: float = 0.02,
    scale: float = 0.1,
    candidates: int = 0,
    bank: Tensor | None = None,
) -> GraphicalModel:
    """Build the graph: sites `what`, `velocity`, `position` and `frame`.

    Of several digits the sites are `what1`, `what2` and so on.


    Args:
        num_digits: digits in a frame.
        latents: size of `what`.
        hidden: units between `what` and the digit's pixels.
        patch, canvas: sides of the digit and of the frame, pixels.
        speed, noise: standard deviations of the velocity and of its disturbance, in half free
            widths per frame.
        scale: standard deviation of a pixel to start with.
        candidates: whole paths or digits tried per sweep and particle; 0 leaves all to the
            engine's own moves.
        bank: appearances `(N, latents)` to propose whole digits from, for example particles of
            films learned from; by default none for one digit, and draws of the prior for several.
    """
    model = GraphicalModel()
    digits = names(num_digits)
    for digit in digits:
        add_digit(model, digit, latents, speed, noise)
    renderer = Renderer(latents, hidden, patch, canvas, scale)
    model.add_site("frame", renderer, parents=list(refined(num_digits)), scope="slice")
    if not candidates:
        return model
    if num_digits == 1 and bank is None:
        paths = StraightPaths(renderer, speed, noise, candidates)
        model.add_conditional(("velocity", "position"), paths)
        return model
    bank = torch.randn(BANK, latents) if bank is None else bank
    for own in digits:
        others = [digit for digit in digits if digit != own]
        draw = WholeDigit(
            renderer, own, others, speed=speed, noise=noise, candidates=candidates, bank=bank
        )
        model.add_conditional(own, draw)
    return model


def names(num_digits: int) -> tuple[Digit, ...]:
    """Names of the sites, digit by digit."""
    endings = [""] if num_digits == 1 else [str(i + 1) for i in range(num_digits)]
    return tuple(Digit("what" + end, "velocity" + end, "position" + end) for end in endings)


def refined(num_digits: int) -> tuple[str, ...]:
    """Sites that local moves should visit beside the draws of whole digits."""
    return tuple(site for digit in names(num_digits) for site in (digit.what, digit.position))


def add_digit(
    model: GraphicalModel, digit: Digit, latents: int, speed: float, noise: float
) -> None:
    """Add the sites of one digit."""

    def step(before: Tensor, velocity: Tensor) -> Distribution:
        return Independent(Normal(before + velocity, noise), 1)

    model.add_site(digit.what, StandardNormal(latents))
    model.add_site(digit.velocity, lambda: Independent(Normal(torch.zeros(2), speed), 1))
    model.add_site(
        digit.position,
        step,
        parents=[lag(digit.position), digit.velocity],
        initial=lambda velocity: Independent(Normal(torch.zeros_like(velocity), 1.0), 1),
        scope="slice",
    )
