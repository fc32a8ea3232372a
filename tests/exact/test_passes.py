"""Passes that evaluate only what they touch, against fresh evaluation and against Gaussian conditioning."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, State, every, lag
from aif_dcpc.inference.factors import active_factors, aligned_inputs, evaluate_all, factor_slices, log_density
from aif_dcpc.inference.moves.layout import site_chunks
from aif_dcpc.inference.moves.passes import Sparse
from aif_dcpc.inference.sampling import quiet_distributions


def second_order(event: tuple[int, ...] = ()) -> GraphicalModel:
    """A chain that remembers two slices, under a slower level, read by two children, one of them later."""
    half, rest = torch.full(event, 0.5), len(event)
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
    chunks = site_chunks(state, state.problem.site(move.site), move.width, move.phase, move.gap)
    return Sparse.of(state, state.problem.site(move.site), chunks) is not None


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
        data, masks = {**data, "z": drawn["z"][0]}, {**masks, "z": torch.rand(2, length) < 0.3}
    state, _ = engine.run(engine.init(data, masks=masks, seed=seed), 4)
    known = state.values["z"]
    kinds = set()
    with quiet_distributions(), torch.no_grad():
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


def dense(model: GraphicalModel, data: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and covariance of `z` and `c`, in that order, from gradient and Hessian of the log joint."""
    start = DCPC(model, num_particles=1).init({n: v.double() for n, v in data.items()}, seed=0)
    sizes = {n: start.values[n].numel() for n in ("z", "c")}

    def log_joint(flat: torch.Tensor) -> torch.Tensor:
        parts = dict(zip(sizes, flat.split(list(sizes.values())), strict=True))
        values = {n: p.reshape(start.values[n].shape) for n, p in parts.items()}
        total = flat.new_zeros(())
        for factor in active_factors(start):
            inputs = aligned_inputs(start, factor, {**start.values, **values})
            total = total + log_density(start, factor, inputs, *factor_slices(start, factor)).sum()
        return total

    zero = torch.zeros(sum(sizes.values()), dtype=torch.float64)
    covariance = torch.linalg.inv(-torch.autograd.functional.hessian(log_joint, zero))
    return covariance @ torch.autograd.functional.jacobian(log_joint, zero), covariance


def test_second_order_chain_under_a_slower_level_against_gaussian_conditioning():
    """Means of 64 independent clouds: 5 standard errors of 38 + 13 entries, exceeded once in 3e4 seeds."""
    copies, length = 64, 38
    model = second_order()
    drawn = DCPC(model, num_particles=1).init(batch_size=1, length=length, seed=3).natural
    data = {n: drawn[n][0] for n in ("x", "y")}
    mean, covariance = dense(model, data)
    engine = DCPC(model, num_particles=16, window=12, warmup=60)
    state, _ = engine.run(engine.init({n: v.expand(copies, -1) for n, v in data.items()}, seed=0), 60)
    assert any(is_sparse(state, m) for m in engine.schedule(state).moves(0) if m.site == "z")
    trace = engine.run(state, 300, record=lambda s: {"both": torch.cat([s.values["z"], s.values["c"]], 2)})[1].trace
    draws = trace["both"].double()
    per_copy = draws.mean((0, 1))
    error = per_copy.std(0) / math.sqrt(copies)
    assert ((per_copy.mean(0) - mean).abs() < 5 * error + 1e-3).all()
    deviation = covariance.diagonal().sqrt()
    assert (5 * error < 0.1 * deviation).all()  # the test can tell a tenth of a standard deviation
    scaled = (torch.cov(draws.flatten(0, 2).T) - covariance) / deviation / deviation[:, None]
    assert scaled.abs().max() < 0.06
