"""Learners go on from a checkpoint as if they had never stopped; encoders and stores against their definitions."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Exponential, Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, NonFiniteError
from aif_dcpc.inference.baselines.langevin import UnadjustedLangevin
from aif_dcpc.inference.baselines.vae import (
    Encoder,
    VariationalLearner,
    _law,
    _log_joint,
    chain_encoder,
)
from aif_dcpc.inference.learning import (
    Learner,
    learn_step,
    local_log_joint,
    objective,
    parameter_groups,
    plain_adaptation,
    revived_adaptation,
)
from aif_dcpc.inference.stores import ParticleStore, with_batch

X = torch.tensor([[2.0], [1.0], [-1.0], [0.5], [3.0], [0.0]])


class Shifted(nn.Module):
    """p(x | z) = Normal(z + shift, scale)."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.log_scale = nn.Parameter(torch.tensor(-0.5))

    def forward(self, z):
        return Independent(Normal(z + self.shift, self.log_scale.exp()), 1)


def model():
    made = GraphicalModel()
    made.add_site("z", lambda: Independent(Normal(torch.zeros(1), 1.0), 1))
    made.add_site("x", Shifted(), ["z"])
    return made


def learner(kind=Learner, folder=None, **options):
    engine = DCPC(model(), num_particles=3)
    template = engine.init({"x": X[:2]}, seed=0)
    optimizer = torch.optim.Adam(engine.model.parameters(), lr=0.05)
    store = ParticleStore.like(template, len(X), folder=folder)
    Learner.fill(engine, store, {"x": X[:4]}, torch.arange(len(X)).split(4))
    torch.manual_seed(0)
    return kind(engine, optimizer, template, store, **options)


def stepped(made, steps, start=0):
    for number in range(start, start + steps):
        indices = torch.arange(2) + 2 * (number % 3)
        torch.manual_seed(number)
        made.step({"x": X[indices]}, indices)
    return [p.detach().clone() for p in made.engine.model.parameters()]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Learner, {"num_sweeps": 2}),
        (Learner, {"steps_per_batch": 2, "recycle": True}),
        (VariationalLearner, {"site": "x", "rate": 0.01}),
    ],
)
def test_a_learner_goes_on_from_its_checkpoint(kind, options):
    made = learner(kind, **options)
    stepped(made, 4)
    kept = copy.deepcopy((made.state_dict(), made.engine.model.state_dict()))
    expected = stepped(made, 3, start=4)
    other = learner(kind, **options)
    other.engine.model.load_state_dict(kept[1])
    other.load_state_dict(kept[0])
    assert other.steps == 4
    assert all(torch.equal(a, b) for a, b in zip(stepped(other, 3, start=4), expected, strict=True))
    assert torch.equal(made.store.values["z"], other.store.values["z"])


def test_first_particles_are_drawn_for_every_datum():
    made = learner()
    assert (made.store.values["z"] != 0).all() and made.store.values["z"].shape == (6, 3, 1)


def test_what_moves_have_learned_survives_as_plain_data():
    made = learner()
    stepped(made, 5)
    plain = plain_adaptation({**made.adaptation, "other": object()})
    assert set(plain) == {"z"} and plain["z"]["roots"] == {}
    revived = revived_adaptation(plain)["z"]
    before = made.adaptation["z"]
    assert revived.log_steps == before.log_steps and revived.updates == before.updates
    assert all(torch.equal(revived.secants[k].xx, before.secants[k].xx) for k in before.secants)


def sweeps_of(made, steps):
    """Numbers of the sweeps that a learner makes."""
    seen = []
    sweep = made.engine.sweep

    def watched(state, *args, **options):
        seen.append(state.sweeps)
        return sweep(state, *args, **options)

    made.engine.sweep = watched
    stepped(made, steps)
    return seen


def test_steps_visits_and_sweeps_are_counted():
    made = learner(num_sweeps=2, steps_per_batch=3)
    assert sweeps_of(made, 2) == list(range(12)) and made.steps == 2
    assert sweeps_of(learner(), 2) == [0, 1]  # by default one visit of one sweep
    assert learner().move is learn_step


def test_another_engine_starts_its_moves_afresh():
    made = learner()
    stepped(made, 2)
    kept = made.adaptation
    made.use(made.engine)
    assert made.adaptation is kept and kept
    other = UnadjustedLangevin(made.engine, step=0.1)
    made.use(other)
    assert made.engine is other and made.adaptation == {}


def test_the_objective_weighs_particles_and_scales_data_against_globals():
    made = GraphicalModel()
    made.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    made.add_site("x", lambda g: Normal(g, 1.0), ["g"], scope="slice")
    state = DCPC(made, num_particles=2).init(
        {"x": torch.tensor([[1.0, 2.0], [0.0, -1.0], [0.5, 0.5]])}, seed=0
    )
    weights = torch.tensor([[0.25, 0.5, 0.9], [0.75, 0.5, 0.1]])
    state = state.replace(log_weights=weights.log())
    terms = local_log_joint(state)
    g = state.values["g"]
    data = Normal(g[..., None], 1.0).log_prob(state.values["x"]).sum(2)
    expected = Normal(0.0, 1.0).log_prob(g).mean() + 5 * (weights * data).sum()
    assert objective(state, terms, 5.0).item() == pytest.approx(expected.item(), rel=1e-5)
    assert objective(state, terms).item() == pytest.approx(
        (Normal(0.0, 1.0).log_prob(g).mean() + (weights * data).sum()).item(), rel=1e-5
    )


def test_gradients_run_through_values_only_when_asked():
    state = DCPC(model(), num_particles=2).init({"x": X}, seed=0)
    z = state.values["z"].clone().requires_grad_()
    state = state.replace(values={**state.values, "z": z})
    assert not local_log_joint(state)["z"].requires_grad
    assert local_log_joint(state)["x"].requires_grad
    total = sum(t.sum() for t in local_log_joint(state, detach=False).values())
    (gradient,) = torch.autograd.grad(total, [z])
    scale = math.exp(-0.5)
    assert torch.allclose(gradient, -z + (X - z) / scale**2, atol=1e-4)


def test_scales_may_learn_at_their_own_rate():
    groups = parameter_groups(model(), 0.1, covariance_rate=0.02)
    assert [(len(g["params"]), g["lr"]) for g in groups] == [(1, 0.1), (1, 0.02)]
    assert [g["lr"] for g in parameter_groups(model(), 0.1)] == [0.1, 0.1]
    assert len(parameter_groups(nn.Linear(1, 1), 0.1)) == 1


# -- encoders --------------------------------------------------------------------------------------


def test_an_encoder_is_a_chain_of_gaussians():
    torch.manual_seed(0)
    encoder = Encoder(4, [3, 2])
    assert [(a[0].in_features, a[0].out_features, a[2].out_features) for a in encoder.layers] == [
        (4, 256, 6),
        (3, 256, 4),
    ]
    below = torch.randn(5, 4)
    mean, raw = encoder.layers[0](below).chunk(2, -1)
    law = _law(encoder.layers[0], below)
    assert torch.allclose(law.mean, mean)
    assert torch.allclose(law.base_dist.scale, nn.functional.softplus(raw) + 1e-4)
    drawn, log_prob = encoder(torch.rand(6, 1, 2, 2), 7)
    assert [d.shape for d in drawn] == [(7, 6, 3), (7, 6, 2)] and log_prob.shape == (7, 6)


def test_the_bound_is_log_p_minus_log_q():
    made = learner(VariationalLearner, site="x", rate=0.02)
    assert made.latents == ("z",) and made.optimizer.param_groups[-1]["lr"] == 0.02
    indices = torch.tensor([4, 1])
    torch.manual_seed(5)
    drawn, log_q = made.encoder(X[indices], 3)
    torch.manual_seed(5)
    info = made.step({"x": X[indices]}, indices)
    log_p = Normal(0.0, 1.0).log_prob(drawn[0]) + Normal(drawn[0], math.exp(-0.5)).log_prob(
        X[indices]
    )
    assert torch.allclose(info.log_joint, log_p.squeeze(-1), atol=1e-5)
    assert torch.allclose(info.trace["bound"], log_p.squeeze(-1) - log_q, atol=1e-4)
    assert torch.equal(made.store.read(indices)["z"], drawn[0]) and made.steps == 1


def test_a_bound_that_is_not_finite_is_refused():
    made = learner(VariationalLearner, site="x", rate=0.02)
    with pytest.raises(NonFiniteError, match="step 0"):
        made.step({"x": torch.tensor([[math.inf], [0.0]])}, torch.arange(2))
    assert made.engine.model.modules_of_sites["x:kernel"].shift.item() == 0


def test_encoders_read_the_deepest_latent_first():
    made = GraphicalModel()
    made.add_site("top", lambda: Independent(Normal(torch.zeros(2), 1.0), 1))
    made.add_site(
        "deep", lambda t: Independent(Normal(t.repeat(*[1] * (t.ndim - 1), 2), 1.0), 1), ["top"]
    )
    made.add_site("x", lambda d: Independent(Normal(d[..., :3], 1.0), 1), ["deep"])
    state = DCPC(made, num_particles=2).init({"x": torch.zeros(2, 3)}, seed=0)
    sizes = [(a[0].in_features, a[2].out_features) for a in chain_encoder(state, "x").layers]
    assert sizes == [(3, 2 * 4), (4, 2 * 2)]
    expected = sum(
        Normal(mean, 1.0).log_prob(value).sum(-1)
        for mean, value in (
            (torch.zeros(2), state.values["top"]),
            (state.values["top"].repeat(1, 1, 2), state.values["deep"]),
            (state.values["deep"][..., :3], state.values["x"]),
        )
    )
    assert torch.allclose(_log_joint(state), expected, atol=1e-5)


# -- clouds of other data --------------------------------------------------------------------------


def test_a_cloud_is_bound_to_other_data():
    state = DCPC(model(), num_particles=3).init({"x": X[:2]}, seed=0)
    state = state.replace(log_weights=torch.randn(3, 2))
    seen = torch.tensor([True, False, True, True])
    bound = with_batch(state, {"x": X[2:]}, {"z": torch.zeros(3, 4, 1)}, {"x": seen})
    assert bound.batch_size == 4 and bound.num_particles == 3 and not bound.cache
    assert (bound.log_weights == 0).all() and bound.log_evidence.tolist() == [0] * 4
    assert torch.equal(bound.ancestors, torch.arange(3)[:, None].expand(3, 4))
    assert torch.equal(bound.values["x"], X[None, 2:]) and torch.equal(bound.masks["x"], seen[None])
    assert with_batch(state, {"x": X[2:]}, {"z": torch.zeros(3, 4, 1)}).masks == {}


def test_what_is_seen_of_a_latent_is_not_taken_from_the_store():
    """z > 0 is seen at data 0 and 2, where it stays; the store's own particles stand elsewhere."""
    made = GraphicalModel()
    made.add_site("z", lambda: Independent(Exponential(torch.ones(1)), 1))
    made.add_site("x", Shifted(), ["z"])
    engine = DCPC(made, num_particles=3)
    seen = torch.tensor([True, False, True])
    data = {"x": X[:3], "z": torch.tensor([[0.5], [math.nan], [4.0]])}
    masks = {"z": seen}
    template = engine.init(data, masks=masks, seed=0)
    held = torch.full((3, 3, 1), -1.0)
    bound = with_batch(template, data, {"z": held}, masks)
    assert torch.allclose(bound.particles["z"][:, seen], data["z"][seen])
    assert torch.equal(bound.values["z"][:, 1], held[:, 1])
    store = ParticleStore.like(template, 3)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    info = Learner(engine, optimizer, template, store).step(data, torch.arange(3), masks)
    z = store.read(torch.arange(3))["z"].exp()
    assert torch.allclose(z[:, seen], data["z"][seen]) and info.log_joint.isfinite().all()
