"""The batched climb against one chain at a time in plain loops: L-BFGS as Nocedal and Wright have it (algorithm 7.4)."""

import pytest
import torch

import aif_dcpc.inference.arrival.climb as climbing
from aif_dcpc.inference.arrival.climb import climb
from aif_dcpc.inference.arrival.start import _pooled_metric


class Chain:
    """One chain's climb, and what it was after every evaluation."""

    def __init__(self, density, place):
        self.density = density
        self.place = place
        self.height, score = density(place)
        self.score = torch.nan_to_num(score, nan=0.0, posinf=0.0, neginf=0.0)
        self.pairs = []
        self.size = 1 / max(float(self.score.norm()), 1.0)
        self.calm = 0
        self.told = [(float(self.height), 0)]

    def direction(self):
        """H g by the two loops over at most eight pairs; the first H is s'y / y'y of the newest."""
        q = self.score
        shares = []
        for s, y in reversed(self.pairs):
            shares.append(float(s @ q) / float(s @ y))
            q = q - shares[-1] * y
        if self.pairs:
            s, y = self.pairs[-1]
            q = q * (float(s @ y) / float(y @ y))
        for (s, y), share in zip(self.pairs, reversed(shares), strict=True):
            q = q + (share - float(y @ q) / float(s @ y)) * s
        return q

    def evaluate(self):
        direction = self.direction()
        gain = float(direction @ self.score)
        is_near = gain < 0.2 * len(self.place)
        self.calm = self.calm + bool(self.pairs) if is_near else 0
        tried = self.place + self.size * direction
        height, score = self.density(tried)
        rises = bool(height > self.height + 1e-4 * self.size * gain)
        rises = rises and bool(torch.isfinite(score).all())
        enters = bool(torch.isfinite(height)) and not bool(torch.isfinite(self.height))
        if (rises or enters) and self.calm < 2:
            s = tried - self.place
            y = self.score - score
            if float(s @ y) > 1e-10 * float(s.norm() * y.norm()):
                self.pairs = [*self.pairs, (s, y)][-8:]
            self.place = tried
            self.height = height
            self.score = score
            self.size = 1.0
        else:
            self.size *= 0.3
        self.told.append((float(self.height), self.calm))


def ending(chains, dimension, share):
    """The first fifth evaluation at which so many chains have been near twice, or gained less than .1 D in twenty."""
    for number in range(5, 61, 5):
        over = 0
        for chain in chains:
            height, calm = chain.told[number - 1]
            before = chain.told[number - 21][0] if number > 20 else -float("inf")
            over += calm >= 2 or height - before < 0.1 * dimension
        if over >= share * len(chains):
            return number
    raise AssertionError("the climb goes on")


def valley(x):
    """A bent valley, steep across and flat along; not a number beyond a wall."""
    across = 8 * (x[..., 1] - x[..., 0].square())
    along = x[..., 0] - 1
    rest = x[..., 2:] / torch.tensor([0.01, 30.0]).double()
    height = -0.5 * (across.square() + along.square() + rest.square().sum(-1))
    slope = torch.stack([16 * x[..., 0] * across - along, -8 * across], -1)
    score = torch.cat([slope, -rest / torch.tensor([0.01, 30.0]).double()], -1)
    wall = x[..., 0] > 2.5
    return torch.where(wall, torch.nan, height), torch.where(wall.unsqueeze(-1), torch.nan, score)


def tails(x):
    """Student's tails: scores that fall with the distance."""
    scale = torch.tensor([1.0, 0.1, 40.0]).double()
    z = x / scale
    return -torch.log1p(z.square()).sum(-1), -2 * z / (1 + z.square()) / scale


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("density, dimension, width", [(valley, 4, 1.0), (tails, 3, 40.0)])
def test_every_chain_climbs_as_it_would_alone(density, dimension, width, share, monkeypatch):
    monkeypatch.setattr(climbing, "SHARE", share)
    noise = torch.randn(12, dimension, generator=torch.Generator().manual_seed(3)).double()
    start = width * noise
    found = climb(density, start.unsqueeze(1))
    chains = [Chain(density, x) for x in start]
    for chain in chains:
        for _ in range(60):
            chain.evaluate()
    assert found.evaluations == ending(chains, dimension, share)
    for number, x in enumerate(start):
        alone = Chain(density, x)
        for _ in range(found.evaluations - 1):
            alone.evaluate()
        assert torch.allclose(found.place[number, 0], alone.place, rtol=1e-6, atol=1e-9)
        assert torch.allclose(found.log_prob[number, 0], alone.height, rtol=1e-6, equal_nan=True)
        assert torch.allclose(found.score[number, 0], alone.score, rtol=1e-5, atol=1e-6)
        known = [s for s in found.steps[:, number, 0] if bool(s.any())]
        assert len(known) == len(alone.pairs)
        for step, (expected, _) in zip(known, alone.pairs, strict=True):
            assert torch.allclose(step, expected, rtol=1e-5, atol=1e-8)


def test_pairs_of_all_chains_make_one_metric():
    """Of a Gaussian, pairs with s'y scaled to one: S is the geometric mean of their second moments, and so its covariance."""
    precision = torch.tensor([[4.0, 1.5], [1.5, 1.0]]).double()

    def gaussian(x):
        pull = x @ precision
        return -0.5 * (x * pull).sum(-1), -pull

    start = 5 * torch.randn(200, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    factor = _pooled_metric(climb(gaussian, start)).factor[0]
    assert torch.allclose(factor @ factor.T, torch.linalg.inv(precision), rtol=0.05)
