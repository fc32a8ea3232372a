"""Image models from the command to the run folder. Oracles: the same run left alone; the mean image; quadrature."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from aif_dcpc.configuration import load_config
from aif_dcpc.errors import ConfigError, DataWarning
from aif_dcpc.image_runs.data import load_images, unit
from aif_dcpc.image_runs.run import continue_image_run, create_image_run
from aif_dcpc.schema import train_config

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
    return train_config(load_config("train", *overrides))


def metrics(run):
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith("speed/")}
        for line in lines
    ]


def run(*overrides):
    folder = create_image_run(config(*overrides))
    return continue_image_run(folder, folder.config())


LEARNING = {
    "exact": ["inference.update=exact"],
    "paper": ["inference.update=paper"],
    "paper first": [
        "images.paper_share=0.5",
        "images.visits=2",
        "images.recycle=true",
        "images.binarize=true",
    ],
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


def test_a_run_goes_on_though_its_device_was_given_anew(tmp_path):
    """Its folder says `auto` then, as those do that were left unusable by it."""
    folder = create_image_run(config(*SMALL, "epochs=1", f"run_dir={tmp_path / 'run'}"))
    folder.save_config(replace(folder.config(), device="auto"))
    assert continue_image_run(folder, folder.config()).reason == "finished"
    assert folder.config().device == "cpu"


def test_baselines_never_use_the_published_update(tmp_path):
    asked = (*SMALL, "images.method=pgd")
    plain = run(*asked, f"run_dir={tmp_path / 'plain'}")
    early = run(*asked, "images.paper_share=0.5", f"run_dir={tmp_path / 'early'}")
    assert metrics(plain.folder) == metrics(early.folder)


def test_a_short_run_explains_held_out_digits_better_than_the_mean_image(tmp_path):
    outcome = run(
        "experiment=digits",
        "epochs=8",
        f"run_dir={tmp_path / 'run'}",
        "images.validation_images=50",
    )
    data = load_images("digits", "data")
    mean_image_mse = (unit(data.test[:50]) - unit(data.train).mean(0)).square().mean().item()
    assert outcome.reason == "finished"
    assert outcome.numbers["mse"] < 0.6 * mean_image_mse
    assert {"reconstructions.png", "samples.png"} <= {
        p.name for p in (outcome.folder.path / "figures").iterdir()
    }
    assert list(outcome.folder.path.glob("events.*"))


def test_celeba_and_folders_are_centre_cropped_and_scaled(image_files):
    place = image_files("celeba")
    data = load_images("celeba", str(place), image_size=32)
    assert data.train.shape == (18, 3, 32, 32) and data.test.shape == (3, 3, 32, 32)
    folder = load_images("folder", "data", image_size=64, folder=str(place / "celeba"))
    assert folder.train.shape == (20, 3, 64, 64) and folder.test.shape == (2, 3, 64, 64)
    assert folder.train.dtype == torch.uint8


def test_subfolders_are_classes_and_both_parts_have_some_of_each(tmp_path):
    for number, name in enumerate(("cats", "dogs")):
        (tmp_path / name).mkdir()
        for i in range(50):
            Image.new("L", (12, 12), 100 * number + i).save(tmp_path / name / f"{i}.png")
    data = load_images("folder", "data", image_size=8, folder=str(tmp_path))
    for images, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        assert (labels == (images[:, 0, 0, 0] >= 100)).all() and 0 < labels.sum() < len(labels)
    assert sorted(torch.cat([data.train, data.test])[:, 0, 0, 0].tolist()) == [
        *range(50),
        *range(100, 150),
    ]
    Image.new("L", (12, 12)).save(tmp_path / "neither.png")
    with pytest.warns(DataWarning, match="neither.png"):
        assert not len(
            load_images("folder", "data", image_size=8, folder=str(tmp_path)).train_labels
        )


def test_faces_are_parted_by_the_list_of_their_authors(image_files):
    place = image_files("celeba")
    by_list = load_images("celeba", str(place), image_size=32)
    everything = torch.cat([by_list.train, by_list.test])
    (place / "celeba" / "list_eval_partition.txt").unlink()
    last_tenth = load_images("celeba", str(place), image_size=32)
    assert torch.equal(last_tenth.train[:18], everything[:18])
    assert torch.equal(last_tenth.test[-2:], everything[-2:])
    assert last_tenth.train.shape[0] == 20
    (place / "celeba" / "list_eval_partition.txt").write_text("000001.jpg zero\n")
    with pytest.raises(ConfigError, match=r"list_eval_partition.txt is damaged"):
        load_images("celeba", str(place), image_size=32)


def test_letters_stand_upright_and_keep_their_labels(image_files):
    upright = torch.zeros(28, 28, dtype=torch.uint8)
    upright[4:24, 6:9] = 255  # a vertical bar, so that a transposed image shows
    for name in ("mnist", "emnist", "fashion_mnist"):
        data = load_images(name, str(image_files(name)))
        assert (data.train[:, 0] == upright).all() and data.test.shape == (6, 1, 28, 28)
        assert data.train_labels.tolist() == [i % 10 for i in range(24)]


@pytest.mark.parametrize(
    "name", ["mnist", "emnist", "fashion_mnist", "cifar10", "cifar10_subset", "celeba", "folder"]
)
def test_what_is_not_there_is_told_in_one_sentence(name, tmp_path, monkeypatch):
    from torchvision.datasets import utils

    def offline(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(utils, "_urlretrieve", offline)
    with pytest.raises(ConfigError, match=r"data_dir=|holds 0 pictures") as refused:
        load_images(name, str(tmp_path), folder=str(tmp_path / "nothing"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["mnist", "emnist", "fashion_mnist", "cifar10"])
def test_torn_files_are_told_in_one_sentence(name, image_files):
    place = image_files(name)
    torn = next(
        path
        for path in sorted(place.rglob("*"))
        if "images" in path.name or "data_batch" in path.name
    )
    torn.write_bytes(torn.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"is damaged: .* Remove it") as refused:
        load_images(name, str(place))
    assert "\n" not in str(refused.value)


@pytest.fixture
def faces(image_files):
    return image_files("celeba") / "celeba" / "img_align_celeba"


def test_damaged_and_small_pictures_are_named(faces):
    (faces / "000002.jpg").write_bytes(b"\xff\xd8 torn")
    with pytest.raises(ConfigError, match=r"000002.jpg is not a whole picture"):
        load_images("folder", "data", folder=str(faces))
    whole = (faces / "000001.jpg").read_bytes()
    (faces / "000002.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"000002.jpg is not a whole picture"):
        load_images("folder", "data", folder=str(faces))
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(faces / "000002.jpg")
    with pytest.raises(ConfigError, match=r"16 x 16 pixels: expected at least 64"):
        load_images("folder", "data", folder=str(faces))


def test_misspelt_names_get_the_closest_match():
    with pytest.raises(ConfigError, match="Did you mean 'mnist'"):
        load_images("mnits", "data")
    with pytest.raises(ConfigError, match="do not fit the graph 'dlgm'"):
        create_image_run(config("experiment=digits", "+images.options.covariance=round"))


def test_baselines_learn_from_the_same_command(tmp_path):
    for method in ("pgd", "mcpc", "lpc", "map", "vae"):
        outcome = run(
            *SMALL,
            f"images.method={method}",
            f"run_dir={tmp_path / method}",
            "images.langevin_steps=2",
        )
        assert outcome.reason == "finished" and 0 < outcome.numbers["mse"] < 1
