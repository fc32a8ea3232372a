"""Recorded functions against the functions themselves, at places that the recording has not seen.

What cannot be recorded must come back as it was: a recording that is right at the places where it was
compared and wrong elsewhere is the one fault that nothing later would notice.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from aif_dcpc.inference.model.recording import CannotRecord, flat_graph, record

SHAPE = (6, 1, 4)


def with_score(function):
    """Value and gradient, as a density is recorded."""

    def evaluate(x):
        with torch.enable_grad():
            place = x.detach().requires_grad_()
            value = function(place)
            (score,) = torch.autograd.grad(value.sum(), place)
        return value.detach(), score

    return evaluate


def places(number=12):
    """Places near and far: the third is fifty times as far from 0 as the others."""
    generator = torch.Generator().manual_seed(1)
    found = [torch.randn(SHAPE, generator=generator) for _ in range(number)]
    return [x * (50 if n % 3 == 0 else 1) for n, x in enumerate(found)]


def same(function, replay):
    """Whether both give the same numbers at every place."""
    pairs = [(a, b) for x in places() for a, b in zip(function(x), replay(x), strict=True)]
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True) for a, b in pairs)


def recorded(function):
    """A function with its score, and its recording."""
    plain = with_score(function)
    return plain, flat_graph(plain, places(2)[1])


# -- what is recorded ------------------------------------------------------------------------------


def written_over(x):
    y = x * 2
    y += 1
    return y.mul_(x).sum(-1)


def summed_in_a_loop(x):
    total = torch.zeros(x.shape[:-1])
    for i in range(x.shape[-1]):
        total += i * x[..., i] ** 2
    return total


def summed_by_index(x):
    sums = torch.zeros(*x.shape[:-1], 2)
    sums.index_add_(-1, torch.tensor([0, 1, 1, 0]), x)
    return sums.prod(-1)


def views(x):
    tail = x[..., 1:].transpose(-1, -2).reshape(x.shape[0], -1)
    return tail.sum(-1, keepdim=True) * x.select(-1, 0) + x.unsqueeze(0).squeeze(0).flip(-1).prod(
        -1
    )


def indexed(x):
    return x[..., torch.tensor([2, 0, 0])].prod(-1) + x[..., -1]


def branched(x):
    return torch.where(x > 0.3, x.square(), -x).sum(-1) + x.masked_fill(x < 0, 0.0).sum(-1)


def accumulated(x):
    return (x.cumsum(-1) * 0.1).sin().sum(-1) + x.sort(-1).values.tanh().cumprod(-1).sum(-1)


def factored(x):
    matrix = x.unsqueeze(-1) * x.unsqueeze(-2) + torch.eye(x.shape[-1])
    return torch.linalg.cholesky_ex(matrix)[0].diagonal(dim1=-2, dim2=-1).log().sum(-1)


def log_summed(x):
    return torch.logsumexp(torch.stack([x, 2 * x, x.flip(-1)]), 0).sum(-1)


def split(x):
    first, rest = x.split([1, 3], -1)
    left, right = x.chunk(2, -1)
    return (first * rest).sum(-1) + (left * right).sum(-1) + x.unbind(-1)[2]


def filled(x):
    ones = torch.ones_like(x)
    threes = torch.full_like(x, 3.0)
    twos = torch.empty_like(x).fill_(2.0)
    return (ones * x + threes * x.square() + twos + x.new_zeros(4)).sum(-1)


def neutral(x):
    return ((x * 1.0 + 0.0) / 1.0 * torch.ones(4) + torch.zeros(4)).square().sum(-1)


def broadcast(x):
    """Times one and plus zero, but of other shapes and types: not to be left out."""
    wide = x.select(-1, 0).unsqueeze(-1) * torch.ones(3)
    exact = x.double() * torch.ones(4).double()
    return wide.square().sum(-1) + exact.float().sin().sum(-1)


def repeated(x):
    return (x * x + x.expand(2, *x.shape).sum(0) - x).sum(-1)


def held(x):
    return (x * x.detach()).sum(-1)


RECORDED = (
    *(written_over, summed_in_a_loop, summed_by_index, views, indexed, branched, accumulated),
    *(factored, log_summed, split, filled, neutral, broadcast, repeated, held),
)


@pytest.mark.parametrize("function", RECORDED, ids=lambda f: f.__name__)
def test_a_recording_gives_what_the_function_gives(function):
    plain, replay = recorded(function)
    assert replay is not plain
    assert same(plain, replay)


def test_the_same_argument_twice_and_outputs_that_are_arguments():
    def function(a, b):
        return a * b, a, b - a

    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    replay = record(function, x, 2 * x)
    for a, b in zip(replay(x, x), (x * x, x, torch.zeros_like(x)), strict=True):
        assert torch.equal(a, b)


def test_operations_on_constants_alone_are_made_once():
    calls = []

    class Counted(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    table = torch.arange(4.0)
    replay = record(lambda x: ((table.exp().cumsum(0) / 3).log() * x,), torch.randn(4))
    with Counted():
        replay(torch.randn(4))
    assert calls == [torch.ops.aten.randn.default, torch.ops.aten.mul.Tensor]


# -- what is not -----------------------------------------------------------------------------------


def reads_a_number(x):
    return x.sum(-1) * (2 if float(x.detach().sum()) > 0 else 3)


def asks_whether_all(x):
    return x.sum(-1) if bool((x.detach() < 40).all()) else 2 * x.sum(-1)


def lists(x):
    return x.sum(-1) * (2 if max(x.flatten().tolist()) > 40 else 3)


def leaves_for_numpy(x):
    return x.sum(-1) * (2 if x.detach().numpy().max() > 40 else 3)


def array(x):
    return x.sum(-1) * (2 if np.asarray(x.detach()).max() > 40 else 3)


def selected_by_a_mask(x):
    """Its shape depends on numbers: how many are positive is the same where recordings are compared."""
    return x[x > 0].sum() + 0 * x.sum(-1)


def doubled_where_large(x):
    y = x.clone()
    y[y > 0.5] *= 2
    return (y * x).sum(-1)


def counted(x):
    return x.sum(-1) * torch.bincount((x > 0).long().flatten(), minlength=2).float().sum()


UNRECORDED = (
    *(reads_a_number, asks_whether_all, lists, leaves_for_numpy, array),
    *(selected_by_a_mask, doubled_where_large, counted),
)


@pytest.mark.parametrize("function", UNRECORDED, ids=lambda f: f.__name__)
def test_a_function_that_reads_numbers_is_returned_as_it_is(function):
    plain, replay = recorded(function)
    assert replay is plain


@pytest.mark.parametrize("draw", [torch.rand_like, torch.bernoulli, nn.Dropout(0.5)])
def test_a_function_that_draws_is_returned_as_it_is(draw):
    def function(x):
        return (x + draw(torch.sigmoid(x)),)

    assert flat_graph(function, torch.zeros(4)) is function


def test_a_function_that_draws_by_python_is_returned_as_it_is():
    generator = np.random.default_rng(0)

    def function(x):
        return (x * generator.random(),)

    assert flat_graph(function, torch.ones(4)) is function


def test_a_function_of_another_branch_elsewhere_is_returned_as_it_is():
    """A branch that no operation shows: by a look at memory outside of torch."""
    calls = iter(range(100))

    def function(x):
        return (x * 2,) if next(calls) < 2 else (x * 3,)

    assert flat_graph(function, torch.ones(4)) is function


def test_what_is_read_is_named():
    with pytest.raises(CannotRecord, match="reads numbers or draws them"):
        record(lambda x: (x * float(x.sum()),), torch.ones(3))


# -- writing through views -------------------------------------------------------------------------


def steep(rest):
    """A term a million times larger than what is written in place: comparing alone does not see it."""
    return lambda x: -5e5 * (x[..., 0] - 3) ** 2 + rest(x)


def shifted_in_a_view(x):
    y = x.clone()
    y[..., 1] += 1.0
    return y[..., 1:].square().sum(-1)


def filled_by_views(x):
    y = torch.zeros(x.shape)
    y[..., 1:] = 2 * x[..., 1:] - 1
    return y.square().sum(-1)


def view_of_what_is_written(x):
    y = x.clone()
    tail = y[..., 1:]
    y.mul_(3)
    return tail.square().sum(-1)


def flat_view(x):
    y = x.clone()
    y.view(-1).mul_(3)
    return y.square().sum(-1)


def constant_used_before_it_is_written(x):
    y = torch.zeros(x.shape)
    first = (x + y).sum(-1)
    y += x
    return first + y.square().sum(-1)


def constant_written_later(x):
    y = torch.ones(4)
    first = (x + y).square().sum(-1)
    y.zero_()
    return first + (x + y).sum(-1)


WRITTEN = (
    *(shifted_in_a_view, filled_by_views, view_of_what_is_written, flat_view),
    *(constant_used_before_it_is_written, constant_written_later),
)


@pytest.mark.parametrize("function", WRITTEN, ids=lambda f: f.__name__)
def test_what_is_written_by_another_name_is_not_lost(function):
    """Scores of the first coordinate are 1e6, of the others 1: each is compared in its own unit."""
    plain, replay = recorded(steep(function))
    for x in places():
        expected, found = (f(x)[1][..., 1:] for f in (plain, replay))
        assert torch.allclose(expected, found, rtol=1e-4, atol=1e-4)


# -- parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1.0, 2.0])
def test_a_recording_follows_a_parameter(start):
    """Also one that starts at 1, where a product gives back what it was given."""
    weight = nn.Parameter(torch.full((4,), start))
    replay = record(lambda x: ((x * weight).sum(-1),), torch.randn(3, 4))
    x = torch.arange(12.0).reshape(3, 4)
    with torch.no_grad():
        weight.mul_(3)
    assert torch.allclose(replay(x)[0], 3 * start * x.sum(-1))
    (gradient,) = torch.autograd.grad(replay(x)[0].sum(), weight)
    assert torch.allclose(gradient, x.sum(0))


def test_a_recording_keeps_the_precision_of_its_arguments():
    x = torch.full((2, 3), 1.0 + 1e-12, dtype=torch.float64)
    replay = record(lambda x: ((x - 1).log1p(), x.exp()), x)
    assert math.isclose(float(replay(x)[0][0, 0]), 1e-12, rel_tol=1e-3)
