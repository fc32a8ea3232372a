"""`aif-evaluate`: its numbers, its figures, what it refuses. Oracles: quadrature; closed forms; single runs; definitions."""

import json
import sys
from dataclasses import replace
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from image_graphs import FIGURES
from PIL import Image

from aif_dcpc.commands import evaluate as evaluate_command
from aif_dcpc.configuration import load_config
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.image_runs import trained as trained_module
from aif_dcpc.image_runs.distances import inception_features
from aif_dcpc.image_runs.evaluation import Evaluation, evaluate
from aif_dcpc.image_runs.figures import HIDDEN, free_energy_curve, propagated
from aif_dcpc.image_runs.run import continue_image_run, create_image_run
from aif_dcpc.image_runs.samples import RootMixture
from aif_dcpc.image_runs.trained import TrainedImages
from aif_dcpc.schema import evaluate_config, train_config

SMALL = (
    "experiment=digits",
    "epochs=1",
    "log_every=2",
    "images.options.sizes=[3, 6]",
    "images.validation_sweeps=8",
    "images.validation_images=10",
)
QUICK = (
    "held_out=20",
    "sweeps=3",
    "annealed_images=6",
    "temperatures=12",
    "chains=3",
    "samples=60",
)


def trained(place, *overrides):
    folder = create_image_run(
        train_config(load_config("train", *SMALL, *overrides, f"run_dir={place}"))
    )
    return str(continue_image_run(folder, folder.config()).folder)


def asked(*overrides):
    return evaluate_config(load_config("evaluate", *overrides))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two small runs of one experiment."""
    place = tmp_path_factory.mktemp("runs")
    bernoulli = "images.options.likelihood=bernoulli"
    return [trained(place / str(seed), bernoulli, f"seed={seed}") for seed in (1, 2)]


def log_marginal_by_quadrature(model, images, points=801, reach=30.0):
    """log p(image) of a graph z1 -> z2 -> image with one latent each, `(B,)` nats: Riemann sums over a square grid."""
    grid = torch.linspace(-reach, reach, points)[:, None]
    step = 2 * reach / (points - 1)
    kernels = {name: site.kernel for name, site in model.sites.items()}
    with torch.no_grad():
        prior = kernels["z1"]().log_prob(grid)[:, None]
        layer = kernels["z2"](grid[:, None].expand(points, points, 1)).log_prob(
            grid.expand(points, points, 1)
        )
        probabilities = torch.sigmoid(kernels["image"].linear(torch.relu(grid)))
        pixels = (
            torch.distributions.Bernoulli(probabilities[:, None], validate_args=False)
            .log_prob(images.flatten(1))
            .sum(-1)
        )
    inner = torch.logsumexp(prior + layer, 0)[:, None] + pixels
    return torch.logsumexp(inner, 0) + 2 * np.log(step)


def test_the_marginal_of_two_latents_is_that_of_quadrature(tmp_path):
    run = trained(
        tmp_path / "run", "images.options.likelihood=bernoulli", "images.options.sizes=[1, 1]"
    )
    quick = (
        "held_out=12",
        "sweeps=2",
        "annealed_images=12",
        "temperatures=40",
        "chains=50",
        "samples=0",
        "seeds=1",
    )
    measured = Evaluation(asked(f"run={run}", *quick), run)
    generator = torch.Generator().manual_seed(0)
    for (
        value
    ) in measured.trained.model.parameters():  # far from a model whose posterior is its prior
        value.copy_(torch.randn(value.shape, generator=generator))
    result = measured.run()
    torch.manual_seed(measured.config.seed)
    exact = (
        -log_marginal_by_quadrature(measured.trained.model, torch.bernoulli(measured.held_out))
        .mean()
        .item()
    )
    grey = -log_marginal_by_quadrature(measured.trained.model, measured.held_out).mean().item()
    # standard error of a mean of 12 log mean weights (delta method), five of them: fails once in a
    # million
    tolerance = 5 * ((1 / result["ess_fraction"] - 1) / 50 / 12) ** 0.5 + 0.005
    assert result["neg_log_marginal"] == pytest.approx(exact, abs=tolerance)
    assert tolerance < 0.2 < abs(grey - exact)  # images that were not binarised would be told apart
    assert abs(result["neg_log_marginal_simulated_gap"]) < 1


def test_evaluation_ends_with_one_json_object_and_leaves_figures(runs):
    result = json.loads(json.dumps(evaluate(asked(f"run={runs[0]}", "seeds=2", *QUICK))))
    wanted = {
        "reconstruction_bce",
        "mse",
        "neg_log_marginal",
        "ess_fraction",
        "fid_prior",
        "fid_mixture",
    }
    assert wanted | {f"{key}_sd" for key in wanted} <= result.keys()
    assert 0 < result["ess_fraction"] <= 1 and 0 < result["mse"] < 1 and result["mse_sd"] > 0
    # 64 fair coins, the law of an untrained model at most, against a model with the mean image
    assert 10 < result["neg_log_marginal"] < 64 * 0.6931 + 5
    figures = TrainedImages.load(runs[0]).folder.path / "figures"
    assert {path.name for path in figures.iterdir()} >= FIGURES
    # none is blank
    assert all(np.asarray(Image.open(figures / name)).std() > 1 for name in FIGURES)


def test_several_runs_give_the_mean_and_deviation_of_runs(runs):
    quick = (*QUICK, "samples=0", "seeds=1")
    both = evaluate(asked(f"run=[{','.join(runs)}]", *quick))
    each = [evaluate(asked(f"run={run}", *quick)) for run in runs]
    for key in ("mse", "neg_log_marginal", "recall_mse", "train_mse"):
        found = [one[key] for one in each]
        assert both[key] == pytest.approx(fmean(found))
        assert both[f"{key}_sd"] == pytest.approx(stdev(found))
        assert f"{key}_sd" not in each[0]
    assert both["run"] == runs and "neg_log_marginal_se_sd" not in both


def test_runs_of_several_methods_are_laid_side_by_side(runs, tmp_path, run):
    """Of each method what its runs give alone; nothing is averaged over methods."""
    other = trained(
        tmp_path / "pgd", "images.options.likelihood=bernoulli", "images.method=pgd", "seed=3"
    )
    quick = ("held_out=10", "sweeps=2", "annealed_images=0", "samples=0", "seeds=1")
    printed = run(evaluate_command.main, f"run=[{runs[0]},{other},{runs[1]}]", *quick)
    found = json.loads(printed.splitlines()[-1])["by_method"]
    assert list(found) == ["dcpc", "pgd"] and found["dcpc"]["run"] == runs
    for method, asked_runs in (("dcpc", f"[{runs[0]},{runs[1]}]"), ("pgd", other)):
        alone = evaluate(asked(f"run={asked_runs}", *quick))
        assert found[method]["mse"] == alone["mse"]
    (line,) = [line for line in printed.splitlines() if " mse " in line]
    assert f"{found['dcpc']['mse']:.4g} (sd" in line and f"{found['pgd']['mse']:.4g}" in line
    rate = trained(
        tmp_path / "rate", "images.options.likelihood=bernoulli", "images.rate=0.01", "seed=3"
    )
    assert list(evaluate(asked(f"run=[{rate},{other},{runs[0]}]", *quick))["by_method"]) == [
        "dcpc images.rate=0.01",
        "pgd",
        "dcpc images.rate=0.02",
    ]


def test_a_result_is_given_though_nothing_can_be_written(runs, tmp_path, run, monkeypatch, capsys):
    def full(path, encoded):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aif_dcpc.image_runs.evaluation.save", full)
    quick = ("held_out=10", "sweeps=2", "annealed_images=0", "samples=0", "seeds=1")
    monkeypatch.setattr(sys, "argv", ["aif-evaluate", f"run={runs[0]}", *quick])
    evaluate_command.main()
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["images"] == 10
    assert printed.err.count("keeps no trace of this (No space left on device)") == 1


def test_numbers_are_printed_before_figures_are_drawn(runs, monkeypatch, capsys):
    """A single image has no standard error, which JSON has no word for either."""

    def fail(self):
        raise RuntimeError("a figure")

    monkeypatch.setattr(Evaluation, "draw", fail)
    quick = ("held_out=10", "sweeps=2", "annealed_images=1", "temperatures=3", "samples=0")
    monkeypatch.setattr(sys, "argv", ["aif-evaluate", f"run={runs[0]}", *quick, "seeds=1"])
    with pytest.raises(SystemExit):
        evaluate_command.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert result["images"] == 10 and result["neg_log_marginal_se"] is None


def test_any_seed_of_a_run_draws_from_the_mixture(runs):
    """Scikit-learn takes none from 2**32 on, which seeds of repetitions may pass."""
    mixture = RootMixture(TrainedImages.load(runs[0]), seed=2**32)
    assert mixture.samples(2, seed=2**32 + 7).shape == (2, 1, 8, 8)


def test_distances_of_one_image_are_refused_before_anything_is_measured(runs, monkeypatch):
    with pytest.raises(ConfigError, match="samples=1: distances are of 2 samples at least"):
        asked(f"run={runs[0]}", "samples=1")
    load = trained_module.make_data

    def one_held_out(config):
        data = load(config)
        return replace(data, test=data.test[:1], test_labels=data.test_labels[:1])

    monkeypatch.setattr(trained_module, "make_data", one_held_out)
    with pytest.raises(ConfigError, match=r"to 2 held-out images at least, .* has 1; .* samples=0"):
        evaluate(asked(f"run={runs[0]}", *QUICK))


def test_seeds_give_the_mean_and_deviation_of_seeds(runs):
    quick = (f"run={runs[0]}", "held_out=20", "sweeps=3", "annealed_images=0", "samples=0")
    both = evaluate(asked(*quick, "seeds=2", "seed=5"))
    each = [evaluate(asked(*quick, "seeds=1", f"seed={seed}"))["mse"] for seed in (5, 15)]
    assert both["mse"] == pytest.approx(fmean(each))
    assert both["mse_sd"] == pytest.approx(stdev(each))


def test_frozen_particles_are_those_that_learning_left(runs):
    model = TrainedImages.load(runs[0])
    stored = model.folder.load_checkpoint()["learner"]["particles"]
    indices = torch.tensor([7, 3])
    state = model.remembered(indices)
    for name, particles in stored.items():
        assert torch.equal(state.values[name], particles[indices].transpose(0, 1))
    assert torch.equal(state.values["image"][0], model.data.train[indices].float() / 255)


def test_a_traversal_runs_through_the_means_of_the_levels(runs):
    model = TrainedImages.load(runs[0])
    state = model.engine(0, num_particles=1).init({"image": model.held_out(1)})
    moved = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    middle = model.model.sites["z2"].kernel.linear
    last = model.model.sites["image"].kernel.linear
    expected = torch.sigmoid(last(torch.relu(middle(torch.relu(moved)))))
    assert torch.allclose(propagated(state, "z1", moved).flatten(1), expected, atol=1e-6)


def test_a_half_and_a_quarter_of_the_pixels_are_hidden():
    for kind, share in (("recall-from-half", 0.5), ("inpainting", 0.25)):
        for shape in ((1, 8, 8), (3, 32, 32), (1, 28, 28)):
            visible = HIDDEN[kind](shape)
            assert visible.shape == shape and 1 - visible.mean() == share
            assert visible[:, 0].all()


def test_what_cannot_be_evaluated_is_refused_in_one_sentence(runs, tmp_path):
    with pytest.raises(ConfigError, match="run=RUN_DIR"):
        evaluate(asked())
    with pytest.raises(RunFolderError, match="no run folder"):
        evaluate(asked(f"run=[{runs[0]},nowhere]"))
    other = trained(tmp_path / "other", "name=others")
    with pytest.raises(ConfigError, match="not of digits and others"):
        evaluate(asked(f"run=[{runs[0]},{other}]", *QUICK))
    with pytest.raises(ConfigError, match="run must be a text"):
        asked("run=[1,2]")
    with pytest.raises(ConfigError, match="Did you mean 'inception'"):
        asked(f"run={runs[0]}", "features=incepion")


def test_a_run_without_records_has_no_curve(runs, tmp_path):
    folder = create_image_run(
        train_config(load_config("train", *SMALL, f"run_dir={tmp_path / 'new'}"))
    )
    with pytest.raises(RunFolderError, match="no records"):
        free_energy_curve(folder)


def test_inception_is_refused_where_its_weights_cannot_be_had(runs, tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity")

    def offline(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(
        ConfigError, match=r"hub/checkpoints/weights-inception.*Network is unreachable.*copy it"
    ) as refused:
        evaluate(asked(f"run={runs[0]}", "features=inception", *QUICK))
    assert "\n" not in str(refused.value)


def test_inception_features_where_the_weights_are(runs, tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity")
    from torchmetrics.image.fid import NoTrainInceptionV3

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # the network's own shape, weights by chance: what it says of images is of no matter
    with torch.random.fork_rng():
        torch.manual_seed(0)
        monkeypatch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
            lambda *a, **k: {},
        )
        with monkeypatch.context() as patched:
            patched.setattr(NoTrainInceptionV3, "load_state_dict", lambda self, state: None)
            weights = NoTrainInceptionV3("inception-v3-compat", ["2048"]).state_dict()
    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url",
        lambda *a, **k: weights,
    )
    images = TrainedImages.load(runs[0]).held_out(6)
    features = inception_features()
    # a distance of features from themselves is zero, and grey images are three equal channels
    assert features(images).shape == (6, 2048) and features(images).dtype == torch.float64
    assert torch.equal(features(images), features(images.expand(-1, 3, -1, -1)))
    quick = (
        "held_out=4",
        "sweeps=1",
        "annealed_images=0",
        "samples=4",
        "seeds=1",
        "features=inception",
    )
    monkeypatch.setattr(
        "aif_dcpc.image_runs.evaluation.inception_features",
        lambda device: lambda x: features(x[:4]),
    )
    result = evaluate(asked(f"run={runs[0]}", *quick))
    assert result["features"] == "inception" and "classifier_accuracy" not in result
    assert result["fid_prior"] > 0 and result["fid_mixture"] > 0
