"""Operations on repeated numbers in recorded graphs: the same results, from fewer numbers."""

import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.inference.model.recording import record

K = 7
ROWS = 50
aten = torch.ops.aten


def normals(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def sizes(graph, target):
    """How many numbers each operation of a kind returns."""
    shapes = [n.meta["shape"] for n in graph.graph.nodes if n.target is target]
    return [torch.Size(shape).numel() for shape in shapes]


def scored(function):
    """A function and its gradient towards its first argument, to be recorded."""

    def both(x, *rest):
        with torch.enable_grad():
            place = x.detach().requires_grad_()
            value = function(place, *rest)
            (gradient,) = torch.autograd.grad(value.sum(), place)
        return value.detach(), gradient

    return both


def check(function, *examples):
    """Record, and compare with the function at the examples and elsewhere; the graph."""
    graph = record(function, *examples)
    for given in (examples, tuple(-0.3 * x.flip(0) for x in examples)):
        for found, expected in zip(graph(*given), function(*given), strict=True):
            assert found.shape == expected.shape
            assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    return graph


def regression(parameters, rows):
    """Log density of rows `(K, ROWS)` around a location, with a scale, of every chain."""
    location, log_scale = parameters.unsqueeze(-1).unbind(1)
    return Normal(location, log_scale.exp(), validate_args=False).log_prob(rows).sum(-1)


def test_a_scale_that_rows_share_has_one_logarithm():
    rows = normals(ROWS)
    graph = check(scored(lambda x: regression(x, rows)), normals(K, 2, seed=1))
    assert sizes(graph, aten.log.default) == [K]
    assert max(sizes(graph, aten.pow.Tensor_Scalar)) == K * ROWS  # of residuals, which differ


def test_a_scale_of_every_row_has_as_many_logarithms():
    spread = normals(ROWS).exp()

    def function(x):
        return (Normal(0.0, x.unsqueeze(-1).exp() * spread, validate_args=False).log_prob(1.0),)

    assert sizes(check(function, normals(K, seed=2)), aten.log.default) == [K * ROWS]


@pytest.mark.parametrize("axis, times", [(-1, 1), (1, ROWS)])
def test_logits_are_normalised_once_unless_along_the_repeated_axis(axis, times):
    def function(x):
        wide = x.unsqueeze(1).expand(K, ROWS, 3)
        return (torch.log_softmax(wide, axis),)

    graph = check(function, normals(K, 3, seed=3))
    assert sizes(graph, aten._log_softmax.default) == [K * 3 * times]


def test_mixtures_and_their_gradients_are_the_same():
    rows = normals(ROWS, 1)

    def function(x):
        weights = torch.log_softmax(x[:, None, :3].expand(K, ROWS, 3), -1)
        parts = Normal(x[:, None, 3:6], x[:, None, 6:].exp(), validate_args=False).log_prob(rows)
        return torch.logsumexp(weights + parts, -1).sum(-1)

    graph = check(scored(function), normals(K, 9, seed=4))
    assert max(sizes(graph, aten._log_softmax.default)) == K * 3


def test_constants_of_one_number_are_that_number():
    tens = torch.full((K, ROWS), 10.0, dtype=torch.float64)
    mixed = tens.clone()
    mixed[3, 4] = 9.0

    def function(x):
        wide = x.unsqueeze(-1).expand(K, ROWS)
        return tens / wide, mixed / wide, tens - wide * x[0]

    graph = check(function, normals(K, seed=5))
    assert sorted(sizes(graph, aten.div.Tensor)) == [K, K * ROWS]


def test_what_is_written_into_an_expansion_is_no_repeat():
    """A repeated value, copied and changed in one place, differs there."""

    def function(x):
        wide = x.unsqueeze(-1).expand(K, ROWS).clone()
        changed = wide.index_fill(1, torch.tensor([2]), 5.0)
        return (changed.exp(),)

    assert sizes(check(function, normals(K, seed=6)), aten.exp.default) == [K * ROWS]
