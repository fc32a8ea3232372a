"""The comparison of methods on CIFAR-10, from files to table and figure, on tiny generated data."""

import json

import numpy as np
import pytest
from PIL import Image

from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.cifar10 import compare
from aif_dcpc.experiments.cifar10.methods import METHODS, SETTINGS
from aif_dcpc.experiments.cifar10.report import Budget, NoRowsError, differences, table
from aif_dcpc.results import Results

TINY = "--train-images 12 --batch-size 6 --samples 20 --held-out 2 --sweeps 1".split()
BRIEF = "--classifier-steps 2 --cpu-minutes 0.001 --tune-minutes 0.0001 --seeds 0".split()


@pytest.fixture(autouse=True)
def two_of_each(monkeypatch):
    """Two of the settings that each method is tuned over."""
    for method in METHODS:
        monkeypatch.setitem(SETTINGS, method, SETTINGS[method][:2])


@pytest.fixture
def asked(tmp_path):
    generator = np.random.default_rng(0)
    images = {
        f"{part}_images": generator.integers(0, 256, (n, 32, 32, 3), np.uint8)
        for part, n in PARTS.items()
    }
    labels = {f"{part}_labels": np.arange(n, dtype=np.uint8) % 3 for part, n in PARTS.items()}
    np.savez(tmp_path / "cifar10_subset.npz", **images, **labels)
    places = [
        "--results",
        tmp_path / "results.jsonl",
        "--out",
        tmp_path / "out",
        "--figure",
        tmp_path / "samples.png",
    ]
    return [*map(str, ["--data-dir", tmp_path, *places]), *TINY, *BRIEF]


PARTS = {"train": 60, "test": 30}


def rows(tmp_path):
    return [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]


def test_every_method_is_tuned_run_and_shown_and_finished_rows_are_not_run_again(
    asked, tmp_path, capsys
):
    with pytest.raises(NoRowsError, match="call the step `run` first"):
        compare.main(["figure", *asked])
    compare.main(["tune", *asked])
    compare.main(["run", *asked])
    assert (tmp_path / "out" / "classifier-2.pt").exists()
    found = rows(tmp_path)
    assert [row["stage"] for row in found].count("tuning") == sum(map(len, SETTINGS.values()))
    runs = [row for row in found if row["stage"] == "final"]
    assert [row["method"] for row in runs] == list(METHODS)
    assert not any("failed" in row for row in runs)
    assert all(row["steps"] >= 1 for row in runs)
    numbers = {
        "kid_prior",
        "kid_prior_se",
        "kid_mixture",
        "fid_prior",
        "fid_mixture",
        "fid_mixture_se",
        "mse",
    }
    assert all(np.isfinite(row[name]) for row in runs for name in numbers)
    compare.main(["tune", "run", *asked])
    assert rows(tmp_path) == found
    capsys.readouterr()
    compare.main(["table", "figure", *asked])
    shown = capsys.readouterr().out
    assert all(f"| {method} | 1 |" in shown for method in METHODS) and "training images" in shown
    with Image.open(tmp_path / "samples.png") as figure:  # six panels of five images, two rows
        assert figure.width > 6 * 5 * 64 and figure.height > 2 * 4 * 64


def test_lines_of_other_sizes_are_told_apart():
    """Those in the repository are of the defaults, written before lines said so."""
    usual = compare.changes(compare.arguments(["table"]))
    other = compare.changes(compare.arguments(["table", "--sweeps", "3", "--batch-size", "8"]))
    assert usual is None
    assert other == "batch_size=8 sweeps=3"
    results = Results(compare.HERE / "results.jsonl")
    budget = Budget(tuning=180.0, final=900.0)
    assert all(f"| {method} | 3 |" in table(results, budget, usual) for method in METHODS)
    assert not any(f"| {method} |" in table(results, budget, other) for method in METHODS)


def test_a_row_cut_short_is_run_again(asked, tmp_path):
    one = [*asked, "--methods", "vae"]
    compare.main(["tune", *one])
    results = Results(tmp_path / "results.jsonl")
    whole = results.path.read_text()
    results.path.write_text(whole[:-30])
    assert len(results.rows(stage="tuning")) == 1
    compare.main(["tune", *one])
    assert [row["setting"] for row in results.rows(stage="tuning")] == [
        " ".join(words) for words in SETTINGS["vae"]
    ]


def test_there_must_be_enough_images(asked):
    with pytest.raises(ConfigError, match="at most 48"):
        compare.main(["tune", *asked, "--train-images", "49"])


def test_methods_are_compared_seed_by_seed():
    """Differences -1, -2, 0: mean -1, standard deviation 1; the t quantile of .975 with 2 degrees of freedom is 4.303."""
    found = {"a": (2.0, 4.0, 3.0), "b": (1.0, 2.0, 3.0), "c": (9.0,)}
    rows = {
        m: [{"seed": i, "kid_prior": x, "kid_mixture": -x} for i, x in enumerate(v)]
        for m, v in found.items()
    }
    lines = differences(rows).splitlines()[2:]
    assert lines == [
        "| prior | b | a | -1.000 ± 2.484 | 2 of 3 |",
        "| mixture | a | b | -1.000 ± 2.484 | 2 of 3 |",
    ]
