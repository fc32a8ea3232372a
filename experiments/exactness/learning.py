"""Learning against maximum likelihood: `python -m aif_dcpc.experiments.exactness.learning`.

Probabilistic PCA against its closed form (Tipping and Bishop 1999), and a linear-Gaussian
state-space model against the maximum of the Kalman filter's likelihood. Both bars: .01 nats per
datum (and slice). Measured with seed 0, about a minute on one thread: .0000 and .0001.
"""

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from aif_dcpc.commands.command import run_script
from aif_dcpc.inference import DCPC, GraphicalModel, State, lag
from aif_dcpc.inference.learning import learn_step

NUM_STEPS = 1500


def main() -> None:
    """Learn both models and print what is missing to the maximum."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.manual_seed(0)
    print(f"probabilistic PCA: {pca_gap():+.4f} nats per datum below the maximum (bar .01)")
    print(
        f"state space:       {state_space_gap():+.4f} nats per datum and slice below the maximum (bar .01)"
    )


def learn(engine: DCPC, state: State, parameters: list[nn.Parameter], rate: float) -> None:
    """Adam, its rate falling to zero; iterates of the last third are averaged."""
    optimizer = torch.optim.Adam(parameters, lr=rate)
    means = [torch.zeros_like(p) for p in parameters]
    averaged = NUM_STEPS // 3
    for step in range(NUM_STEPS):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / NUM_STEPS)
        state, _ = learn_step(engine, state, optimizer)
        if step >= NUM_STEPS - averaged:
            for mean, parameter in zip(means, parameters, strict=True):
                mean += parameter.detach() / averaged
    for mean, parameter in zip(means, parameters, strict=True):
        parameter.data.copy_(mean)


# -- probabilistic PCA -----------------------------------------------------------------------------


class Loading(nn.Module):
    """p(x | z) = Normal(W z + mean, scale^2 I)."""

    def __init__(self, latents: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latents, size)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Distribution:
        """The law of x given z."""
        return Independent(Normal(self.linear(z), self.log_scale.exp()), 1)


def pca_gap(number: int = 1000, size: int = 10, latents: int = 3) -> float:
    """Nats per datum between the closed-form maximum and what was learned."""
    x = (
        torch.randn(number, latents) @ torch.randn(latents, size)
        + 0.5 * torch.randn(number, size)
        + 1
    )
    layer = Loading(latents, size)
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(latents), 1.0), 1))
    model.add_site("x", layer, parents=["z"])
    engine = DCPC(model, num_particles=8)
    learn(engine, engine.init({"x": x}, seed=0), list(model.parameters()), 0.05)
    values = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)
    log_det = values[:latents].log().sum() + (size - latents) * values[latents:].mean().log()
    best = -0.5 * (size * math.log(2 * math.pi) + log_det + size)
    covariance = layer.linear.weight @ layer.linear.weight.mT + layer.log_scale.mul(
        2
    ).exp() * torch.eye(size)
    found = torch.distributions.MultivariateNormal(layer.linear.bias, covariance).log_prob(x).mean()
    return float((best - found).detach())


# -- a state-space model ---------------------------------------------------------------------------


class Scaled(nn.Module):
    """p(child | parent) = Normal(weight parent, scale^2)."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, parent: Tensor) -> Distribution:
        """The law of the child."""
        return Normal(self.weight * parent, self.log_scale.exp())


def state_space_gap(number: int = 50, length: int = 40) -> float:
    """Nats per datum and slice between the Kalman maximum and what was learned."""
    observed = simulated(number, length)
    transition = Scaled(0.5)
    emission = Scaled(1.0)
    model = GraphicalModel()
    first: Callable[[], Distribution] = lambda: Normal(torch.zeros(()), 1.0)  # noqa: E731
    model.add_site("s", transition, parents=[lag("s")], initial=first, scope="slice")
    model.add_site("o", emission, parents=["s"], scope="slice")
    engine = DCPC(model, num_particles=8)
    learn(engine, engine.init({"o": observed}, seed=0), list(model.parameters()), 0.02)
    found = [transition.weight, transition.log_scale, emission.weight, emission.log_scale]
    best = kalman_maximum(observed)
    return (best - float(kalman_log_likelihood(observed, *found).detach())) / (number * length)


def simulated(number: int, length: int) -> Tensor:
    """Series `(number, length)` with coefficient .8, transition noise .5, observations scaled by 1.5 with noise .7."""
    state = torch.randn(number)
    rows = []
    for step in range(length):
        state = state if step == 0 else 0.8 * state + 0.5 * torch.randn(number)
        rows.append(1.5 * state + 0.7 * torch.randn(number))
    return torch.stack(rows, 1)


def kalman_log_likelihood(
    observed: Tensor, a: Tensor, log_q: Tensor, c: Tensor, log_r: Tensor
) -> Tensor:
    """Summed log p(observed), nats, by the filter's one-step predictions."""
    mean = torch.zeros(len(observed))
    variance = torch.ones(())
    total = torch.zeros(())
    for seen in observed.unbind(1):
        predicted = c.square() * variance + (2 * log_r).exp()
        total = total + Normal(c * mean, predicted.sqrt()).log_prob(seen).sum()
        gain = c * variance / predicted
        mean = mean + gain * (seen - c * mean)
        variance = variance * (1 - gain * c)
        mean = a * mean
        variance = a.square() * variance + (2 * log_q).exp()
    return total


def kalman_maximum(observed: Tensor) -> float:
    """The largest log likelihood over all four parameters."""
    from scipy.optimize import minimize

    def energy(values: list[float]) -> float:
        return -float(kalman_log_likelihood(observed, *torch.tensor(values, dtype=torch.float32)))

    return -float(
        minimize(energy, [0.8, -0.7, 1.5, -0.4], method="Nelder-Mead", options={"maxiter": 300}).fun
    )


if __name__ == "__main__":
    run_script(main)
