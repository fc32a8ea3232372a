"""Image models from the command to the run folder. Oracles: the same run left alone; the mean image; quadrature."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image

from aif_dcpc.data import load_images, unit
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.schema import train_config
from aif_dcpc.training.image_run import continue_image_run, create_image_run

SMALL = (
    "experiment=digits",
    "epochs=2",
    "log_every=1",
    "checkpoint_every=4",
    "picture_every=5",
    "images.options.sizes=[3, 6]",
    "images.validation_sweeps=2",
    "images.validation_images=10",
)


def config(*overrides):
    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        values = OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)
    return train_config(values)


def metrics(run):
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("speed/")} for line in lines]


def run(*overrides):
    folder = create_image_run(config(*overrides))
    return continue_image_run(folder, folder.config())


LEARNING = {
    "exact": ["inference.update=exact"],
    "paper": ["inference.update=paper"],
    "paper first": ["images.paper_share=0.5", "images.visits=2", "images.recycle=true", "images.binarize=true"],
}


@pytest.mark.parametrize("learning", LEARNING)
def test_a_run_stopped_and_resumed_gives_the_same_curve_bit_for_bit(learning, tmp_path):
    asked = (*SMALL, *LEARNING[learning])
    whole = run(*asked, f"run_dir={tmp_path / 'whole'}")
    folder = create_image_run(config(*asked, f"run_dir={tmp_path / 'parts'}"))
    short = replace(folder.config(), max_minutes=0.001)
    reasons = []
    while not reasons or reasons[-1] != "finished":
        reasons.append(continue_image_run(folder, short).reason)
    assert len(reasons) > 1
    assert metrics(folder) == metrics(whole.folder)
    left, right = (f.load_checkpoint()["learner"]["particles"] for f in (folder, whole.folder))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_baselines_never_use_the_published_update(tmp_path):
    asked = (*SMALL, "images.method=pgd")
    plain = run(*asked, f"run_dir={tmp_path / 'plain'}")
    early = run(*asked, "images.paper_share=0.5", f"run_dir={tmp_path / 'early'}")
    assert metrics(plain.folder) == metrics(early.folder)


def test_a_short_run_explains_held_out_digits_better_than_the_mean_image(tmp_path):
    outcome = run("experiment=digits", "epochs=8", f"run_dir={tmp_path / 'run'}", "images.validation_images=50")
    data = load_images("digits", "data")
    mean_image_mse = (unit(data.test[:50]) - unit(data.train).mean(0)).square().mean().item()
    assert outcome.reason == "finished"
    assert outcome.numbers["mse"] < 0.6 * mean_image_mse
    assert {"reconstructions.png", "samples.png"} <= {p.name for p in (outcome.folder.path / "figures").iterdir()}
    assert list(outcome.folder.path.glob("events.*"))


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    folder = create_image_run(config(*SMALL, f"run_dir={tmp_path / 'run'}"))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunFolderError, match=r"No space left on device.*resume="):
        continue_image_run(folder, folder.config())
    assert folder.load_checkpoint()["progress"]["step"] == 0


def pictures(folder, number=20, size=(178, 218)):
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(number):
        Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / f"{i:06d}.jpg")


def test_celeba_and_folders_are_centre_cropped_and_scaled(tmp_path):
    pictures(tmp_path / "celeba" / "img_align_celeba")
    data = load_images("celeba", str(tmp_path), image_size=32)
    assert data.train.shape == (18, 3, 32, 32) and data.test.shape == (2, 3, 32, 32)
    folder = load_images("folder", "data", image_size=64, folder=str(tmp_path / "celeba"))
    assert folder.image_shape == (3, 64, 64) and folder.train.dtype == torch.uint8


@pytest.mark.parametrize("name", ["mnist", "emnist", "fashion_mnist", "cifar10", "cifar10_subset", "celeba", "folder"])
def test_what_is_not_there_is_told_in_one_sentence(name, tmp_path, monkeypatch):
    from torchvision.datasets import utils

    def offline(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(utils, "_urlretrieve", offline)
    with pytest.raises(ConfigError, match=r"data_dir=|holds 0 pictures") as refused:
        load_images(name, str(tmp_path), folder=str(tmp_path / "nothing"))
    assert "\n" not in str(refused.value)


def test_damaged_and_small_pictures_are_named(tmp_path):
    pictures(tmp_path / "faces", number=3)
    (tmp_path / "faces" / "000001.jpg").write_bytes(b"\xff\xd8 torn")
    with pytest.raises(ConfigError, match=r"000001.jpg is not a whole picture"):
        load_images("folder", "data", folder=str(tmp_path / "faces"))
    pictures(tmp_path / "icons", number=3, size=(16, 16))
    with pytest.raises(ConfigError, match=r"16 x 16 pixels: expected at least 64"):
        load_images("folder", "data", folder=str(tmp_path / "icons"))


def test_misspelt_names_get_the_closest_match():
    with pytest.raises(ConfigError, match="Did you mean 'mnist'"):
        load_images("mnits", "data")
    with pytest.raises(ConfigError, match="do not fit the graph 'dlgm'"):
        create_image_run(config("experiment=digits", "+images.options.covariance=round"))


def evaluation(*overrides):
    from aif_dcpc.schema import evaluate_config

    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        values = OmegaConf.to_container(compose("evaluate", overrides=list(overrides)), resolve=True)
    return evaluate_config(values)


def log_marginal_by_quadrature(model, images, points=801, reach=30.0):
    """log p(image) of a graph z1 -> z2 -> image with one latent each, `(B,)` nats: Riemann sums over a square grid."""
    grid = torch.linspace(-reach, reach, points)[:, None]
    step = 2 * reach / (points - 1)
    kernels = {name: site.kernel for name, site in model.sites.items()}
    with torch.no_grad():
        prior = kernels["z1"]().log_prob(grid)[:, None]
        layer = kernels["z2"](grid[:, None].expand(points, points, 1)).log_prob(grid.expand(points, points, 1))
        probabilities = torch.sigmoid(kernels["image"].linear(torch.relu(grid)))
        pixels = (
            torch.distributions.Bernoulli(probabilities[:, None], validate_args=False)
            .log_prob(images.flatten(1))
            .sum(-1)
        )
    inner = torch.logsumexp(prior + layer, 0)[:, None] + pixels
    return torch.logsumexp(inner, 0) + 2 * np.log(step)


def test_the_marginal_of_two_latents_is_that_of_quadrature(tmp_path):
    from aif_dcpc.image_evaluation import Evaluation

    options = ("images.options.likelihood=bernoulli", "images.options.sizes=[1, 1]", "epochs=1")
    outcome = run(*SMALL, *options, f"run_dir={tmp_path / 'run'}")
    asked = ["held_out=12", "sweeps=2", "annealed_images=12", "temperatures=40", "chains=50", "samples=0"]
    measured = Evaluation(evaluation(f"run={outcome.folder}", *asked))
    generator = torch.Generator().manual_seed(0)
    for value in measured.model.parameters():  # far from a model whose posterior is its prior
        value.copy_(torch.randn(value.shape, generator=generator))
    result = measured.run()
    torch.manual_seed(measured.config.seed)
    exact = -log_marginal_by_quadrature(measured.model, torch.bernoulli(measured.held_out)).mean().item()
    grey = -log_marginal_by_quadrature(measured.model, measured.held_out).mean().item()
    # standard error of a mean of 12 log mean weights (delta method), five of them: fails once in a million
    tolerance = 5 * ((1 / result["ess_fraction"] - 1) / 50 / 12) ** 0.5 + 0.005
    assert result["neg_log_marginal"] == pytest.approx(exact, abs=tolerance)
    assert tolerance < 0.2 < abs(grey - exact)  # images that were not binarised would be told apart
    assert abs(result["neg_log_marginal_simulated_gap"]) < 1


def test_evaluation_ends_with_one_json_object_and_leaves_figures(tmp_path):
    from aif_dcpc.image_evaluation import evaluate

    outcome = run(*SMALL, "images.options.likelihood=bernoulli", f"run_dir={tmp_path / 'run'}")
    asked = ["held_out=20", "sweeps=3", "annealed_images=10", "temperatures=20", "chains=3", "samples=100"]
    result = json.loads(json.dumps(evaluate(evaluation(f"run={outcome.folder}", "seeds=2", *asked))))
    wanted = {"reconstruction_bce", "mse", "neg_log_marginal", "ess_fraction", "fid_prior", "fid_mixture", "mse_sd"}
    assert wanted <= result.keys()
    assert 0 < result["ess_fraction"] <= 1 and 0 < result["mse"] < 1
    # 64 fair coins, the law of an untrained model at most, against a model with the mean image
    assert 10 < result["neg_log_marginal"] < 64 * 0.6931 + 5
    drawn = {path.name for path in (outcome.folder.path / "figures").iterdir()}
    assert {"evaluation-reconstructions.png", "evaluation-recall-from-half.png"} <= drawn


def test_faces_run_from_files_to_pictures(tmp_path):
    pictures(tmp_path / "celeba" / "img_align_celeba")
    options = ["images.options.likelihood=normal", "+images.options.width=16", "+images.options.latents=4"]
    budget = ["epochs=1", "images.batch_size=9", "inference.num_particles=2", "inference.num_sweeps=1"]
    small = ["images.validation_sweeps=1", "images.validation_images=2", f"data_dir={tmp_path}"]
    for experiment in ("celeba_32", "celeba_64"):
        place = tmp_path / experiment
        outcome = run(f"experiment={experiment}", f"run_dir={place}", *options, *budget, *small)
        assert outcome.steps == 2 and outcome.reason == "finished"
        assert (place / "figures" / "samples.png").is_file()


def write_idx(path, array):
    """The format of the MNIST family: magic number, big-endian sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


RAW_FILES = {
    "emnist": ("EMNIST/raw", "emnist-balanced-{}-images-idx3-ubyte", "emnist-balanced-{}-labels-idx1-ubyte", "test"),
    "fashion_mnist": ("FashionMNIST/raw", "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte", "t10k"),
}


@pytest.mark.parametrize("name", sorted(RAW_FILES))
def test_letters_and_clothes_run_from_files_to_pictures(name, tmp_path):
    where, images_name, labels_name, test_name = RAW_FILES[name]
    upright = np.zeros((24, 28, 28), np.uint8)
    upright[:, 4:24, 6:9] = 255  # a vertical bar, so that a transposed image shows
    stored = upright.transpose(0, 2, 1) if name == "emnist" else upright  # EMNIST's letters lie on their side
    for part, number in (("train", 24), (test_name, 6)):
        write_idx(tmp_path / where / images_name.format(part), stored[:number])
        write_idx(tmp_path / where / labels_name.format(part), np.arange(number) % 10)
    data = load_images(name, str(tmp_path))
    assert np.array_equal(data.train[:, 0].numpy(), upright) and data.test.shape == (6, 1, 28, 28)
    assert data.train_labels.tolist() == [i % 10 for i in range(24)]
    budget = ["epochs=1", "images.batch_size=12", "inference.num_particles=2", "images.options.sizes=[3,6]"]
    small = ["images.validation_sweeps=1", "images.validation_images=2", f"data_dir={tmp_path}"]
    outcome = run(f"experiment={name}", f"run_dir={tmp_path / 'run'}", *budget, *small)
    assert outcome.steps == 2 and outcome.reason == "finished"
    assert (tmp_path / "run" / "figures" / "reconstructions.png").is_file()


def test_baselines_learn_from_the_same_command(tmp_path):
    for method in ("pgd", "lpc"):
        outcome = run(*SMALL, f"images.method={method}", f"run_dir={tmp_path / method}", "images.langevin_steps=2")
        assert outcome.reason == "finished" and 0 < outcome.numbers["mse"] < 1
