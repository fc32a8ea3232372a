"""Linear-Gaussian models, whose posterior is that of one joint normal distribution, conditioned."""

import math

import torch
from torch.distributions import Normal

from aif_dcpc.experiments.exactness.case import Case, condition
from aif_dcpc.inference import GraphicalModel, every, lag


def chain_of_two() -> Case:
    """Two latents of posterior correlation above .99."""
    model = GraphicalModel()
    model.add_site("z1", lambda: Normal(0.0, 1.0))
    model.add_site("z2", lambda z: Normal(z, 0.1), parents=["z1"])
    model.add_site("x", lambda z: Normal(z, 1.0), parents=["z2"])
    weights = torch.zeros(3, 3).double()
    weights[1, 0] = weights[2, 1] = 1
    exact = condition(weights, torch.tensor([1.0, 0.1, 1.0]), [2], torch.ones(1))
    return Case("two latents, correlation .99", model, {"x": torch.ones(1)}, ("z1", "z2"), *exact)


def collider() -> Case:
    """A branching and merging graph: two causes of one effect, one of them seen from another side too."""
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda: Normal(0.0, 2.0))
    model.add_site("c", lambda a, b: Normal(a + b, 0.5), parents=["a", "b"])
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    model.add_site("y", lambda a: Normal(a, 1.0), parents=["a"])
    weights = torch.zeros(5, 5).double()
    weights[2, 0] = weights[2, 1] = weights[3, 2] = weights[4, 0] = 1
    exact = condition(
        weights, torch.tensor([1.0, 2.0, 0.5, 0.5, 1.0]), [3, 4], torch.tensor([2.0, -1.0])
    )
    data = {"x": torch.tensor([2.0]), "y": torch.tensor([-1.0])}
    return Case("branching and merging, collider", model, data, ("a", "b", "c"), *exact)


def levels() -> Case:
    """A global, a per-episode and a slow site above the slices."""
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("c", lambda g: Normal(g, 1.0), parents=["g"])
    model.add_site("z", lambda c: Normal(c, 1.0), parents=["c"], scope=every(2))
    model.add_site("o", lambda z: Normal(z, 1.0), parents=["z"], scope="slice")
    data = torch.tensor([1.0, 2.0, -1.0])
    weights = torch.zeros(7, 7).double()
    for child, parent in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)):
        weights[child, parent] = 1
    exact = condition(weights, torch.ones(7), [4, 5, 6], data)
    return Case("slow, episode and global sites", model, {"o": data[None]}, ("g", "c", "z"), *exact)


def state_space(length: int, *, missing: bool = False, size: int = 4) -> Case:
    """A linear-Gaussian state-space model; its smoother by joint conditioning."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator))[0] * 0.95
    data = torch.randn(length, size, generator=generator)
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(s @ rotation.T, 0.3),
        parents=[lag("s")],
        initial=lambda: Normal(torch.zeros(size), 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 0.5), parents=["s"], scope="slice")
    total = length * size
    weights = torch.zeros(2 * total, 2 * total).double()
    for t in range(1, length):
        weights[t * size : (t + 1) * size, (t - 1) * size : t * size] = rotation.double()
    weights[total:, :total] = torch.eye(total).double()
    noise = torch.cat(
        [torch.ones(size), torch.full((total - size,), 0.3), torch.full((total,), 0.5)]
    )
    shown = torch.arange(length) % 3 != 1 if missing else torch.ones(length, dtype=torch.bool)
    kept = [total + t * size + d for t in range(length) if shown[t] for d in range(size)]
    mean, covariance, evidence = condition(weights, noise, kept, data[shown].flatten())
    name = f"state space, {size}-dim, T = {length}" + (", a third missing" if missing else "")
    setup = {"masks": {"o": shown[None]}} if missing else {}
    return Case(
        name,
        model,
        {"o": data[None]},
        ("s",),
        mean[:total],
        covariance[:total, :total],
        evidence,
        setup,
    )


def intervention() -> Case:
    """The middle of a chain is set by hand; only its effects are evidence."""
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda a: Normal(a, 0.1), parents=["a"])
    model.add_site("c", lambda a, b: Normal(a + b, 1.0), parents=["a", "b"])
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    weights = torch.zeros(3, 3).double()  # a, c - b, x - b
    weights[1, 0] = weights[2, 1] = 1
    mean, covariance, evidence = condition(
        weights, torch.tensor([1.0, 1.0, 0.5]), [2], torch.tensor([2.0 - 3.0])
    )
    mean = mean + torch.tensor([0.0, 3.0]).double()
    setup = {"do": {"b": torch.full((1,), 3.0)}}
    return Case(
        "intervention",
        model,
        {"x": torch.tensor([2.0])},
        ("a", "c"),
        mean,
        covariance,
        evidence,
        setup,
    )


def counterfactual() -> Case:
    """What would have been at x = -1, having seen x = 1 and y: every cause keeps its noise (Pearl 2009, section 7.1).

    c confounds x and y, m = x c + noise passes x on, y's noise has the standard deviation exp(x /
    2), and w follows y unseen. Given both values of x, the values in the other world are linear in
    those of this one, which are Gaussian.
    """
    model = GraphicalModel()
    before = 1.0
    after = -1.0
    y = 2.0
    model.add_site("c", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    model.add_site("m", lambda x, c: Normal(x * c, 0.5), parents=["x", "c"])
    model.add_site("y", lambda x, c, m: Normal(m + 0.5 * c, (x / 2).exp()), parents=["x", "c", "m"])
    model.add_site("w", lambda y, c: Normal(y + c, 1.0), parents=["y", "c"])
    weights = torch.zeros(5, 5).double()  # c, x, m, y, w
    weights[1, 0] = 1
    weights[2, 0] = before
    weights[3, 0] = 0.5
    weights[3, 2] = 1
    weights[4, 0] = 1
    weights[4, 3] = 1
    noise = torch.tensor([1.0, 0.5, 0.5, math.exp(before / 2), 1.0])
    mean, covariance, evidence = condition(
        weights, noise, [1, 3], torch.tensor([before, y])
    )  # of c, m, w
    ratio = math.exp((after - before) / 2)  # of y's scales in the two worlds
    moved = torch.eye(4, 3).double()  # c, m', w', y' from c, m, w
    moved[1, 0] = after - before
    moved[3] = (
        moved[1] + torch.tensor([0.5 - ratio * 0.5, -ratio, 0.0]).double()
    )  # m' + c / 2 + ratio (y - m - c / 2)
    moved[2] = moved[2] + moved[3]  # w' = w - y + y'
    shift = torch.tensor([0.0, 0.0, ratio * y - y, ratio * y]).double()
    return Case(
        "counterfactual",
        model,
        {"x": torch.tensor([before]), "y": torch.tensor([y])},
        ("c", "m", "w", "y"),
        moved @ mean + shift,
        moved @ covariance @ moved.mT,
        evidence,
        counterfactual={"x": torch.tensor([after])},
    )
