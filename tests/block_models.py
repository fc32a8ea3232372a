"""Models whose continuous latents move as one block, in double precision, with a little data each."""

import torch
from torch.distributions import (
    Categorical,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
)

from aif_dcpc.inference import GraphicalModel, every, lag


def number(value):
    """A tensor in double precision."""
    return torch.tensor(value, dtype=torch.float64)


def data(*shape, seed=0):
    """Standard normal numbers in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def schools():
    """Eight schools: effects around a mean, with an unknown spread."""
    model = GraphicalModel()
    model.add_site("mean", lambda: Normal(number(0.0), number(5.0)))
    model.add_site("spread", lambda: HalfCauchy(number(5.0)))
    model.add_site("effect", effects, ["mean", "spread"])
    errors = torch.linspace(9, 18, 8, dtype=torch.float64)
    model.add_site("y", lambda effect: Independent(Normal(effect, errors), 1), ["effect"])
    return model, {"y": 10 * data(1, 8)}


def effects(mean, spread):
    wide = mean.unsqueeze(-1).expand(*mean.shape, 8)
    return Independent(Normal(wide, spread.unsqueeze(-1)), 1)


def path():
    """A random walk of unknown step, seen with noise, for two series."""
    return walk(lambda s, step: Normal(s, step), [lag("s"), "step"], length=4)


def second_order():
    """A path that reads two slices back."""
    parents = [lag("s"), lag("s", 2), "step"]
    return walk(lambda s, u, step: Normal(0.5 * s + 0.2 * u, step), parents, length=5)


def walk(kernel, parents, length):
    model = GraphicalModel()
    model.add_site("step", lambda: LogNormal(number(0.0), number(1.0)))
    initial = {"initial": lambda step: Normal(torch.zeros_like(step), number(3.0))}
    model.add_site("s", kernel, parents, scope="slice", **initial)
    model.add_site("y", lambda s: Normal(s, number(0.7)), ["s"], scope="slice")
    return model, {"y": data(2, length)}


def one_slice():
    """A path of a single slice."""
    model, observed = path()
    return model, {"y": observed["y"][:, :1]}


def vector_path():
    """A path of vectors, each coordinate with a step of its own."""
    zeros = torch.zeros(3, dtype=torch.float64)
    model = GraphicalModel()
    model.add_site("step", lambda: Independent(LogNormal(zeros, number(1.0)), 1))
    model.add_site(
        "s",
        lambda s, step: Independent(Normal(s, step), 1),
        [lag("s"), "step"],
        initial=lambda step: Independent(Normal(torch.zeros_like(step), number(3.0)), 1),
        scope="slice",
    )
    model.add_site("y", lambda s: Normal(s.sum(-1), number(0.7)), ["s"], scope="slice")
    return model, {"y": data(2, 4)}


def levels():
    """A fast path whose step is a slow path."""
    model = GraphicalModel()
    model.add_site(
        "slow",
        lambda c: Normal(c, number(0.5)),
        [lag("slow")],
        initial=lambda: Normal(number(0.0), number(1.0)),
        scope=every(2),
    )
    model.add_site(
        "s",
        lambda s, c: Normal(s, c.exp()),
        [lag("s"), "slow"],
        initial=lambda c: Normal(c, number(3.0)),
        scope="slice",
    )
    model.add_site("y", lambda s: Normal(s, number(0.7)), ["s"], scope="slice")
    return model, {"y": data(2, 5)}


def crossed():
    """Two paths, each of which reads the other: one in the same slice, one a slice back."""
    model = GraphicalModel()
    model.add_site(
        "r",
        lambda r, s: Normal(r, (0.5 * s).exp()),
        [lag("r"), lag("s")],
        initial=lambda: Normal(number(0.0), number(1.0)),
        scope="slice",
    )
    model.add_site("s", lambda r: Normal(r.sin(), (0.3 * r).exp()), ["r"], scope="slice")
    model.add_site("y", lambda s: Normal(s, number(0.7)), ["s"], scope="slice")
    return model, {"y": data(1, 4)}


def correlated():
    """A vector around a latent mean, with a covariance that depends on it."""
    factor = number([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-0.3, 0.2, 0.5]])

    def kernel(mean):
        wide = mean.unsqueeze(-1).expand(*mean.shape, 3)
        return MultivariateNormal(wide, scale_tril=factor * (1 + mean**2)[..., None, None])

    model = GraphicalModel()
    model.add_site("mean", lambda: Normal(number(0.0), number(5.0)))
    model.add_site("z", kernel, ["mean"])
    model.add_site("y", lambda z: Normal(z.sum(-1), number(1.0)), ["z"])
    return model, {"y": data(2)}


def shared():
    """Positive latents of three data around a mean and a spread that they share."""
    model = GraphicalModel()
    model.add_site("mean", lambda: Normal(number(0.0), number(5.0)), scope="global")
    model.add_site("spread", lambda: HalfNormal(number(5.0)), scope="global")
    model.add_site("z", lambda mean, spread: Normal(mean, spread), ["mean", "spread"])
    model.add_site("rate", lambda z: Gamma(number(2.0), z.exp()), ["z"])
    model.add_site("y", lambda rate: Exponential(rate), ["rate"])
    return model, {"y": data(3).abs() + 0.1}


def switched():
    """A latent whose scale follows a discrete site outside of the block."""
    scales = number([0.3, 2.0])
    model = GraphicalModel()
    model.add_site("which", lambda: Categorical(number([0.4, 0.6])))
    model.add_site("mean", lambda: Normal(number(0.0), number(2.0)))
    model.add_site("z", lambda which, mean: Normal(mean, scales[which]), ["which", "mean"])
    model.add_site("y", lambda z: Normal(z, number(0.5)), ["z"])
    return model, {"y": data(3)}


BUILD = (
    *(schools, path, second_order, one_slice, vector_path, levels),
    *(crossed, correlated, shared, switched),
)
MODELS = {build.__name__: build for build in BUILD}
