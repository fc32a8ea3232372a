"""Comparing methods. Oracles: a second invocation measures nothing; means and deviations by hand; the data held out."""

import json
from dataclasses import replace

import pytest
import torch

from aif_dcpc.image_runs import comparison as comparing
from aif_dcpc.image_runs.comparison import Comparison, Protocol, evaluations, rates, table
from aif_dcpc.image_runs.data import ImageData
from aif_dcpc.image_runs.run import ImageRun
from aif_dcpc.results import Results

PROTOCOL = Protocol(
    experiment="digits",
    methods={"exact": [], "vae": ["images.method=vae"]},
    settings=dict.fromkeys(("exact", "vae"), rates(0.01, 0.02)),
    common=["images.options.sizes=[3, 6]"],
    seeds=(0, 1),
    tuning_seconds=0.02,
    final_seconds=0.02,
    hold_out=100,
    measure=evaluations(
        tuning=[
            "held_out=4",
            "sweeps=2",
            "annealed_images=3",
            "temperatures=2",
            "simulated_images=0",
            "samples=0",
        ],
        final=["held_out=4", "sweeps=2", "annealed_images=0", "samples=0"],
    ),
)


def test_every_setting_and_seed_is_measured_once(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    Comparison(PROTOCOL, results, tmp_path / "runs").run(["vae"])
    Comparison(PROTOCOL, results, tmp_path / "runs").run(["exact", "vae"])
    for method in PROTOCOL.methods:
        tried = results.rows(stage="tuning", method=method)
        assert [row["setting"] for row in tried] == [
            " ".join(setting) for setting in rates(0.01, 0.02)
        ]
        best = min(tried, key=lambda row: row["neg_log_marginal"])
        final = results.rows(stage="final", method=method)
        assert [(row["seed"], row["setting"]) for row in final] == [
            (0, best["setting"]),
            (1, best["setting"]),
        ]
        assert all(row["reconstruction_bce"] > 0 and row["steps"] >= 1 for row in final)
    assert len(results.rows(stage="timing")) == 2
    before = results.path.read_bytes()
    Comparison(PROTOCOL, results, tmp_path / "runs").run(["exact", "vae"])
    assert results.path.read_bytes() == before
    kept = [path for path in (tmp_path / "runs").iterdir()]
    assert len(kept) == 4 and all(path.name.startswith("final-") for path in kept)
    assert all((path / "figures" / "evaluation-reconstructions.png").exists() for path in kept)


def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    """Bit for bit: as one that was never interrupted."""
    found = []
    for broken in (False, True):
        results = Results(tmp_path / f"{broken}.jsonl")
        results.once({"stage": "timing", "method": "exact"}, lambda: {"step_seconds": 0.001})
        comparison = Comparison(PROTOCOL, results, tmp_path / f"runs-{broken}")
        if broken:
            with monkeypatch.context() as patch:
                patch.setattr(ImageRun, "_reason_to_stop", interrupted_after(7))
                with pytest.raises(KeyboardInterrupt):
                    comparison.measure("exact", rates(0.01)[0], 0)
            assert results.rows(stage="final") == []
        row = comparison.measure("exact", rates(0.01)[0], 0)
        assert ("cpu_seconds" in row) is not broken and row["steps"] == 20
        found.append({name: value for name, value in row.items() if name != "cpu_seconds"})
    assert found[0] == found[1]


def timing(method, seconds):
    return {"stage": "timing", "method": method, "step_seconds": seconds}


def test_methods_that_two_processes_have_timed_at_once_are_not_timed_again(tmp_path, monkeypatch):
    """The first seconds count, for those that a process has gone on with."""
    results = Results(tmp_path / "results.jsonl")
    for method, seconds in (("exact", 1.0), ("exact", 2.0), ("vae", 3.0)):
        results.append(timing(method, seconds))
    monkeypatch.setattr(comparing, "_loop", None)  # nothing is timed
    comparison = Comparison(PROTOCOL, results, tmp_path / "runs")
    comparison.time()
    assert comparison._step_seconds() == {"exact": 1.0, "vae": 3.0}
    assert len(results.rows()) == 3


def test_lines_of_other_changes_are_not_taken(tmp_path, monkeypatch):
    """Lines without an entry are those of none; a run of other changes has a folder of its own."""
    monkeypatch.setattr(Comparison, "_learn", lambda self, key, place, *_: {"place": place.name})
    results = Results(tmp_path / "results.jsonl")
    setting = rates(0.01)[0]
    usual = Comparison(PROTOCOL, results, tmp_path)
    key = usual._key("final", "vae", setting, 0, PROTOCOL.final_seconds)
    results.append({**{k: v for k, v in key.items() if k != "changes"}, "place": "old"})
    assert usual.measure("vae", setting, 0)["place"] == "old"
    results.append(timing("vae", 1.0))
    places = []
    for changes in ("sweeps=1", "sweeps=2", None):
        other = Comparison(replace(PROTOCOL, changes=changes), results, tmp_path)
        assert other._step_seconds() == ({} if changes else {"vae": 1.0})
        places.append(other.measure("vae", setting, 0)["place"])
    assert places == ["final-vae-0-0-0.02-sweeps-1", "final-vae-0-0-0.02-sweeps-2", "old"]


def interrupted_after(steps):
    return lambda run, interruption: "interrupted" if run.loop.progress.step >= steps else None


def test_a_run_that_breaks_down_is_a_line_that_is_not_chosen(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.once({"stage": "timing", "method": "exact"}, lambda: {"step_seconds": 1.0})
    results.once({"stage": "timing", "method": "vae"}, lambda: {"step_seconds": 1.0})
    comparison = Comparison(PROTOCOL, results, tmp_path / "runs")
    comparison.run(["vae"], number=1)
    assert [row["setting"] for row in results.rows(stage="final")] == 2 * [" ".join(rates(0.02)[0])]
    for setting, numbers in zip(
        rates(0.01, 0.02), ({"failed": "not finite"}, {"neg_log_marginal": 3.0}), strict=True
    ):
        key = {
            "stage": "tuning",
            "method": "vae",
            "setting": " ".join(setting),
            "seed": 0,
            "seconds": 0.02,
        }
        results.once(key, lambda numbers=numbers: numbers)
    assert comparison.tune("vae") == tuple(rates(0.02)[0])


def test_the_table_gives_mean_and_deviation_and_the_lowest_first():
    rows = [
        {"method": "b", "setting": "s", "bce": 1.0},
        {"method": "b", "setting": "s", "bce": 3.0},
    ]
    rows += [
        {"method": "a", "setting": "t", "bce": 1.5},
        {"method": "c", "setting": "t", "failed": "why"},
    ]
    lines = table(rows, {"bce": 2}, order="bce").splitlines()
    assert lines[2:] == [
        "| a | t | 1 | 1.50 |",
        "| b | s | 2 | 2.00 ± 1.41 |",
        "| c | t | 1 | failed |",
    ]


def test_results_are_plain_lines(tmp_path):
    results = Results(tmp_path / "deep" / "results.jsonl")
    results.once({"seed": 0}, lambda: {"mse": 0.5})
    results.once({"seed": 0}, lambda: {"mse": 0.7})
    assert [json.loads(line) for line in results.path.read_text().splitlines()] == [
        {"seed": 0, "mse": 0.5}
    ]


def test_held_out_images_are_the_last_ones_of_training_and_are_not_learned_from():
    images = torch.arange(5).reshape(5, 1, 1, 1)
    labels = torch.arange(5)
    held = ImageData(images, images[:1] + 9, labels, labels[:1] + 9).hold_out(2)
    assert held.train_labels.tolist() == [0, 1, 2] and held.train.flatten().tolist() == [0, 1, 2]
    assert held.test_labels.tolist() == [3, 4] and held.test.flatten().tolist() == [3, 4]
    assert held.hold_out(0) is held
