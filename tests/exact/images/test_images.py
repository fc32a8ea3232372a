"""Image models' parts against closed forms: the whitened Gaussian, grey Bernoulli pixels, visible pixels, distances."""

import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from aif_dcpc.image_runs.distances import frechet_distance, kernel_distance, kernel_estimate
from aif_dcpc.inference import DCPC, check_model
from aif_dcpc.inference.images import (
    class_embedding,
    class_probabilities,
    dlgm,
    generator,
    labelled_dlgm,
    labelled_embedding,
    summary,
    with_visible,
)
from aif_dcpc.inference.images.labelled import ClassGaussians
from aif_dcpc.inference.images.layers import (
    COVARIANCES,
    GaussianLayer,
    GreyBernoulli,
    WhitenedNormal,
)
from aif_dcpc.inference.model.densities import evaluate


def whitened(size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lower = torch.randn(size, size, generator=generator).tril(-1)
    whitening = lower + torch.diag(torch.rand(size, generator=generator) + 0.5)
    return WhitenedNormal(torch.randn(3, size, generator=generator), whitening)


def test_a_whitened_normal_is_the_normal_with_precision_p_transposed_p():
    law = whitened()
    same = MultivariateNormal(law.mean, precision_matrix=law.whitening.mT @ law.whitening)
    x = torch.randn(5, 3, 4)
    assert torch.allclose(law.log_prob(x), same.log_prob(x), atol=1e-4)


def test_whitened_normals_may_each_have_a_matrix_of_their_own():
    laws = [whitened(seed=seed) for seed in range(3)]
    mean = torch.stack([law.mean[0] for law in laws])
    whitening = torch.stack([law.whitening for law in laws])
    together = WhitenedNormal(mean, whitening)
    x = torch.randn(5, 3, 4)
    alone = [
        WhitenedNormal(m, w).log_prob(x[:, i])
        for i, (m, w) in enumerate(zip(mean, whitening, strict=True))
    ]
    assert torch.allclose(together.log_prob(x), torch.stack(alone, 1), atol=1e-4)
    assert torch.allclose(together.expand((5, 3)).log_prob(x), torch.stack(alone, 1), atol=1e-4)
    torch.manual_seed(0)
    drawn = together.sample((20_000,))
    for i, law in enumerate(laws):
        wanted = torch.linalg.inv(law.whitening.mT @ law.whitening)
        assert (
            torch.cov(drawn[:, i].T) - wanted
        ).abs().max() < 0.06 * wanted.diagonal().max()  # 6 standard errors


def test_whitened_draws_have_their_covariance():
    law = whitened()
    torch.manual_seed(0)
    draws = law.sample((20_000,))[:, 0]
    wanted = torch.linalg.inv(law.whitening.mT @ law.whitening)
    sd = wanted.diagonal().sqrt()
    # a sample covariance of 20,000 draws is off by at most sqrt(2 / 20000) of the variances, 5
    # standard errors here
    assert ((torch.cov(draws.mT) - wanted) / (sd[:, None] * sd)).abs().max() < 5 * (
        2 / 20_000
    ) ** 0.5


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_every_covariance_gives_a_law_of_the_right_shape(covariance):
    law = GaussianLayer(3, 5, covariance=covariance)(torch.zeros(2, 4, 3))
    assert law.log_prob(law.sample()).shape == (2, 4) and law.event_shape == (5,)


def test_grey_pixels_score_the_expected_binarisation():
    logits = torch.randn(2, 1, 2, 2)
    grey = torch.rand(2, 1, 2, 2)
    expected = grey * Bernoulli(logits=logits).log_prob(torch.ones(1))
    expected = expected + (1 - grey) * Bernoulli(logits=logits).log_prob(torch.zeros(1))
    assert torch.allclose(
        GreyBernoulli(logits).log_prob(grey), expected.flatten(1).sum(1), atol=1e-5
    )


def test_grey_pixels_have_the_scores_of_differences():
    logits = (
        torch.tensor([0.3, -2.0, 5.0, 90.0, -90.0, 0.0])
        .double()
        .view(1, 1, 2, 3)
        .repeat(2, 1, 1, 1)
    )
    grey = torch.rand(1, 1, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    inputs = (logits.requires_grad_(), grey.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: GreyBernoulli(a).log_prob(b), inputs)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_normal"])
def test_hidden_pixels_do_not_matter(likelihood):
    model = dlgm((2, 3), (1, 4, 4), likelihood=likelihood, levels=17)
    visible = torch.ones(1, 4, 4)
    visible[:, 2:] = 0
    images = torch.randint(0, 17, (5, 1, 4, 4)) / 16
    changed = torch.where(visible.bool(), images, 1 - images)

    def score(model, images):
        state = DCPC(model, num_particles=2).init({"image": images}, seed=0)
        return evaluate(
            state,
            next(f for f in state.conditioning.factor_graph.factors if f.site.name == "image"),
        ).log_prob

    assert torch.equal(
        score(with_visible(model, "image", visible), images),
        score(with_visible(model, "image", visible), changed),
    )
    everything = with_visible(model, "image", torch.ones(1, 4, 4))
    assert torch.allclose(score(everything, images), score(model, images), atol=1e-4)


def test_the_summary_names_every_site_and_counts_its_parameters():
    """z2: 2 * 3 weights, 3 biases, 3 scales; image: 3 * 16 weights, 16 biases."""
    lines = summary(dlgm((2, 3), (1, 4, 4), covariance="diagonal")).splitlines()[1:]
    found = {line.split()[0]: int(line.split()[-1]) for line in lines}
    assert found == {"z1": 0, "z2": 12, "image": 64, "total": 76}


def features(number, seed, shift=0.0, size=3):
    generator = torch.Generator().manual_seed(seed)
    return shift + torch.randn(number, size, generator=generator).double()


def test_the_frechet_distance_of_a_stretched_set():
    """y = 3 x + 1: means differ by 2 m + 1, and trace(S + 9 S - 2 * 3 S) = 4 trace S."""
    x = features(40, 0)
    expected = (2 * x.mean(0) + 1).square().sum() + 4 * x.var(0).sum()
    assert frechet_distance(x, 3 * x + 1) == pytest.approx(expected.item(), rel=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_the_kernel_distance_is_that_of_all_pairs():
    x = features(7, 0)
    y = features(5, 1, 0.5)

    def kernel(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    within = sum(
        kernel(s[i], s[j]) / (len(s) * (len(s) - 1))
        for s in (x, y)
        for i in range(len(s))
        for j in range(len(s))
        if i != j
    )
    across = sum(kernel(a, b) for a in x for b in y) / 35
    assert kernel_estimate(x, y, blocks=2).value == pytest.approx(within - 2 * across)
    assert kernel_distance(x, x + 1, size=7) == pytest.approx(
        kernel_estimate(x, x + 1, blocks=2).value
    )


@pytest.mark.parametrize("side", [32, 64])
def test_convolutional_generators_keep_data_independent(side):
    torch.manual_seed(0)
    model = generator((3, side, side), latents=5, width=16)
    state = DCPC(model, num_particles=2).init(
        {"image": torch.randint(0, 256, (3, 3, side, side)) / 255}, seed=0
    )
    factor = next(f for f in state.conditioning.factor_graph.factors if f.site.name == "image")
    before = evaluate(state, factor, scores=False).log_prob
    moved = state.values["z"].clone()
    moved[:, 0] += 1
    after = evaluate(state, factor, {"z": moved}, scores=False).log_prob
    assert torch.allclose(before[:, 1:], after[:, 1:], rtol=1e-5)
    assert not torch.allclose(before[:, 0], after[:, 0])


def test_a_missing_label_is_not_scored():
    torch.manual_seed(0)
    model = labelled_dlgm(3, (2, 4), (1, 2, 2))
    engine = DCPC(model, num_particles=2)
    data = {"image": torch.rand(2, 1, 2, 2), "label": torch.tensor([1, 2])}
    state = engine.init(data, masks={"label": torch.tensor([True, False])}, seed=0)
    factor = next(f for f in state.conditioning.factor_graph.factors if f.site.name == "label")
    log_prob = evaluate(state, factor, scores=False).log_prob
    assert (log_prob[:, 0] < 0).all() and (log_prob[:, 1] == 0).all()
    assert "label" not in state.conditioning.latent
    probabilities = class_probabilities(state)
    assert probabilities.shape == (2, 3) and torch.allclose(probabilities.sum(-1), torch.ones(2))


def test_images_drawn_from_the_model_are_black_and_white():
    drawn = (
        DCPC(dlgm((2, 3), (1, 4, 4)), num_particles=3).init(batch_size=2, seed=0).values["image"]
    )
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}


def test_labels_of_an_embedding_have_their_posterior_by_quadrature():
    torch.manual_seed(1)
    model = labelled_embedding(3, (1, 2, 2), latents=1, hidden=8, label_hidden=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # far enough from constant for the label to matter
    images = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0.5, 1]]).reshape(2, 1, 2, 2)
    engine = DCPC(model, num_particles=4000)
    data = {"image": images, "label": torch.zeros(2, dtype=torch.long)}
    state = engine.init(data, masks={"label": torch.zeros(2, dtype=torch.bool)}, seed=0)
    state, _ = engine.run(state, num_sweeps=60)
    grid = torch.linspace(-6, 6, 2001)[:, None, None]
    pixels, label = (model.sites[name].kernel(grid) for name in ("image", "label"))
    weights = torch.softmax(pixels.log_prob(images) - grid[..., 0].square() / 2, 0)
    wanted = (weights[..., None] * label.probs).sum(0)
    prior = torch.softmax(-grid[..., 0].square() / 2, 0)[..., None] * label.probs
    # 4,000 independent chains: standard error at most .5 / sqrt(4000) = .008
    assert (class_probabilities(state) - wanted).abs().max() < 0.04
    assert (prior.sum(0) - wanted).abs().max() > 0.06  # what the sweeps had to find


def test_classes_have_their_posterior_by_quadrature():
    torch.manual_seed(0)
    model = class_embedding(3, (1, 2, 2), latents=1, hidden=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model.sites["embedding"].kernel.mean.copy_(torch.tensor([[-1.0], [0.5], [2.0]]))
        model.sites["embedding"].kernel.log_scale.copy_(torch.tensor([[0.3], [-0.5], [0.0]]))
    images = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0.5, 1], [0, 1, 1, 0]]).reshape(3, 1, 2, 2)
    engine = DCPC(model, num_particles=4000)
    data = {"image": images, "label": torch.tensor([0, 0, 2])}
    state = engine.init(data, masks={"label": torch.tensor([False, False, True])}, seed=0)
    state, _ = engine.run(state, num_sweeps=80)
    grid = torch.linspace(-8, 8, 4001)[:, None, None]
    pixels = model.sites["image"].kernel(grid).log_prob(images)
    classes = Normal(torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([0.3, -0.5, 0.0]).exp())
    joint = pixels[:, :, None] + classes.log_prob(grid)  # (grid, image, class)
    wanted = joint.exp().sum(0) / joint.exp().sum((0, 2))[:, None]
    # 4,000 independent chains: standard error at most .5 / sqrt(4000) = .008
    assert (engine.marginals(state, "label").mean(0)[:2] - wanted[:2]).abs().max() < 0.04
    assert (wanted[:2] - 1 / 3).abs().max() > 0.15  # what the sweeps had to find
    assert (state.particles["label"][:, 2] == 2).all()  # as given
    given = joint[:, 2, 2].softmax(0)
    mean = (given * grid[:, 0, 0]).sum()
    error = ((given * (grid[:, 0, 0] - mean) ** 2).sum() / 4000).sqrt()
    assert (state.particles["embedding"][:, 2].mean() - mean).abs() < 5 * error + 0.02


def test_gaussians_of_classes_start_at_their_moments():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(50)
    z = torch.randn(150, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.2]])
    gaussians = ClassGaussians(3, 2)
    gaussians.start(z + labels[:, None], labels, ridge=0.0)
    law = gaussians(torch.arange(3))
    means = torch.stack([(z + labels[:, None])[labels == c].mean(0) for c in range(3)])
    assert torch.allclose(law.mean, means, atol=1e-5)
    away = z + labels[:, None] - means[labels]
    covariance = torch.linalg.inv(law.whitening.mT @ law.whitening)
    assert torch.allclose(covariance, (away.T @ away / 147).expand(3, 2, 2), atol=1e-4)


def test_labelled_graphs_keep_data_independent():
    data = {"image": torch.rand(3, 1, 2, 2), "label": torch.tensor([0, 2, 1])}
    for model in (
        labelled_embedding(3, (1, 2, 2), latents=2, hidden=4, label_hidden=4),
        class_embedding(3, (1, 2, 2), latents=2, hidden=4),
    ):
        assert check_model(model, data, replicates=0) == ()
