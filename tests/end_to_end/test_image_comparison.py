"""The comparison of methods on CIFAR-10, from files to table and figure, on tiny generated data."""

import json

import numpy as np
import pytest
from PIL import Image

from aif_dcpc.comparison import Results
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.cifar10 import compare
from aif_dcpc.experiments.cifar10.methods import METHODS
from aif_dcpc.experiments.cifar10.report import NoRowsError
from aif_dcpc.experiments.image_budget import learn_for, training

TINY = ["--train-images", "12", "--batch-size", "6", "--samples", "20", "--held-out", "2", "--sweeps", "1"]
BRIEF = ["--classifier-steps", "2", "--cpu-minutes", "0.001", "--tune-minutes", "0.0001", "--seeds", "0"]


@pytest.fixture
def asked(tmp_path):
    generator = np.random.default_rng(0)
    images = {f"{part}_images": generator.integers(0, 256, (n, 32, 32, 3), np.uint8) for part, n in PARTS.items()}
    labels = {f"{part}_labels": np.arange(n, dtype=np.uint8) % 3 for part, n in PARTS.items()}
    np.savez(tmp_path / "cifar10_subset.npz", **images, **labels)
    places = ["--rows", tmp_path / "results.jsonl", "--out", tmp_path / "out", "--figure", tmp_path / "samples.png"]
    return [*map(str, ["--data-dir", tmp_path, *places]), *TINY, *BRIEF]


PARTS = {"train": 60, "test": 30}


def rows(tmp_path):
    return [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]


def test_every_method_is_tuned_run_and_shown_and_finished_rows_are_not_run_again(asked, tmp_path, capsys):
    compare.main(["tune", *asked])
    with pytest.raises(NoRowsError, match="call the step `run` first"):
        compare.main(["figure", *asked])
    compare.main(["run", *asked])
    found = rows(tmp_path)
    assert [row["kind"] for row in found].count("tune") == sum(len(m.settings) for m in METHODS.values()) == 15
    runs = [row for row in found if row["kind"] == "run"]
    assert [row["method"] for row in runs] == list(METHODS) and not any("failed" in row for row in runs)
    assert all(row["steps"] >= 1 and row["cpu_seconds"] >= 0.06 for row in runs)
    numbers = {"kid_prior", "kid_prior_se", "kid_mixture", "fid_prior", "fid_mixture", "fid_mixture_se", "mse"}
    assert all(np.isfinite(row[name]) for row in runs for name in numbers)
    compare.main(["tune", "run", *asked])
    assert rows(tmp_path) == found
    capsys.readouterr()
    compare.main(["table", "figure", *asked])
    shown = capsys.readouterr().out
    assert all(f"| {method} | 1 |" in shown for method in METHODS) and "training images" in shown
    with Image.open(tmp_path / "samples.png") as figure:  # six panels of five images, two rows
        assert figure.width > 6 * 5 * 64 and figure.height > 2 * 4 * 64


def test_a_row_cut_short_is_run_again(asked, tmp_path):
    one = [*asked, "--methods", "vae"]
    compare.main(["tune", *one])
    whole = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(whole[:-30])
    assert len(Results(tmp_path / "results.jsonl").rows()) == 2
    compare.main(["tune", *one])
    settings = [row["setting"] for row in Results(tmp_path / "results.jsonl").rows()]
    assert settings == [list(setting) for setting in METHODS["vae"].settings]


def test_running_needs_tuning_and_enough_images(asked):
    with pytest.raises(NoRowsError, match="call the step `tune` first"):
        compare.main(["run", *asked])
    with pytest.raises(ConfigError, match="at most 48"):
        compare.main(["tune", *asked, "--train-images", "49"])


def test_a_budget_goes_on_where_it_ended(tmp_path):
    small = ["experiment=digits", "images.options.sizes=[3,6]", "device=cpu", f"run_dir={tmp_path / 'run'}"]
    first = learn_for(training(small), 0.05)
    again = learn_for(training(small), 0.05)
    assert again == first
    longer = learn_for(training(small), 0.2)
    assert longer.steps > first.steps and longer.cpu_seconds >= 0.2 > first.cpu_seconds
