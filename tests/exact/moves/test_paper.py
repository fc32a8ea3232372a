"""The parts of the published update (Algorithm 1) against their formulas; the update as a whole is not exact."""

import math

import pytest
import torch
from models import gaussian_vectors
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.model.densities import fill_cache, prediction_error
from aif_dcpc.inference.moves import paper
from aif_dcpc.inference.moves.paper import Paper


@pytest.mark.parametrize("dense", [True, False])
def test_the_preconditioner_is_the_normalised_inverse_of_the_fisher_matrix(dense, monkeypatch):
    """Sigma = I^-1 / (trace(I^-1) / d), I = Cov_k(eps) + ridge / K (of which the diagonal where events are large)."""
    monkeypatch.setattr(paper, "MAX_FULL_COVARIANCE", 3 if dense else 2)
    eps = torch.randn(
        6, 2, 1, 3, generator=torch.Generator().manual_seed(0)
    ).double() * torch.tensor([1.0, 3.0, 0.2])
    covariance, root = paper._preconditioner(eps, 2.0)
    for datum in range(2):
        fisher = torch.cov(eps[:, datum, 0].T) + 2 / 6 * torch.eye(3)
        inverse = fisher.inverse() if dense else torch.diag(1 / fisher.diagonal())
        expected = inverse / (inverse.trace() / 3)
        found = covariance[datum, 0] if dense else torch.diag(covariance[datum, 0])
        half = root[datum, 0] if dense else torch.diag(root[datum, 0])
        assert torch.allclose(found, expected, rtol=1e-6)
        assert torch.allclose(half @ half.mT, expected, rtol=1e-6)


@pytest.mark.parametrize("dense", [True, False])
def test_a_preconditioner_is_applied_datum_by_datum_and_slice_by_slice(dense):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, 3, 5, generator=generator)
    matrix = (
        torch.randn(2, 3, 5, 5, generator=generator)
        if dense
        else torch.rand(2, 3, 5, generator=generator)
    )
    found = paper._apply(matrix, x)
    for k, b, t in ((0, 0, 0), (3, 1, 2), (2, 0, 1)):
        whole = matrix[b, t] if dense else torch.diag(matrix[b, t])
        assert torch.allclose(found[k, b, t], whole @ x[k, b, t], atol=1e-6)
    size = 5 / 2 * math.log(4 * math.pi * 0.3)
    root = matrix.tril() if dense else matrix
    for b, t in ((0, 0), (1, 2)):
        whole = root[b, t] if dense else torch.diag(root[b, t])
        expected = torch.linalg.slogdet(whole).logabsdet + size
        assert torch.allclose(paper._log_normaliser(root, 0.3)[b, t], expected, atol=1e-5)


def test_one_particle_makes_unadjusted_langevin_steps():
    """With K = 1 nothing is weighed and Sigma is the identity: z' = z + step eps + sqrt(2 step) noise."""
    copies = 20_000
    step = 0.3
    engine = DCPC(gaussian_vectors(2), num_particles=1)
    state = engine.init({"x": torch.ones(copies, 2)}, seed=0)
    eps = -state.values["z"] + 4 * (1 - state.values["z"])
    moved, fraction = Paper("z", step=step)(state, engine.generator, adapt=False)
    assert fraction == 1
    noise = (moved.values["z"] - state.values["z"] - step * eps) / math.sqrt(2 * step)
    assert (noise.mean((0, 1))).abs().max() < 5 / copies**0.5
    assert (noise.var((0, 1)) - 1).abs().max() < 5 * (2 / copies) ** 0.5
    assert abs((noise[..., 0] * noise[..., 1]).mean()) < 5 / copies**0.5


@pytest.mark.parametrize("dense", [True, False])
def test_weights_estimate_the_normaliser_of_the_complete_conditional(dense, monkeypatch):
    """Z = integral of p(z) p(x | z) dz = Normal(x; 0, 1.25); proposals of a step that covers it have light weights."""
    monkeypatch.setattr(paper, "MAX_FULL_COVARIANCE", 3 if dense else 2)
    x = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.5, 0.5]])
    engine = DCPC(gaussian_vectors(3), num_particles=20_000)
    state, _ = engine.run(engine.init({"x": x}, seed=0), 30)
    exact = Normal(0.0, 1.25**0.5).log_prob(x).sum(1)
    for step in (0.1, 0.3):  # Cov(eps) is 5 I, so that Sigma is about I: steps below 2 / 5 contract
        moved, fraction = Paper("z", step=step)(state, engine.generator, adapt=False)
        found = moved.adaptation["z"].log_evidence.squeeze(-1)
        assert 0.05 < fraction < 1
        assert (found - exact).abs().max() < 5 * (1 / (fraction * 20_000)) ** 0.5


def test_slices_of_one_colour_move_and_keep_their_own_estimates():
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(0.5 * s, 1.0),
        [lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 1.0), ["s"], scope="slice")
    engine = DCPC(model, num_particles=4)
    state = engine.init({"o": torch.zeros(2, 5)}, seed=0)
    even, _ = Paper("s", phase=0)(state, engine.generator, adapt=False)
    changed = (even.values["s"] != state.values["s"]).all(0).all(0)
    assert changed.tolist() == [True, False, True, False, True]
    odd, _ = Paper("s", phase=1)(even, engine.generator, adapt=False)
    before = even.adaptation["s"].log_evidence
    after = odd.adaptation["s"].log_evidence
    assert torch.equal(after[:, ::2], before[:, ::2]) and (after[:, 1::2] != before[:, 1::2]).all()
    assert torch.equal(odd.values["s"][:, :, ::2], even.values["s"][:, :, ::2])


def test_offspring_are_drawn_in_proportion_to_gamma_over_q():
    """One far particle of two: its weight is nil, so that both offspring are the other's proposal."""
    engine = DCPC(gaussian_vectors(1), num_particles=2)
    state = engine.init({"x": torch.zeros(1, 1)}, seed=0)
    state = fill_cache(state.with_values({"z": torch.tensor([[[0.0]], [[50.0]]])}), ("z",))
    assert prediction_error(state, "z", state.cache).flatten().tolist() == [0.0, -250.0]
    moved, fraction = Paper("z", step=1e-4)(state, engine.generator, adapt=False)
    first, second = moved.values["z"].flatten().tolist()
    assert first == second and abs(first) < 0.1
    assert fraction == pytest.approx(0.5)
