"""Improper priors as proper ones times a factor that undoes their density.

A flat prior cannot be drawn from. It is written as x ~ q, a wide proper law on the same support, and a
factor 1 / q(x): the product is the flat density, so the posterior is that of the program, and every
move, temperature and evidence that starts from draws of q stays right. The evidence is that under
the density 1, hence infinite where nothing proper follows.
"""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to

Message = Any  # Pyro's record of one statement, by key
DEGREES_OF_FREEDOM = 4.0  # of q: most draws lie within 2, tails reach far, and its log stays small


def proper_law(flat: dist.ImproperUniform) -> TorchDistribution:
    """Return q of an improper law: Student's t in unconstrained coordinates."""
    bijection = biject_to(flat.support)
    shape = bijection.inverse_shape(flat.shape())
    event = len(shape) - len(flat.batch_shape)
    base = dist.StudentT(DEGREES_OF_FREEDOM, torch.zeros(shape), 1.0).to_event(event)
    law: TorchDistribution = base
    if flat.support not in (dist.constraints.real, dist.constraints.real_vector):
        law = dist.TransformedDistribution(base, [bijection])
    return law


def unit_statement(message: Message, name: str, log_factor: Tensor) -> Message:
    """Return the statement `pyro.factor(name, log_factor)` in the place of another, `(*plates)` nats."""
    factor = dist.Unit(log_factor, validate_args=False)
    value = log_factor.new_empty((*log_factor.shape, 0))
    changes = {"name": name, "fn": factor, "value": value, "is_observed": True, "mask": None}
    return {**message, **changes}


def undoing_factor(message: Message) -> Message:
    """Return the factor that makes the density of a statement one: everywhere, or where it is masked off."""
    log_factor = -message["fn"].log_prob(message["value"])
    if message["infer"].get("_is_flat"):
        return unit_statement(message, f"{message['name']}_flat", log_factor)
    kept = torch.as_tensor(message["mask"])
    log_factor = torch.where(kept, torch.zeros_like(log_factor), log_factor)
    return unit_statement(message, f"{message['name']}_mask", log_factor)
