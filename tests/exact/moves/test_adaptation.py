"""What gradient moves learn, against its definition: secant curvatures, roots of inverses, steps of Robbins and Monro."""

import math

import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.moves import preconditioning
from aif_dcpc.inference.moves.adaptation import (
    FAR,
    MAX_STEP,
    MIN_STEP,
    TARGET_ACCEPTANCE,
    Secant,
    SiteAdaptation,
    _usable,
    of_all_data,
    root_of_inverse,
)

HESSIAN = torch.tensor([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 5.0]]).double()


def changes(number, seed=0):
    """Inputs' and scores' changes of a quadratic log density with curvature HESSIAN."""
    dx = torch.randn(
        number, 3, generator=torch.Generator().manual_seed(seed)
    ).double() * torch.tensor([1.0, 0.1, 3.0])
    return dx, -dx @ HESSIAN


def test_the_curvature_of_a_quadratic_is_its_negative_hessian():
    dx, dscore = changes(1_000_000)
    learned = SiteAdaptation().learned("f", dx, dscore, True, 0)
    # 3 / 1000003 of weight lies on the diagonal, and a ridge of 1e-6
    assert torch.allclose(learned.secants["f"].curvature(), HESSIAN, atol=1e-4)
    diagonal = (
        SiteAdaptation()
        .learned("f", dx * torch.tensor([1.0, 0, 0]), dscore, False, 0)
        .secants["f"]
        .curvature()
    )
    assert abs(diagonal[0] - 2) < 0.02  # the other inputs' share of the score is uncorrelated noise
    alone = Secant(
        (dx**2).mean(0), -(dx**2 * HESSIAN.diagonal()).mean(0), torch.tensor(9.0)
    ).curvature()
    assert torch.allclose(alone, HESSIAN.diagonal())


def test_few_changes_tell_the_diagonal_alone():
    xx = torch.tensor([[2.0, 1.9], [1.9, 2.0]]).double()
    xy = -torch.tensor([[2.0, 1.0], [1.0, 6.0]]).double()
    # the diagonal weighs D / (D + samples)
    for samples, weight in ((1e-9, 1.0), (2.0, 0.5), (6.0, 0.25)):
        found = Secant(xx, xy, torch.tensor(samples)).curvature()
        left = xx * (1 - weight) + torch.diag(xx.diagonal()) * weight
        right = -xy * (1 - weight) - torch.diag(xy.diagonal()) * weight
        solved = torch.linalg.solve(left, right)
        assert torch.allclose(found, (solved + solved.T) / 2, atol=1e-4)
    assert torch.equal(Secant(xx, xy, torch.tensor(0.0)).curvature(), torch.eye(2).double())
    assert torch.equal(Secant(xx[0], xy[0], torch.tensor(0.0)).curvature(), torch.ones(2).double())


def test_moments_move_by_their_gain():
    old = Secant(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor(10.0))
    new = (torch.tensor([3.0]), torch.tensor([6.0]))
    moved = old.updated(*new, torch.tensor(4.0), 0.25)
    assert moved.xx.item() == 1.5
    assert moved.xy.item() == 3.0
    assert moved.samples.item() == 10 * 0.75 + 4
    assert old.updated(*new, torch.tensor(0.0), 0.25) == old
    empty = Secant(torch.tensor([9.0]), torch.tensor([9.0]), torch.tensor(0.0))
    first = empty.updated(*new, torch.tensor(4.0), 0.25)
    assert first.xx.item() == 3.0 and first.xy.item() == 6.0 and first.samples.item() == 4


def test_later_changes_count_by_a_falling_gain():
    one = torch.ones(4, 1)
    two = 2 * torch.ones(4, 1)
    learned = SiteAdaptation(roots={(1, 0, 1): one}).learned("f", one, -one, False, 0)
    assert learned.secants["f"].xx.item() == 1
    assert learned.secants["f"].samples.item() == 4
    assert not learned.roots
    learned = learned.learned("f", two, -two, False, 3)
    gain = 4**-0.6
    assert learned.secants["f"].xx.item() == pytest.approx(1 + gain * (4 - 1))


def test_changes_far_out_or_not_finite_are_left_out():
    dx = torch.ones(100, 2)
    dscore = torch.ones(100, 2)
    dscore[7] = 0.5 * FAR
    dscore[8] = 4 * FAR
    dscore[9, 0] = math.inf
    dscore[10] = 0.0
    expected = torch.ones(100, dtype=torch.bool)
    expected[8] = expected[9] = False
    # the geometric mean of the sizes is 2.5
    assert torch.equal(of_all_data(_usable(dx * dscore)).squeeze(-1), expected)
    assert torch.equal(of_all_data(_usable(1e3 * dx * dscore)).squeeze(-1), expected)


@pytest.mark.parametrize("size", [2, 20, 257])
def test_roots_of_inverses(size):
    """R R' = P^-1; where P is not positive definite, of P + ridge * mean |diagonal| for the least ridge that helps."""
    corners = [2.0, -3e-7, -3e-3, -0.03, -0.3, -5.0, -1e6]
    matrices = torch.eye(size).double().repeat(len(corners), 1, 1)
    matrices[:, 0, 0] = torch.tensor(corners).double()
    matrices[0, 0, 1] = matrices[0, 1, 0] = 0.5
    offered = (1e-6, 1e-2, 1e-1, 1.0, 10.0, 1000.0) if size <= 256 else (1e-6, 1e-1, 10.0)
    possible = [c for c in corners if offered[-1] * (abs(c) + size - 1) / size + c > 0]
    root = root_of_inverse(matrices[: len(possible)])
    for corner, matrix, found in zip(possible, matrices, root, strict=False):
        scale = matrix.diagonal().abs().mean()
        ridge = next(r * scale for r in offered if r * scale + corner > 0)
        expected = (matrix + ridge * torch.eye(size)).inverse()
        assert torch.allclose(
            found @ found.mT, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max())
        )
        assert torch.equal(found, found.triu())


def test_roots_of_diagonals():
    found = root_of_inverse(torch.tensor([[4.0, -4.0, 0.0, 8.0]]))
    assert torch.allclose(found, torch.tensor([[4.0, 4.0, 4e-3, 8.0]]).rsqrt())
    assert torch.isfinite(root_of_inverse(torch.zeros(1, 2))).all()


def test_steps_follow_robbins_and_monro():
    key = ("ou", 1)
    like = torch.zeros(())
    learned = SiteAdaptation()
    assert learned.log_step(key, like).exp().item() == pytest.approx(0.5, abs=0.005)
    start = learned.log_step(key, like).item()
    learned = learned.stepped(key, torch.tensor(TARGET_ACCEPTANCE - 0.2), like)
    assert learned.log_step(key, like).item() == pytest.approx(start - 0.4)
    learned = learned.stepped(key, torch.tensor(TARGET_ACCEPTANCE - 0.2), like)
    assert learned.log_step(key, like).item() == pytest.approx(start - 0.4 - 0.4 * 2**-0.6)
    assert learned.updates == {key: 2} and learned.reopened().updates == {}
    assert learned.reopened().log_steps == learned.log_steps
    assert learned.log_step(("ou", 2), like).item() == start
    for acceptance, limit in ((1.0, MAX_STEP), (0.0, MIN_STEP)):
        bounded = SiteAdaptation()
        for _ in range(400):
            bounded = bounded.stepped(key, torch.tensor(acceptance), like)
        assert bounded.log_step(key, like).exp().item() == pytest.approx(limit, rel=1e-4)


# -- moves of sites too large for full matrices ----------------------------------------------------


def test_a_large_site_is_whitened_by_coordinates():
    """Independent coordinates of different scales: the learned diagonal is exact, and draws are independent."""
    size = 70
    copies = 8
    scales = torch.logspace(-0.5, 0.5, size)
    model = GraphicalModel()
    model.add_site(
        "z", lambda: torch.distributions.Independent(Normal(torch.zeros(size), scales), 1)
    )
    model.add_site("x", lambda z: torch.distributions.Independent(Normal(z, scales), 1), ["z"])
    engine = DCPC(model, num_particles=32)
    state, _ = engine.run(engine.init({"x": scales.expand(copies, -1)}, seed=0), 60)
    assert all(s.xx.ndim == 1 for s in state.adaptation["z"].secants.values())
    state, info = engine.run(state, 100, record=["z"])
    # standard normal in every coordinate
    whitened = (info.trace["z"] - scales / 2) / scales * 2**0.5
    draws = whitened.flatten(0, 2)
    assert info.acceptance["z"] > 0.2
    assert (
        draws.mean(0).abs() < 5 * 2 / len(draws) ** 0.5
    ).all()  # an autocorrelation time of 4 at most
    assert ((draws.var(0) - 1).abs() < 5 * 2 * (2 / len(draws)) ** 0.5).all()


def test_a_long_and_large_series_moves():
    """More than 64 chunks of 130 coordinates: unit Gaussians, whatever the preconditioner."""
    size = 130
    length = 132
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(0.0 * s, 1.0),
        [lag("s")],
        initial=lambda: Normal(torch.zeros(size), 1.0),
        scope="slice",
    )
    engine = DCPC(model, num_particles=2, window=1, warmup=10)
    state, _ = engine.run(engine.init(batch_size=1, length=length, seed=0), 10)
    assert {root.shape for root in state.adaptation["s"].roots.values()} <= {(66, size), (67, size)}
    state, _ = engine.run(state, 4)
    values = state.values["s"].double()
    assert abs(values.mean()) < 5 / values.numel() ** 0.5
    assert abs(values.var() - 1) < 5 * (2 / values.numel()) ** 0.5


@pytest.mark.parametrize("limit", [100, 1000])  # numbers; 66 matrices of 4 have 264
def test_many_chunks_share_the_matrix_of_inner_ones(limit, monkeypatch):
    """One matrix for each chunk while all of them fit, else three; the steps are the same."""
    model = GraphicalModel()
    runs = []
    model.add_site(
        "s",
        lambda s: Normal(s, 1.0),
        [lag("s")],
        initial=lambda: Normal(torch.zeros(2), 1.0),
        scope="slice",
    )
    for most in (preconditioning.MAX_SEPARATE, limit):
        monkeypatch.setattr(preconditioning, "MAX_SEPARATE", most)
        engine = DCPC(model, num_particles=4, window=1, warmup=10)
        state, _ = engine.run(engine.init(batch_size=1, length=132, seed=0), 20)
        runs.append(state)
    counts = {len(root) for root in runs[1].adaptation["s"].roots.values()}
    assert counts == ({3} if limit == 100 else {66, 67})
    assert torch.allclose(runs[0].values["s"], runs[1].values["s"], atol=1e-4)


@pytest.mark.parametrize("window", [1, 3])
def test_a_large_series_is_whitened_by_coordinates(window):
    """130 independent walks of three slices (a full matrix of two slices would have 260 rows)."""
    size = 130
    copies = 8
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(s, 0.5),
        [lag("s")],
        initial=lambda: Normal(torch.zeros(size), 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 0.7), ["s"], scope="slice")
    data = torch.tensor([1.0, -1.0, 2.0])
    engine = DCPC(model, num_particles=16, window=window, warmup=100)
    state = engine.init({"o": data[:, None].expand(copies, 3, size)}, seed=0)
    state, _ = engine.run(state, 100)
    assert any(s.xx.ndim == 1 for s in state.adaptation["s"].secants.values())
    _, info = engine.run(state, 200, record=["s"])
    walk = torch.tensor([[1.0, 1, 1], [1, 1.25, 1.25], [1, 1.25, 1.5]]).double()
    precision = walk.inverse() + torch.eye(3) / 0.49
    mean = precision.inverse() @ (data.double() / 0.49)
    # (copies, 3, size): copies * size independent walks
    found = info.trace["s"].double().mean((0, 1))
    flat = found.transpose(1, 2).flatten(0, 1)
    assert ((flat.mean(0) - mean).abs() < 5 * flat.std(0) / len(flat) ** 0.5).all()
    spread = torch.cov(info.trace["s"].double().transpose(-1, -2).flatten(0, -2).T)
    assert (spread - precision.inverse()).abs().max() < 0.02
