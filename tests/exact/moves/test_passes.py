"""Passes that evaluate only what they touch, against fresh evaluation and against Gaussian conditioning."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, State, every, lag
from aif_dcpc.inference.model.densities import (
    active_factors,
    aligned_inputs,
    evaluate_all,
    factor_slices,
    fill_cache,
    log_density,
)
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.moves.layout import site_chunks
from aif_dcpc.inference.moves.passes import FullUpdate, StridedUpdate


def second_order(event: tuple[int, ...] = ()) -> GraphicalModel:
    """A chain that remembers two slices, under a slower level, read by two children, one of them later."""
    half = torch.full(event, 0.5)
    rest = len(event)
    model = GraphicalModel()
    model.add_site("c", lambda: Independent(Normal(0 * half, half), rest), scope=every(3))
    model.add_site(
        "z",
        lambda a, b, c: Independent(Normal(0.9 * a - 0.4 * b + c, half), rest),
        [lag("z", 1), lag("z", 2), "c"],
        initial=lambda c: Independent(Normal(c, 2 * half), rest),
        scope="slice",
    )
    model.add_site("x", lambda z: Independent(Normal(z, half), rest), ["z"], scope="slice")
    model.add_site(
        "y",
        lambda z: Independent(Normal(z, 2 * half), rest),
        [lag("z", 3)],
        initial=lambda: Independent(Normal(0 * half, half), rest),
        scope="slice",
    )
    return model


def is_sparse(state: State, move) -> bool:
    chunks = site_chunks(
        state, state.conditioning.site(move.site), move.width, move.phase, move.gap
    )
    return StridedUpdate.of(state, state.conditioning.site(move.site), chunks) is not None


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(14, 60),
    window=st.integers(10, 13),
    event=st.sampled_from([(), (2,), (2, 1)]),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_is_kept_is_what_a_fresh_evaluation_gives(length, window, event, masked, seed):
    model = second_order(event)
    engine = DCPC(model, num_particles=3, window=window, warmup=4)
    drawn = engine.init(batch_size=2, length=length, seed=seed).natural
    data = {n: drawn[n][0] for n in ("x", "y")}
    masks = {"x": torch.rand(2, length) < 0.7}
    if masked:  # part of the chain itself is known
        data = {**data, "z": drawn["z"][0]}
        masks = {**masks, "z": torch.rand(2, length) < 0.3}
    state, _ = engine.run(engine.init(data, masks=masks, seed=seed), 4)
    known = state.values["z"]
    kinds = set()
    with no_validation(), torch.no_grad():
        for sweep in range(4):
            for move in engine.schedule(state).moves(sweep):
                kinds.add(move.site == "z" and is_sparse(state, move))
                state, _ = move(state, engine.generator, adapt=False)
        fresh = evaluate_all(state, active_factors(state))
    assert kinds == {True, False}
    for key, kept in state.cache.items():
        torch.testing.assert_close(kept.log_prob, fresh[key].log_prob)
        for leaf, score in kept.scores.items():
            torch.testing.assert_close(score, fresh[key].scores[leaf])
    moved = (state.values["z"] != known).reshape(3, 2, length, -1).any(0).any(2)
    assert (moved == ~masks["z"]).all() if masked else moved.all()


def joint(state: State, **values: torch.Tensor) -> torch.Tensor:
    """log p, `(K, B)`, with some values replaced; gradients flow through all factors."""
    total = torch.zeros((), dtype=torch.float64)
    for factor in active_factors(state):
        inputs = aligned_inputs(state, factor, {**state.values, **values})
        total = total + log_density(state, factor, inputs, *factor_slices(state, factor)).sum(2)
    return total


@pytest.mark.parametrize("kind", [FullUpdate, StridedUpdate])
@pytest.mark.parametrize("length", [24, 33])  # 24: the last slice is between windows
def test_errors_and_gains_are_those_of_the_log_joint(kind, length):
    """Gradient of the log joint by automatic differentiation; its change when one chunk moves alone."""
    model = second_order((2,))
    engine = DCPC(model, num_particles=3)
    data = {n: torch.randn(2, length, 2).double() for n in ("x", "y")}
    state = engine.init(data, seed=length)
    state = fill_cache(
        state.replace(values={n: v.double() for n, v in state.values.items()}), ("z",)
    )
    site = state.conditioning.site("z")
    z = state.values["z"]
    chunks = site_chunks(state, site, 2, 2, gap=10)
    here = (
        StridedUpdate.of(state, site, chunks)
        if kind is StridedUpdate
        else FullUpdate(state, site, chunks)
    )
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(joint(state, z=leaf).sum(), leaf)
    _, moved = here.move(torch.randn(here.chunks.count, 6, 4).double())
    changed = (moved != z).any(3).any(1).any(0)
    firsts = [int(t) for t in changed.nonzero() if t == 0 or not changed[t - 1]]
    assert [t % 12 for t in firsts] == [10] * len(firsts) and len(firsts) == (length + 1) // 12
    gains = here.gain(here.evaluate(moved))
    before = joint(state)
    errors = here.errors(here.old).unflatten(2, (2, 2))
    free = changed.nonzero().flatten().tolist()
    for number, first in enumerate(firsts, start=here.chunks.count - len(firsts)):
        alone = z.clone()
        alone[:, :, first : first + 2] = moved[:, :, first : first + 2]
        torch.testing.assert_close(gains[number].view(3, 2), joint(state, z=alone) - before)
        for place, t in enumerate(t for t in free if first <= t < first + 2):
            torch.testing.assert_close(errors[number, :, place].view(3, 2, 2), gradient[:, :, t])


def dense(
    model: GraphicalModel, data: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and covariance of `z` and `c`, in that order, from gradient and Hessian of the log joint."""
    start = DCPC(model, num_particles=1).init({n: v.double() for n, v in data.items()}, seed=0)
    sizes = {n: start.values[n].numel() for n in ("z", "c")}

    def log_joint(flat: torch.Tensor) -> torch.Tensor:
        parts = dict(zip(sizes, flat.split(list(sizes.values())), strict=True))
        return joint(start, **{n: p.reshape(start.values[n].shape) for n, p in parts.items()}).sum()

    zero = torch.zeros(sum(sizes.values()), dtype=torch.float64)
    covariance = torch.linalg.inv(-torch.autograd.functional.hessian(log_joint, zero))
    return covariance @ torch.autograd.functional.jacobian(log_joint, zero), covariance


def test_second_order_chain_under_a_slower_level_against_gaussian_conditioning():
    """Means of 64 independent clouds: 5 standard errors of 38 + 13 entries, exceeded once in 3e4 seeds."""
    copies = 64
    length = 38
    model = second_order()
    drawn = DCPC(model, num_particles=1).init(batch_size=1, length=length, seed=3).natural
    data = {n: drawn[n][0] for n in ("x", "y")}
    mean, covariance = dense(model, data)
    engine = DCPC(model, num_particles=16, window=12, warmup=60)
    state, _ = engine.run(
        engine.init({n: v.expand(copies, -1) for n, v in data.items()}, seed=0), 60
    )
    assert any(is_sparse(state, m) for m in engine.schedule(state).moves(0) if m.site == "z")
    trace = engine.run(
        state, 300, record=lambda s: {"both": torch.cat([s.values["z"], s.values["c"]], 2)}
    )[1].trace
    draws = trace["both"].double()
    per_copy = draws.mean((0, 1))
    error = per_copy.std(0) / math.sqrt(copies)
    assert ((per_copy.mean(0) - mean).abs() < 5 * error + 1e-3).all()
    deviation = covariance.diagonal().sqrt()
    assert (5 * error < 0.1 * deviation).all()  # the test can tell a tenth of a standard deviation
    scaled = (torch.cov(draws.flatten(0, 2).T) - covariance) / deviation / deviation[:, None]
    assert scaled.abs().max() < 0.06
