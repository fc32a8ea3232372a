"""The engine on a GPU: it never waits, and launches sweeps whole to the same numbers (skipped where there is none)."""

import warnings

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from aif_dcpc.experiments.benchmarks.batches import never_waiting
from aif_dcpc.experiments.benchmarks.sweeps import state_space
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.images import dlgm
from aif_dcpc.inference.learning import parameter_groups, reuse_gradients_step
from aif_dcpc.inference.model.captured import Captured
from aif_dcpc.inference.recycled_gradients import CompiledEvaluation, evaluated

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def series():
    """A linear-Gaussian series with four dimensions, data drawn at random."""
    return state_space(40, 3, "cuda")


def constant_and_counts():
    """A constant rate behind Poisson counts and a categorical label: moves on what is not Gaussian."""
    device = "cuda"
    one = torch.ones((), device=device)
    shares = torch.tensor([0.2, 0.3, 0.5], device=device)
    rates = torch.tensor([1.0, 4.0, 9.0], device=device)
    model = GraphicalModel()
    model.add_site("rate", lambda: torch.distributions.Gamma(2 * one, one))
    model.add_site("kind", lambda: torch.distributions.Categorical(shares))
    model.add_site(
        "count",
        lambda rate, kind: torch.distributions.Poisson(rate * rates[kind.long()]),
        parents=["rate", "kind"],
    )
    return model, {"count": torch.tensor([3.0, 12.0], device=device)}


def images():
    """The published hierarchy in small, with parameters."""
    torch.manual_seed(0)
    model = dlgm(sizes=[4, 8, 16]).to("cuda")
    shown = torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    return model, {"image": shown.to("cuda")}


MODELS = [series, constant_and_counts, images]


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("adapt", [True, False])
def test_sweeps_never_wait_for_the_device(build, adapt):
    model, data = build()
    engine = DCPC(model, num_particles=4)
    state = engine.init(data, seed=0)
    for _ in range(3):
        state, _ = engine.sweep(state, adapt=adapt, log_joint=False)
    with never_waiting():
        for _ in range(2):
            state, _ = engine.sweep(state, adapt=adapt, log_joint=False)


@pytest.mark.parametrize("build", MODELS)
def test_sweeps_that_are_launched_whole_give_the_same_cloud(build):
    clouds = []
    for compile_ in (False, True):
        model, data = build()
        engine = DCPC(model, num_particles=4, warmup=6, compile=compile_)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            state, _ = engine.run(engine.init(data, seed=0), 30, adapt=None)
        clouds.append(state.values)
        launched = engine.compiled is not None and any(
            kind.function for kind in engine.compiled._kinds.values()
        )
        assert launched is compile_
    for name, value in clouds[0].items():
        torch.testing.assert_close(value, clouds[1][name])


def test_learning_that_is_launched_whole_gives_the_same_parameters():
    learned = []
    for compile_ in (False, True):
        model, data = images()
        engine = DCPC(model, num_particles=4, warmup=4, compile=compile_)
        optimizer = torch.optim.Adam(parameter_groups(model, 1e-3), amsgrad=True)
        evaluate = CompiledEvaluation() if compile_ else evaluated
        state = engine.init(data, seed=0)
        for _ in range(14):
            state, _ = reuse_gradients_step(engine, state, optimizer, evaluate=evaluate)
        learned.append([p.detach() for p in model.parameters()])
        assert not compile_ or evaluate.graph is not None
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other)


def test_a_replay_reads_its_arguments_and_keeps_its_earlier_results():
    layer = nn.Linear(3, 2).to("cuda").requires_grad_(False)
    given = [torch.randn(5, 3, device="cuda") for _ in range(3)]
    replay = Captured(lambda x: (layer(x), x.sum(0)), given[0])
    found = [replay(x) for x in given]
    for x, (image, total) in zip(given, found, strict=True):
        torch.testing.assert_close(image, layer(x))
        torch.testing.assert_close(total, x.sum(0))


def test_sampling_on_a_gpu_reaches_the_exact_posterior():
    """One mean with a known posterior: 5 standard errors of a quarter of the draws, passed once in a million."""
    zero, one = torch.zeros((), device="cuda"), torch.ones((), device="cuda")
    model = GraphicalModel()
    model.add_site("mean", lambda: Normal(zero, 2 * one))
    model.add_site("x", lambda mean: Normal(mean, one), parents=["mean"])
    draws = DCPC(model, num_particles=16).sample({"x": torch.tensor([1.5], device="cuda")}, seed=0)
    found = draws["mean"].flatten()
    assert abs(found.mean() - 1.5 * 4 / 5) < 5 * (0.8 / (len(found) / 4)) ** 0.5
    assert abs(found.var() / 0.8 - 1) < 5 * (2 / (len(found) / 4)) ** 0.5
