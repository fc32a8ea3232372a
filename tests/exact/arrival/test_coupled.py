"""Coupled discrete sites in `sample`, against enumeration: a 0/1 gate locks sites that move alone."""

import itertools
import math

import torch
from torch.distributions import Bernoulli, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.moves.elimination import coupled_groups

P_LEFT = 0.1
P_RIGHT = 0.2
P_SEEN = {0: 0.05, 1: 0.9}


def gate():
    """Either cause opens the gate for certain; the gate is seen through noise."""
    model = GraphicalModel()
    model.add_site("left", lambda: Bernoulli(torch.tensor(P_LEFT)))
    model.add_site("right", lambda: Bernoulli(torch.tensor(P_RIGHT)))
    model.add_site("open", lambda a, b: Bernoulli((a + b).clamp(max=1.0)), ["left", "right"])
    model.add_site("seen", lambda o: Bernoulli(torch.where(o > 0, P_SEEN[1], P_SEEN[0])), ["open"])
    return model, {"seen": torch.ones(1)}


def posterior_of_gate():
    """P(left), P(right), P(open) given that the gate is seen, by enumeration."""
    total = 0.0
    found = [0.0, 0.0, 0.0]
    for left, right in itertools.product((0, 1), repeat=2):
        gate_open = int(left or right)
        weight = (P_LEFT if left else 1 - P_LEFT) * (P_RIGHT if right else 1 - P_RIGHT)
        weight *= P_SEEN[gate_open]
        total += weight
        found = [f + weight * v for f, v in zip(found, (left, right, gate_open), strict=True)]
    return [f / total for f in found]


def test_a_gate_of_zeros_and_ones_is_drawn_exactly():
    """12,800 independent draws: a right sampler fails one of three at 5 standard errors 2 in a million."""
    model, data = gate()
    draws = DCPC(model).sample(data, seed=0)
    assert not draws.warnings
    for name, expected in zip(("left", "right", "open"), posterior_of_gate(), strict=True):
        error = math.sqrt(expected * (1 - expected) / draws[name].numel())
        assert abs(float(draws[name].mean()) - expected) < 5 * error
    assert bool((draws["open"] == (draws["left"] + draws["right"]).clamp(max=1)).all())


def test_sites_that_share_no_factor_are_groups_of_their_own():
    model, _ = gate()
    model.add_site("alone", lambda: Bernoulli(torch.tensor(0.5)))
    model.add_site("x", lambda a: Normal(a, 1.0), ["alone"])
    data = {"seen": torch.ones(1), "x": torch.zeros(1)}
    state = DCPC(model, num_particles=2).init(data, seed=0)
    assert list(coupled_groups(state, state.conditioning.latent)) == [("left", "right", "open")]
