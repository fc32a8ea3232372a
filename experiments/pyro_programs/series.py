"""Static programs in the manner of Pyro's own examples, through time: capture-recapture, hidden Markov models, deep ones."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam import LocScaleReparam
from torch import Tensor, nn

# -- capture and recapture (Cormack, Jolly, Seber) -------------------------------------------------

CAUGHT = torch.tensor(  # (animals, occasions)
    [[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 1]]
).float()
SEX = torch.tensor([0, 0, 1, 1, 1])


def _histories(caught: Tensor, survival: list[Tensor], recapture: Tensor) -> None:
    """Each animal lives on or not, and is seen or not; what was before its first capture is masked."""
    with pyro.plate("animals", len(caught)):
        alive = torch.zeros(len(caught))
        is_known = torch.zeros(len(caught), dtype=torch.bool)
        for t in pyro.markov(range(caught.shape[1])):
            known: Any = is_known  # Pyro types its masks by a class that tensors do not have
            with pyro.poutine.mask(mask=known):
                chance = torch.where(is_known, survival[t] * alive, torch.ones(()))
                alive = pyro.sample(f"alive_{t}", dist.Bernoulli(chance))
                pyro.sample(f"caught_{t}", dist.Bernoulli(recapture * alive), obs=caught[:, t])
            is_known = is_known | (caught[:, t] > 0)


def cjs_1(caught: Tensor) -> None:
    """One chance to survive, one to be caught."""
    phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    _histories(caught, [phi] * caught.shape[1], rho)


def cjs_2(caught: Tensor) -> None:
    """A chance to survive for every interval."""
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    phi = [pyro.sample(f"phi_{t}", dist.Uniform(0.0, 1.0)) for t in range(caught.shape[1])]
    _histories(caught, phi, rho)


def cjs_3(caught: Tensor) -> None:
    """Intervals drawn around a mean, on the scale of log odds."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    spread = pyro.sample("spread", dist.HalfNormal(1.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    phi = [
        torch.sigmoid(pyro.sample(f"logit_{t}", dist.Normal(mean, spread)))
        for t in range(caught.shape[1])
    ]
    _histories(caught, phi, rho)


cjs_3_reparam = pyro.poutine.reparam(
    cjs_3, config={f"logit_{t}": LocScaleReparam(0.0) for t in range(CAUGHT.shape[1])}
)


def cjs_4(caught: Tensor) -> None:
    """Animals drawn around a mean."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    with pyro.plate("individuals", len(caught)):
        logit = pyro.sample("logit", dist.Normal(mean, 1.0))
    _histories(caught, [torch.sigmoid(logit)] * caught.shape[1], rho)


def cjs_5(caught: Tensor, sex: Tensor) -> None:
    """A chance to survive for each sex."""
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    with pyro.plate("sexes", 2):
        phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
    _histories(caught, [phi[sex]] * caught.shape[1], rho)


# -- hidden Markov models --------------------------------------------------------------------------

NOTES = torch.tensor(  # (series, steps, tones)
    [[[1, 0], [1, 0], [0, 1], [0, 1]], [[1, 1], [0, 0], [1, 0], [0, 0]]]
).float()
LENGTHS = torch.tensor([4, 2])


def _tables(size: int = 2, tones: int = 2) -> tuple[Tensor, Tensor]:
    rows = 0.9 * torch.eye(size) + 0.1
    probs_x = pyro.sample("probs_x", dist.Dirichlet(rows).to_event(1))
    probs_y = pyro.sample("probs_y", dist.Beta(1.0, 2.0).expand([size, tones]).to_event(2))
    return probs_x, probs_y


def hmm_0(notes: Tensor) -> None:
    """One series at a time, in sequential plates."""
    probs_x, probs_y = _tables()
    for i in map(int, pyro.plate("series", len(notes))):
        x: Tensor | int = 0
        for t in pyro.markov(range(notes.shape[1])):
            x = pyro.sample(f"x_{i}_{t}", dist.Categorical(probs_x[x]))
            with pyro.plate(f"tones_{i}_{t}", notes.shape[2]):
                pyro.sample(f"y_{i}_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=notes[i, t])


def hmm_1(notes: Tensor, lengths: Tensor) -> None:
    """All series at once, masked by their lengths."""
    probs_x, probs_y = _tables()
    tones = pyro.plate("tones", notes.shape[2], dim=-1)
    with pyro.plate("series", len(notes), dim=-2):
        x: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        for t in pyro.markov(range(notes.shape[1])):
            is_on: Any = (t < lengths).unsqueeze(-1)
            with pyro.poutine.mask(mask=is_on):
                x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]))
                with tones:
                    pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=notes[:, t])


def hmm_2(notes: Tensor) -> None:
    """Tones depend on the tones before, too."""
    probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(2) + 0.1).to_event(1))
    probs_y = pyro.sample("probs_y", dist.Beta(1.0, 2.0).expand([2, 2, 2]).to_event(3))
    place = torch.arange(2)
    with pyro.plate("series", len(notes), dim=-2):
        x: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        y = torch.zeros(len(notes), 2, dtype=torch.long)
        for t in pyro.markov(range(notes.shape[1])):
            x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]))
            with pyro.plate(f"tones_{t}", 2, dim=-1):
                chance = probs_y[x, y, place]
                y = pyro.sample(f"y_{t}", dist.Bernoulli(chance), obs=notes[:, t]).long()


def hmm_3(notes: Tensor) -> None:
    """Two hidden chains whose states together make the tones."""
    probs_w = pyro.sample("probs_w", dist.Dirichlet(0.9 * torch.eye(2) + 0.1).to_event(1))
    probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(2) + 0.1).to_event(1))
    probs_y = pyro.sample("probs_y", dist.Beta(1.0, 2.0).expand([2, 2, 2]).to_event(3))
    with pyro.plate("series", len(notes), dim=-2):
        w: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        x: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        for t in pyro.markov(range(notes.shape[1])):
            w = pyro.sample(f"w_{t}", dist.Categorical(probs_w[w]))
            x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]))
            with pyro.plate(f"tones_{t}", 2, dim=-1):
                pyro.sample(
                    f"y_{t}",
                    dist.Bernoulli(probs_y[w, x, torch.arange(2)]),
                    obs=notes[:, t],
                )


def hmm_4(notes: Tensor) -> None:
    """Two chains, the second led by the first."""
    probs_w = pyro.sample("probs_w", dist.Dirichlet(0.9 * torch.eye(2) + 0.1).to_event(1))
    probs_x = pyro.sample("probs_x", dist.Dirichlet(torch.ones(2, 2, 2)).to_event(2))
    probs_y = pyro.sample("probs_y", dist.Beta(1.0, 2.0).expand([2, 2]).to_event(2))
    with pyro.plate("series", len(notes), dim=-2):
        w: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        x: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        for t in pyro.markov(range(notes.shape[1])):
            w = pyro.sample(f"w_{t}", dist.Categorical(probs_w[w]))
            x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[w, x]))
            with pyro.plate(f"tones_{t}", 2, dim=-1):
                pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x, torch.arange(2)]), obs=notes[:, t])


def hmm_6(notes: Tensor) -> None:
    """Of second order: a state follows from the two before."""
    probs_x = pyro.sample("probs_x", dist.Dirichlet(torch.ones(2, 2, 2)).to_event(2))
    probs_y = pyro.sample("probs_y", dist.Beta(1.0, 2.0).expand([2, 2]).to_event(2))
    with pyro.plate("series", len(notes), dim=-2):
        before: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        x: Tensor = torch.zeros(len(notes), 1, dtype=torch.long)
        for t in pyro.markov(range(notes.shape[1]), history=2):
            new = pyro.sample(f"x_{t}", dist.Categorical(probs_x[before, x]))
            before = x
            x = new
            with pyro.plate(f"tones_{t}", 2, dim=-1):
                pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x, torch.arange(2)]), obs=notes[:, t])


LEVELS = torch.tensor([0.3, 0.8, 1.5, 1.1, 2.0, 1.8, 2.6, 2.2, 2.9, 3.4, 3.1, 3.0])


def local_level(y: Tensor) -> None:
    """A random walk that is seen through noise, one statement after the other."""
    level = pyro.sample("level_0", dist.Normal(0.0, 1.0))
    pyro.sample("y_0", dist.Normal(level, 0.5), obs=y[0])
    for t in range(1, len(y)):
        level = pyro.sample(f"level_{t}", dist.Normal(level, 0.7))
        pyro.sample(f"y_{t}", dist.Normal(level, 0.5), obs=y[t])


# -- counts ----------------------------------------------------------------------------------------


def sir(infections: Tensor) -> None:
    """An epidemic by binomial steps, whose counts bound the next ones."""
    rate = pyro.sample("rate", dist.Beta(2.0, 10.0))
    susceptible = torch.tensor(90.0)
    for t in range(len(infections)):
        new = pyro.sample(f"new_{t}", dist.Binomial(susceptible, rate))
        pyro.sample(f"seen_{t}", dist.Poisson(0.5 * new + 0.1), obs=infections[t])
        susceptible = susceptible - new


# -- deep models -----------------------------------------------------------------------------------


def _networks(seed: int) -> tuple[nn.Module, nn.Module]:
    """Decoder of six pixels from two numbers, and the step from two numbers to the next."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 6))
        step = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    return decoder, step


DECODER, STEP = _networks(5)
PIXELS = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]])


def vae(pixels: Tensor) -> None:
    """The generative half of a variational autoencoder."""
    pyro.module("decoder", DECODER)
    with pyro.plate("data", len(pixels)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("pixels", dist.Bernoulli(logits=DECODER(z)).to_event(1), obs=pixels)


def dmm(pixels: Tensor) -> None:
    """A deep Markov model: networks lead from state to state, and to what is seen."""
    pyro.module("decoder", DECODER)
    pyro.module("step", STEP)
    z = torch.zeros(2)
    for t in pyro.markov(range(len(pixels))):
        z = pyro.sample(f"z_{t}", dist.Normal(STEP(z), 0.8).to_event(1))
        pyro.sample(f"x_{t}", dist.Bernoulli(logits=DECODER(z)).to_event(1), obs=pixels[t])
