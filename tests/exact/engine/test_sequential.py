"""Networks as graphical models: linear ones have Gaussian posteriors and gradients in closed form."""

import math

import pytest
import torch
from clouds import agrees
from torch import nn
from torch.distributions import Categorical

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError
from aif_dcpc.inference.learning import local_log_joint, objective

COPIES = 32


def linear(rows, columns, seed):
    layer = nn.Linear(columns, rows)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(rows, columns, generator=generator) / math.sqrt(columns))
        layer.bias.copy_(torch.randn(rows, generator=generator))
    return layer


def linear_net():
    return nn.Sequential(linear(3, 2, 0), linear(2, 3, 1), linear(2, 2, 2))


def joint(net, noises, x):
    """Mean and covariance of (layer1, layer2, output) given the input."""
    means = []
    maps = []
    value = x.double()
    noise_map = torch.zeros(len(x), 7).double()
    start = 0
    for layer, noise in zip(net, noises, strict=True):
        weight = layer.weight.detach().double()
        value = weight @ value + layer.bias.detach().double()
        noise_map = weight @ noise_map
        rows = torch.arange(len(value))
        noise_map[rows, start + rows] += noise
        start += len(value)
        means.append(value)
        maps.append(noise_map.clone())
    mapping = torch.cat(maps)
    return torch.cat(means), mapping @ mapping.T


def test_latents_of_a_linear_net_have_the_gaussian_posterior():
    net = linear_net()
    noises = (0.5, 0.7, 0.3)
    x = torch.tensor([1.0, -1.0])
    y = torch.tensor([0.5, 2.0])
    mean, covariance = joint(net, noises, x)
    gain = covariance[:5, 5:] @ covariance[5:, 5:].inverse()
    expected = mean[:5] + gain @ (y.double() - mean[5:])
    remaining = covariance[:5, :5] - gain @ covariance[5:, :5]
    engine = DCPC(GraphicalModel.from_sequential(net, noises), num_particles=32)
    state = engine.init({"input": x.expand(COPIES, -1), "output": y.expand(COPIES, -1)}, seed=0)
    state, _ = engine.run(state, 60)
    _, info = engine.run(state, 200, record=["layer1", "layer2"])
    found = torch.cat([info.trace["layer1"], info.trace["layer2"]], -1).double()
    assert agrees(found, expected, floor=0.01)
    sampled = torch.cov(found.flatten(0, 2).T)
    scale = remaining.diagonal().sqrt()
    assert ((sampled - remaining) / scale / scale[:, None]).abs().max() < 0.06


def test_gradients_stay_within_their_layer():
    net = linear_net()
    model = GraphicalModel.from_sequential(net, 0.5)
    state = DCPC(model, num_particles=2).init(
        {"input": torch.ones(3, 2), "output": torch.ones(3, 2)}, seed=0
    )
    terms = local_log_joint(state)
    (gradient,) = torch.autograd.grad(objective(state, terms), [net[1].weight], retain_graph=True)
    below = state.values["layer1"]
    here = state.values["layer2"]
    error = (here - below @ net[1].weight.T - net[1].bias) / 0.25
    assert torch.allclose(gradient, torch.einsum("kbi,kbj->ij", error, below) / 2, atol=1e-5)
    assert torch.autograd.grad(terms["output"].sum(), [net[0].weight], allow_unused=True) == (None,)


def test_a_small_noise_cloud_starts_at_the_forward_pass():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(8, 3)))
    model = GraphicalModel.from_sequential(
        net, 1e-4, output=lambda logits: Categorical(logits=logits)
    )
    images = torch.randn(5, 1, 4, 4)
    state = DCPC(model, num_particles=2).init(
        {"input": images, "output": torch.zeros(5).long()}, seed=0
    )
    assert state.particles["layer1"].shape == (2, 5, 2, 2, 2)
    assert torch.allclose(
        state.particles["layer1"], net[0](images).expand(2, -1, -1, -1, -1), atol=1e-3
    )


@pytest.mark.parametrize(
    "net, noise, sentence",
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 0.1, "BatchNorm1d, which couples"),
        (
            nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))),
            0.1,
            "layer 0 holds Dropout",
        ),
        (nn.Sequential(nn.Linear(2, 2)), [0.1, 0.2], "one noise per layer, 1, found 2"),
        (nn.Sequential(nn.Linear(2, 2)), 0.0, "positive"),
    ],
)
def test_unsound_networks_are_refused(net, noise, sentence):
    with pytest.raises(ModelError, match=sentence):
        GraphicalModel.from_sequential(net, noise)
