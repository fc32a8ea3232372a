"""Proposals of straight lines: a density that integrates to one and is that of the draws, and exact conditionals.

Frequencies and moments are checked to 5 standard errors; seeds are fixed.
"""

import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.experiments.bouncing_digits import straight_paths
from aif_dcpc.experiments.bouncing_digits.graph import bouncing_digits
from aif_dcpc.experiments.bouncing_digits.rendering import Renderer, bounce, render, spot
from aif_dcpc.experiments.bouncing_digits.straight_paths import (
    Lines,
    draw_paths,
    draw_velocity,
    fold,
    pick,
)

SPEED = 0.2


@pytest.fixture
def lines(monkeypatch):
    """Two particles, one datum, three frames; 8 cells of starts and 16 of velocities, half of q the prior."""
    monkeypatch.setattr(straight_paths, "CELL", 0.25)
    monkeypatch.setattr(straight_paths, "CELLS_OF_VELOCITY", 16)
    monkeypatch.setattr(straight_paths, "DEFENSIVE", 0.25)
    places = torch.tensor(
        [[[[0.0, 0.5], [0.1, 0.3], [0.2, 0.1]]], [[[-0.9, 0.0], [-0.9, 0.0], [-0.5, 0.0]]]]
    )
    return Lines.through(places, SPEED)


def cells_by_hand(places):
    """Probabilities of the cells `(starts, velocities)` of one axis: exp(-|line - places|^2 / 2 spread^2) p(velocity)."""
    # 8 sd / 16 wide
    starts = torch.arange(-0.875, 1, 0.25)
    velocities = (torch.arange(16) - 7.5) * 0.1
    lines = fold(starts[:, None, None] + velocities[:, None] * torch.arange(3))
    fit = -(lines - places).square().sum(-1) / (2 * 0.1**2) - (velocities / SPEED).square() / 2
    return torch.softmax(fit.flatten(), 0).unflatten(0, (8, 16))


def test_lines_are_as_likely_as_they_fit(lines):
    for particle, places in enumerate(([0.0, 0.1, 0.2], [-0.9, -0.9, -0.5])):
        found = lines.log_cells[particle, 0, 0].exp().unflatten(0, (8, 16))
        assert torch.allclose(found, cells_by_hand(torch.tensor(places)), atol=1e-5)


def test_the_proposal_integrates_to_one(lines):
    """Both axes on a grid fine enough for the prior's share; cells are constant between the grid's points."""
    start = torch.arange(-5 + 0.025, 5, 0.05)
    velocity = torch.arange(-1.6 + 0.01, 1.6, 0.02)
    grid = torch.cartesian_prod(start, velocity)
    one = grid[:, None, None, :1].expand(-1, 2, 1, 2), grid[:, None, None, 1:].expand(-1, 2, 1, 2)
    first = lines.log_prob(one[0] * torch.tensor([1.0, 0.0]), one[1] * torch.tensor([1.0, 0.0]))
    at_zero = lines.log_prob(torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2))[0]
    second = lines.log_prob(one[0] * torch.tensor([0.0, 1.0]), one[1] * torch.tensor([0.0, 1.0]))
    area = 0.05 * 0.02
    # q(a, b) = q1(a) q2(b): the product of both sections' integrals is q(0, 0)
    product = (first.exp().sum(0) * area) * (second.exp().sum(0) * area)
    assert torch.allclose(product, at_zero.exp(), rtol=2e-3)


def test_draws_follow_the_density(lines):
    generator = torch.Generator().manual_seed(0)
    number = 40_000
    start, velocity = lines.draw(number, generator)
    assert start.shape == velocity.shape == (number, 2, 1, 2)
    cells = cells_by_hand(torch.tensor([0.0, 0.1, 0.2]))
    i = (start[:, 0, 0, 0] + 1) / 0.25
    j = velocity[:, 0, 0, 0] / 0.1 + 8
    edges = torch.arange(-1.0, 1.01, 0.25), torch.arange(-0.8, 0.81, 0.1)
    of_prior = (
        (Normal(0.0, 1.0).cdf(edges[0]).diff()[:, None]) * Normal(0.0, SPEED).cdf(edges[1]).diff()
    )
    expected = 0.75 * cells + 0.25 * of_prior
    for a, b in ((3, 8), (3, 9), (4, 8), (4, 9), (0, 7)):
        found = ((i.floor() == a) & (j.floor() == b)).double().mean()
        assert abs(found - expected[a, b]) < 5 * (expected[a, b] / number) ** 0.5
    inside = (i - i.floor())[(i >= 0) & (i < 8)]
    assert abs(inside.mean() - 0.5) < 0.02 and abs(inside.var() - 1 / 12) < 0.01
    outside = ((i < 0) | (i >= 8)).double().mean()
    assert (
        abs(outside - 0.25 * 2 * Normal(0.0, 1.0).cdf(torch.tensor(-1.0)))
        < 5 * (0.1 / number) ** 0.5
    )
    # E over draws of p / q is the integral of p: one
    ratio = (lines.log_prior(start, velocity) - lines.log_prob(start, velocity)).exp()
    assert ((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / number**0.5).all()


def test_velocities_follow_their_conditional():
    """n increments of mean v and sd s, v ~ Normal(0, speed^2): a Gaussian of precision speed^-2 + n s^-2."""
    position = torch.tensor([[0.0, 1.0], [0.3, 0.8], [0.4, 0.7]]).expand(20_000, 1, 3, 2)
    found = draw_velocity(position, SPEED, 0.1, torch.Generator().manual_seed(0))
    precision = 1 / 0.04 + 2 / 0.01
    mean = torch.tensor([0.4, -0.3]) / 0.01 / precision
    assert ((found.mean((0, 1)) - mean).abs() < 5 / (precision * 20_000) ** 0.5).all()
    assert ((found.var((0, 1)) * precision - 1).abs() < 5 * (2 / 20_000) ** 0.5).all()
    alone = draw_velocity(position[:, :, :1], SPEED, 0.1, torch.Generator().manual_seed(0))
    assert ((alone.var((0, 1)) / 0.04 - 1).abs() < 5 * (2 / 20_000) ** 0.5).all()


def test_paths_wander_about_their_lines():
    start = torch.zeros(3000, 2, 1, 2)
    velocity = torch.full((3000, 2, 1, 2), 0.3)
    paths = draw_paths(start, velocity, 4, 0.1, torch.Generator().manual_seed(0)).flatten(0, 2)
    assert (paths[:, 0] == 0).all()
    steps = paths.diff(dim=1)
    assert abs(steps.mean() - 0.3) < 5 * 0.1 / steps.numel() ** 0.5
    assert abs(steps.var() / 0.01 - 1) < 5 * (2 / steps.numel()) ** 0.5
    assert abs((steps[:, 0] * steps[:, 1]).mean() - 0.09) < 0.003  # increments are independent


def test_picking_candidates():
    candidates = torch.arange(24.0).reshape(3, 2, 2, 2)
    chosen = torch.tensor([[2, 0], [1, 1]])
    expected = torch.stack(
        [torch.stack([candidates[chosen[k, b], k, b] for b in range(2)]) for k in range(2)]
    )
    assert torch.equal(pick(candidates, chosen), expected)


# -- the bouncing digit ----------------------------------------------------------------------------


def test_films_bounce_as_told():
    torch.manual_seed(0)
    digits = torch.rand(4000, 1, 2, 2)
    films, position = bounce(digits, frames=3, canvas=4, speed=0.3)
    assert films.shape == (4000, 3, 1, 4, 4) and position.shape == (4000, 3, 2)
    assert torch.equal(films, render(digits.unsqueeze(1), position, 4))
    assert position[:, 0].min() > -1 and position[:, 0].max() < 1
    assert abs(position[:, 0].var() - 1 / 3) < 0.02  # uniform on [-1, 1]
    assert abs(position[:, 0].mean()) < 5 * (1 / 3 / 8000) ** 0.5
    velocity = position.diff(dim=1)
    assert torch.allclose(velocity[:, 0], velocity[:, 1], atol=1e-6)
    assert abs(velocity.std() / 0.3 - 1) < 5 * (1 / 16000) ** 0.5
    assert bounce(digits[:1])[0].shape == (1, 10, 1, 32, 32)


def test_the_spot_is_bright_in_the_middle():
    """Logits 1 - 5 r^2 of the distance r from the centre, sides at 1."""
    found = spot(5)
    assert found[2, 2] == 1
    assert found[0, 0] == -9
    assert found[2, 0] == -4
    assert found[1, 2] == pytest.approx(-0.25)
    renderer = Renderer(2, 3, 5, 9, 0.4)
    renderer.network[-1].weight.data.zero_()
    bias = renderer.network[-1].bias.data
    assert (
        bias - spot(5).flatten()
    ).abs().max() < 1 / 3**0.5 + 1e-5  # the layer's own start is within 1 / sqrt(hidden)
    assert renderer.log_scale.exp().item() == pytest.approx(0.4)
    frame = renderer(torch.zeros(1, 2), torch.zeros(1, 2))
    assert torch.allclose(
        frame.mean, render(torch.sigmoid(bias).reshape(1, 1, 5, 5), torch.zeros(1, 2), 9)
    )


def test_digits_lie_between_pixels_bilinearly():
    digit = torch.ones(1, 1, 1, 1)
    # corner at (.5, 1.25) of a free width of 2
    frame = render(digit, torch.tensor([[-0.5, 0.25]]), 3)[0, 0]
    expected = torch.tensor([0.0, 0.75, 0.25])[:, None] * torch.tensor([0.5, 0.5, 0.0])
    assert torch.allclose(frame, expected)


def test_the_graph_has_its_laws():
    model = bouncing_digits(
        latents=2, hidden=3, patch=2, canvas=4, speed=0.3, noise=0.05, scale=0.2
    )
    assert model.sites["velocity"].kernel().base_dist.scale.unique().item() == pytest.approx(0.3)
    law = model.sites["position"].kernel(torch.tensor([0.1, 0.2]), torch.tensor([0.5, -0.5]))
    assert torch.allclose(law.mean, torch.tensor([0.6, -0.3]))
    assert law.base_dist.scale[0].item() == pytest.approx(0.05)
    first = model.sites["position"].initial(torch.tensor([0.5, -0.5]))
    assert (first.mean == 0).all() and (first.base_dist.scale == 1).all()
    assert not model.conditionals
    handed = bouncing_digits(candidates=1).conditionals[("velocity", "position")]
    assert (handed.speed, handed.noise, handed.candidates) == (0.2, 0.02, 1)
