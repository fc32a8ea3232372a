"""Scales and smoothness of features, by the evidence of the data.

The log evidence of the regression is closed form and differentiable; lengthscales and prior scales
climb it by Adam from where they are, under wide log-normal priors that hold them while data are few.
"""

import math

import torch
from torch import Tensor

from aif_dcpc.agents.gaussian.features import Scales, Shape, prior_scale
from aif_dcpc.agents.gaussian.regression import Regression, Sums
from aif_dcpc.inference.ascent import ascend

STEPS = 20
RATE = 0.1
ROWS = 500  # of data, at most: half of them the latest
# of the prior, relative to the noise: beyond it the rounding of sums over thousands of rows counts for
# more than the prior does, and what no row has shown is drawn at random
LARGEST = 3e4
CONSTANT = 1e-9  # share of its size that a number must vary by, not to be taken for a constant
STILL = 1e-12  # least root mean square of what is predicted, in its own unit


def scales_of(inputs: Tensor, changes: Tensor) -> Scales:
    """Mean and standard deviation of inputs `(N, I)`, root mean square of changes `(N, D)`.

    In whatever unit the world counts: constants have a spread of 1.
    """
    spread = inputs.std(0, correction=0)
    varies = spread > CONSTANT * inputs.abs().amax(0)
    return Scales(
        centre=inputs.mean(0),
        spread=torch.where(varies, spread, torch.ones_like(spread)),
        change=changes.square().mean(0).sqrt().clamp(min=STILL),
    )


def fit_shape(base: Tensor, phases: Tensor, inputs: Tensor, outputs: Tensor, start: Shape) -> Shape:
    """Climb the evidence of normalised inputs `(N, I)` and outputs `(N, D)`."""
    logs = torch.cat([start.lengthscales, start.linear[None], start.waves[None]]).log()
    given = (base, phases, inputs, outputs)
    return _shape(ascend(lambda at: log_posterior(at, *given), logs, steps=STEPS, rate=RATE))


def _shape(logs: Tensor) -> Shape:
    values = logs.exp()
    values = torch.cat([values[:-2], values[-2:].clamp(max=LARGEST)])
    return Shape(lengthscales=values[:-2], linear=values[-2], waves=values[-1])


def log_posterior(
    logs: Tensor, base: Tensor, phases: Tensor, inputs: Tensor, outputs: Tensor
) -> Tensor:
    """Log evidence plus log prior of the logarithms of (lengthscales, linear, waves), nats."""
    shape = _shape(logs)
    waves = base.shape[1]
    angles = (inputs / shape.lengthscales) @ base + phases
    ones = inputs.new_ones(len(inputs), 1)
    features = torch.cat([ones, inputs, math.sqrt(2 / waves) * angles.cos()], 1)
    scale = prior_scale(shape, inputs.shape[1], waves)
    found = Regression.given(Sums.of(features, outputs), scale)
    return found.log_evidence() + log_prior(logs)


def log_prior(logs: Tensor) -> Tensor:
    """Log-normal priors: lengthscales about 3 (a factor of e^1), prior scales about 10 (e^2.5)."""
    lengths = -0.5 * (logs[:-2] - math.log(3.0)).square().sum()
    return lengths - 0.5 * ((logs[-2:] - math.log(10.0)) / 2.5).square().sum()
