"""The baselines against what is known of them in closed form."""

import pytest
import torch
from models import gaussian_vectors
from torch import nn
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.baselines.classifier import Classifier
from aif_dcpc.inference.baselines.langevin import UnadjustedLangevin
from aif_dcpc.inference.baselines.lpc import LangevinCodingLearner
from aif_dcpc.inference.baselines.vae import Encoder, VariationalLearner
from aif_dcpc.inference.stores import ParticleStore


@pytest.mark.parametrize("step", [0.05, 0.2])
def test_unadjusted_langevin_has_its_known_bias(step):
    # target variance s = .2: z' = (1 - step / s) z + sqrt(2 step) noise is stationary at s / (1 -
    # step / (2 s))
    engine = UnadjustedLangevin(DCPC(gaussian_vectors(1), num_particles=20_000), step=step)
    state = engine.init({"x": torch.ones(1, 1)}, seed=0)
    for _ in range(40):
        state, _ = engine.sweep(state, log_joint=False)
    wanted = 0.2 / (1 - step / 0.4)
    # 20,000 independent chains: the sample variance is off by sqrt(2 / 20000) = 1 %; 5 standard
    # errors
    assert state.values["z"].var().item() == pytest.approx(wanted, rel=0.05)
    assert state.values["z"].mean().item() == pytest.approx(0.8, abs=5 * (wanted / 20_000) ** 0.5)


def test_without_noise_particles_climb_to_the_mode():
    engine = UnadjustedLangevin(
        DCPC(gaussian_vectors(1), num_particles=2),
        step=0.1,
        temperature=0.0,
        inner_steps=60,
        persistent=False,
    )
    state, _ = engine.sweep(engine.init({"x": torch.ones(3, 1)}, seed=0), log_joint=False)
    assert torch.allclose(state.values["z"], torch.full((2, 3, 1), 0.8), atol=1e-4)


def test_the_variational_bound_reaches_the_evidence_where_the_encoder_can_be_exact():
    # x ~ Normal(0, 1.25): the posterior is Gaussian with a linear mean, so the best bound is the
    # evidence itself
    torch.manual_seed(0)
    engine = DCPC(gaussian_vectors(1), num_particles=8)
    x = 1.118 * torch.randn(64, 1)
    template = engine.init({"x": x}, seed=0)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    store = ParticleStore.like(template, 64)
    learner = VariationalLearner(engine, optimizer, template, store, site="x", rate=0.01)
    bounds = [
        learner.step({"x": x}, torch.arange(64)).trace["bound"].mean().item() for _ in range(250)
    ]
    exact = Normal(0.0, 1.25**0.5).log_prob(x).mean().item()
    # each bound averages 512 draws of log p - log q, whose sd near the optimum is below .3
    assert bounds[0] < exact - 0.05
    assert sum(bounds[-50:]) / 50 == pytest.approx(exact, abs=0.03)
    assert torch.isfinite(store.read(torch.arange(64))["z"]).all()


def test_langevin_coding_teaches_its_encoder_the_posterior():
    # z | x ~ Normal(.8 x, .2); 5 steps of .05 leave 24 % of the start, which the encoder improves,
    # and a known inflation of the variance
    torch.manual_seed(0)
    shift = nn.Linear(1, 1)  # kept at zero, outside the optimiser: the posterior stays what it is
    nn.init.zeros_(shift.bias)
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(1), 1.0), 1))
    model.add_site("x", lambda z: Independent(Normal(z + shift.bias, 0.5), 1), parents=["z"])
    engine = UnadjustedLangevin(DCPC(model, num_particles=8), step=0.05, inner_steps=5)
    x = 1.118 * torch.randn(64, 1)
    template = engine.init({"x": x}, seed=0)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    store = ParticleStore.like(template, 64)
    learner = LangevinCodingLearner(engine, optimizer, template, store, site="x", rate=0.02)
    for _ in range(300):
        learner.step({"x": x}, torch.arange(64))
    assert learner.steps == 300
    with torch.no_grad():
        drawn, _ = learner.encoder(x, 2000)
    # 2,000 draws: standard error .01 each; the last gradient steps of rate .02 leave some
    # hundredths more
    assert (drawn[0].mean(0) - 0.8 * x).abs().mean().item() < 0.06
    wanted = 0.2 / (1 - 0.05 / 0.4)
    assert drawn[0].var(0).mean().item() == pytest.approx(wanted, rel=0.15)


def test_an_encoder_scores_its_own_draws_as_it_drew_them():
    torch.manual_seed(0)
    encoder = Encoder(4, [3, 2])
    images = torch.rand(5, 1, 2, 2)
    drawn, log_q = encoder(images, 6)
    assert torch.allclose(encoder.log_prob(images, drawn), log_q, atol=1e-5)


def test_baselines_sweeps_are_counted():
    engine = UnadjustedLangevin(DCPC(gaussian_vectors(1), num_particles=2), step=0.1, inner_steps=3)
    state = engine.init({"x": torch.ones(3, 1)}, seed=0)
    assert [(state := engine.sweep(state, log_joint=False)[0]).sweeps for _ in range(3)] == [
        1,
        2,
        3,
    ]


def test_accuracy_is_the_share_of_images_given_their_label():
    torch.manual_seed(0)
    # more than are looked at in one piece
    classifier = Classifier((1, 8, 8), 3)
    images = torch.rand(700, 1, 8, 8)
    given = classifier(images).argmax(1)
    wrong = torch.arange(700) % 4 == 0
    assert classifier.accuracy(images, torch.where(wrong, (given + 1) % 3, given)) == pytest.approx(
        0.75
    )
