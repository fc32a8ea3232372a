"""Parts of image models against their formulas: sizes, starting values, hidden pixels, labels, summaries, features."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import ContinuousBernoulli, Independent, LowRankMultivariateNormal, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.baselines.classifier import Classifier, train_classifier
from aif_dcpc.inference.distributions import DiscretizedNormal
from aif_dcpc.inference.images import (
    class_probabilities,
    dlgm,
    generator,
    labelled_dlgm,
    labelled_embedding,
    sequential_memory,
    summary,
    with_visible,
)
from aif_dcpc.inference.images.dlgm import PixelLayer
from aif_dcpc.inference.images.generators import ConvolutionalKernel, Residual
from aif_dcpc.inference.images.layers import (
    GaussianLayer,
    GreyBernoulli,
    LearnedNormal,
    WhitenedNormal,
)
from aif_dcpc.inference.images.masking import VisiblePixels
from aif_dcpc.inference.learning import learn_step
from aif_dcpc.inference.queries.law import law


def count(module):
    return sum(p.numel() for p in module.parameters())


# -- Gaussian layers -------------------------------------------------------------------------------


def layer(covariance, **options):
    torch.manual_seed(0)
    made = GaussianLayer(3, 4, covariance=covariance, **options)
    made.log_scale.data = torch.tensor([0.0, 0.5, -0.5, 1.0])
    return made, torch.randn(5, 2, 3)


def test_full_covariances():
    made, parent = layer("full")
    assert (made.lower_scale == 0).all()
    made.lower_scale.data = torch.randn(4, 4)
    law = made(parent)
    whitening = torch.diag((-made.log_scale).exp()) + made.lower_scale.tril(-1)
    assert torch.allclose(law.whitening, whitening)
    assert torch.allclose(law.mean, parent.clamp_min(0) @ made.linear.weight.T + made.linear.bias)
    assert count(made) == 3 * 4 + 4 + 4 + 16


def test_low_rank_covariances():
    made, parent = layer("low_rank", rank=2)
    law = made(parent)
    assert isinstance(law, LowRankMultivariateNormal)
    expected = made.factor_scale @ made.factor_scale.T + torch.diag((2 * made.log_scale).exp())
    assert torch.allclose(law.covariance_matrix, expected.expand_as(law.covariance_matrix))
    assert layer("low_rank")[0].factor_scale.shape == (4, 16)
    assert 0 < layer("low_rank")[0].factor_scale.abs().max() < 0.05  # 64 draws of sd .01: 5 sd


def test_diagonal_covariances():
    made, parent = layer("diagonal")
    assert torch.allclose(made(parent).variance, (2 * made.log_scale).exp().expand(5, 2, 4))
    assert count(made) == 3 * 4 + 4 + 4


def test_whitened_normals_expand():
    law = WhitenedNormal(torch.arange(3.0), torch.eye(3))
    wide = law.expand((4, 2))
    assert wide.batch_shape == (4, 2) and wide.event_shape == (3,)
    assert wide.sample((5,)).shape == (5, 4, 2, 3)
    assert torch.equal(wide.mean[3, 1], torch.arange(3.0))
    assert torch.allclose(
        law.log_prob(torch.arange(3.0)), torch.tensor(-1.5 * math.log(2 * math.pi))
    )


def test_a_learned_prior_starts_standard_and_finds_what_its_data_come_from():
    """x = z + noise of variance .04: the most likely prior has the mean of x, and its covariance less .04."""
    torch.manual_seed(0)
    prior = LearnedNormal(2)
    z = torch.randn(3, 2)
    assert torch.allclose(prior().log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1), atol=1e-6)
    model = GraphicalModel()
    model.add_site("z", prior)
    model.add_site("x", lambda z: Independent(Normal(z, 0.2), 1), parents=["z"])
    x = torch.randn(400, 2) @ torch.tensor([[1.5, 0.8], [0.0, 0.5]]) + torch.tensor([2.0, -1.0])
    engine = DCPC(model, num_particles=4)
    state = engine.init({"x": x}, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        state, _ = learn_step(engine, state, optimizer)
        schedule.step()
    law = prior()
    covariance = torch.linalg.inv(law.whitening.mT @ law.whitening)
    assert torch.allclose(law.mean, x.mean(0), atol=0.02)
    assert torch.allclose(
        covariance, torch.cov(x.T, correction=0) - 0.04 * torch.eye(2), rtol=0.05, atol=0.03
    )


# -- pixels ----------------------------------------------------------------------------------------


def test_likelihoods_of_pixels():
    z = torch.randn(2, 3, 4)
    for likelihood, extra in (
        ("bernoulli", 0),
        ("continuous_bernoulli", 0),
        ("discretized_normal", 1),
    ):
        made = PixelLayer(4, (1, 2, 3), likelihood, 5)
        logits = (z.clamp_min(0) @ made.linear.weight.T + made.linear.bias).reshape(2, 3, 1, 2, 3)
        law = made(z)
        image = torch.randint(0, 5, (2, 3, 1, 2, 3)) / 4
        expected = {
            "bernoulli": lambda: image * logits - nn.functional.softplus(logits),
            "continuous_bernoulli": lambda: ContinuousBernoulli(logits=logits).log_prob(image),
            "discretized_normal": lambda: DiscretizedNormal(
                logits.sigmoid(), math.exp(-1.5), levels=5
            ).log_prob(image),
        }[likelihood]()
        assert torch.allclose(law.log_prob(image), expected.flatten(2).sum(-1), atol=1e-4)
        assert law.batch_shape == (2, 3) and law.event_shape == (1, 2, 3)
        assert count(made) == 4 * 6 + 6 + extra


def test_grey_pixels():
    law = GreyBernoulli(torch.tensor([0.0, 2.0, -1.0, 30.0]).reshape(1, 2, 2))
    assert torch.allclose(law.mean.flatten(), torch.tensor([0.5, 0.880797, 0.268941, 1.0]))
    wide = law.expand((7,))
    torch.manual_seed(0)
    drawn = wide.sample((3000,))
    assert drawn.shape == (3000, 7, 1, 2, 2) and set(drawn.unique().tolist()) == {0.0, 1.0}
    assert ((drawn.mean((0, 1)) - law.mean).abs() < 5 * 0.5 / 21_000**0.5).all()


def test_hidden_pixels_are_drawn_but_not_scored():
    law = Independent(Normal(torch.arange(4.0).reshape(1, 2, 2), 1.0), 3)
    seen = VisiblePixels(law, torch.tensor([[[1.0, 0], [0, 1]]]))
    assert torch.equal(seen.mean, law.mean)
    wide = seen.expand((3,))
    assert wide.batch_shape == (3,) and wide.sample((2,)).shape == (2, 3, 1, 2, 2)
    value = torch.zeros(3, 1, 2, 2)
    expected = Normal(0.0, 1.0).log_prob(torch.tensor([0.0, 3.0])).sum()
    assert torch.allclose(wide.log_prob(value), expected.expand(3))


def test_the_rest_of_a_graph_stays_when_pixels_are_hidden():
    model = sequential_memory((1, 2, 2), latents=2, hidden=3)
    hidden = with_visible(model, "image", torch.zeros(1, 2, 2))
    assert hidden.order == ("state", "image")
    assert hidden.sites["state"] == model.sites["state"]
    assert hidden.sites["state"].parents == (lag("state"),)
    state = DCPC(hidden, num_particles=2).init({"image": torch.rand(1, 3, 1, 2, 2)}, seed=0)
    assert (law(state, "image").log_prob(state.values["image"]) == 0).all()


# -- graphs ----------------------------------------------------------------------------------------


def test_published_sizes():
    model = dlgm()
    assert [model.sites[n].kernel.zero.numel() for n in ("z1",)] == [20]
    layers = [model.sites[n].kernel for n in ("z2", "z3", "image")]
    assert [tuple(x.linear.weight.shape) for x in layers] == [(128, 20), (256, 128), (784, 256)]
    assert model.sites["image"].parents == ("z3",) and model.sites["z3"].parents == ("z2",)
    prior = model.sites["z1"].kernel()
    assert (prior.mean == 0).all() and (prior.variance == 1).all() and prior.event_shape == (20,)


@pytest.mark.parametrize(("side", "latents"), [(32, 64), (64, 40)])
def test_generators(side, latents):
    torch.manual_seed(0)
    model = generator((2, side, side), width=16, likelihood="normal", scale=0.3)
    kernel = model.sites["image"].kernel
    assert model.sites["z"].kernel.zero.numel() == latents
    z = torch.randn(2, 3, latents)
    law = kernel(z)
    assert law.batch_shape == (2, 3) and law.event_shape == (2, side, side)
    assert torch.allclose(law.variance, torch.tensor(0.09))
    assert torch.allclose(
        law.mean, 0.5 + 0.5 * torch.tanh(kernel.body(z.flatten(0, 1))).unflatten(0, (2, 3))
    )
    norms = [m for m in kernel.modules() if isinstance(m, nn.GroupNorm)]
    assert all(m.num_groups == 8 for m in norms) and len(norms) == (5 if side == 32 else 4)
    convolutions = [m for m in kernel.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(convolutions) == (1 if side == 32 else 5)
    assert all(m.kernel_size == (4, 4) for m in convolutions)
    discretised = generator((2, side, side), width=16).sites["image"].kernel
    assert discretised.log_scale.exp().item() == pytest.approx(0.1)
    assert discretised(z).base_dist.levels == 256
    assert (
        max(
            p.shape[0]
            for p in generator((1, 32, 32), latents=2).sites["image"].kernel.body.parameters()
        )
        == 64 * 256
    )


def test_a_residual_block_adds():
    block = Residual(16)
    for parameter in block.inner[-1].parameters():
        parameter.data.zero_()
    x = torch.randn(2, 16, 5, 5)
    assert torch.equal(block(x), x)
    assert [type(m).__name__ for m in block.inner] == ["GroupNorm", "SiLU", "Conv2d"] * 2


def test_the_scale_of_a_convolutional_kernel_starts_as_told():
    for scale in (1.0, 0.25):
        kernel = ConvolutionalKernel(nn.Identity(), "normal", scale)
        assert kernel.log_scale.item() == pytest.approx(math.log(scale))


def test_labels():
    torch.manual_seed(0)
    model = labelled_dlgm(3, (2, 4), (1, 2, 2))
    assert model.sites["label"].parents == ("z2",)
    z = torch.randn(2, 5, 4)
    read = model.sites["label"].kernel
    assert torch.allclose(
        read(z).logits, (z.clamp_min(0) @ read.linear.weight.T + read.linear.bias).log_softmax(-1)
    )
    other = labelled_embedding(3, (1, 2, 2), latents=4, hidden=6, label_hidden=5)
    label = other.sites["label"].kernel
    image = other.sites["image"].kernel
    hidden = (z @ label.hidden.weight.T + label.hidden.bias).clamp_min(0)
    assert torch.allclose(label(z).logits, label.linear(hidden).log_softmax(-1))
    assert hidden.shape[-1] == 5
    hidden = (z @ image.hidden.weight.T + image.hidden.bias).clamp_min(0)
    assert torch.allclose(image(z).logits.flatten(2), image.linear(hidden))
    assert hidden.shape[-1] == 6
    data = {"image": torch.rand(2, 1, 2, 2), "label": torch.zeros(2).long()}
    state = DCPC(model, num_particles=3).init(data, seed=0)
    weights = torch.tensor([[0.5, 0.1], [0.2, 0.2], [0.3, 0.7]])
    expected = (read(state.values["z2"]).probs * weights[..., None]).sum(0)
    assert torch.allclose(
        class_probabilities(state.replace(log_weights=weights.log())), expected, atol=1e-6
    )


def test_published_sizes_of_labelled_models():
    embedding = labelled_embedding(10)
    image, label = (embedding.sites[n].kernel for n in ("image", "label"))
    assert (image.hidden.in_features, image.hidden.out_features, image.linear.out_features) == (
        48,
        256,
        784,
    )
    assert (label.hidden.in_features, label.hidden.out_features, label.linear.out_features) == (
        48,
        256,
        10,
    )
    deep = labelled_dlgm(10)
    assert deep.sites["label"].kernel.linear.in_features == 256
    assert deep.sites["image"].kernel.image_shape == (1, 28, 28)


def test_memories():
    torch.manual_seed(0)
    model = sequential_memory((1, 2, 3), latents=4, hidden=5, noise=0.3, scale=0.05)
    transition, decoder = (model.sites[n].kernel for n in ("state", "image"))
    before = torch.randn(7, 4)
    assert torch.allclose(transition(before).mean, transition.network(before))
    assert torch.allclose(transition(before).variance, torch.tensor(0.09))
    assert transition(before).event_shape == (4,)
    law = decoder(before)
    assert law.event_shape == (1, 2, 3) and torch.allclose(law.variance, torch.tensor(0.0025))
    assert ((law.mean > 0) & (law.mean < 1)).all()
    assert count(transition) == 4 * 5 + 5 + 5 * 4 + 4 and count(decoder) == 4 * 5 + 5 + 5 * 6 + 6
    defaults = sequential_memory()
    assert defaults.sites["state"].kernel.noise == 0.2
    assert defaults.sites["image"].kernel.scale == 0.1
    assert defaults.sites["image"].kernel.image_shape == (1, 28, 28)
    assert [
        m.out_features for m in defaults.sites["state"].kernel.network if isinstance(m, nn.Linear)
    ] == [256, 32]


def test_a_summary_counts_every_parameter():
    model = sequential_memory((1, 2, 2), latents=2, hidden=3)
    model.add_deterministic("twice", lambda s: 2 * s, ["state"], scope="slice")
    model.add_site("count", lambda s: Normal(s.sum(-1), 1.0), ["twice"], scope="slice")

    rows = [line.split() for line in summary(model).splitlines()]
    assert rows[1:] == [
        ["state", "2", "state[-1]", str(2 * 3 + 3 + 3 * 2 + 2)],
        ["image", "1", "x", "2", "x", "2", "state", str(2 * 3 + 3 + 3 * 4 + 4)],
        ["twice", "function", "state", "0"],
        ["count", "scalar", "twice", "0"],
        ["total", str(17 + 25)],
    ]


# -- features --------------------------------------------------------------------------------------


def test_a_classifier_learns_what_can_be_told_and_leaves_the_generator_alone():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (300,), generator=generator)
    images = 0.1 * torch.rand(300, 1, 5, 7, generator=generator)
    images[torch.arange(300), 0, 2, 2 * labels] += 0.8  # which pixel is bright
    before = torch.random.get_rng_state()
    found = train_classifier(images, labels, steps=60, batch_size=64, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found(images).shape == (300, 3) and (found(images).argmax(1) == labels).all()
    features = found.features(images)
    assert features.shape == (300, 64) and features.dtype == torch.float64 and (features >= 0).all()
    assert torch.allclose(found.head(features.float()), found(images), atol=1e-5)
    again = train_classifier(images, labels, steps=60, batch_size=64, seed=3)
    assert all(
        torch.equal(a, b) for a, b in zip(found.parameters(), again.parameters(), strict=True)
    )
    other = train_classifier(images, labels, steps=1, seed=4)
    assert not torch.equal(
        other.head.weight, train_classifier(images, labels, steps=1, seed=3).head.weight
    )


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 8), (7, 9), (28, 28)])
def test_classifiers_of_any_size(height, width):
    classifier = Classifier((2, height, width), 4)
    assert classifier(torch.rand(3, 2, height, width)).shape == (3, 4)
    cells = math.ceil(height / 4) * math.ceil(width / 4)
    sizes = 2 * 16 * 9 + 16 + 16 * 32 * 9 + 32 + 32 * cells * 64 + 64 + 64 * 4 + 4
    assert count(classifier) == sizes


def test_models_print_their_sites():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("b", lambda a: Normal(a, 1.0), ["a"])
    model.add_site("c", lambda: Normal(0.0, 1.0))
    model.add_site("d", lambda b, c: Normal(b + c, 1.0), ["b", "c"])
    assert model.extra_repr().splitlines()[:2] == ["a (global) <- nothing", "b (episode) <- a"]
    assert model.markov_blanket("b") == ("a", "c", "d") and model.markov_blanket("a") == ("b",)
    assert model.children_of("c") == ("d",)
