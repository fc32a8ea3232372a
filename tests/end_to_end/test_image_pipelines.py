"""From files in published formats to numbers: learning and measuring as a user types it."""

import json
import sys

import pytest
from image_graphs import FIGURES, small_overrides

from aif_dcpc.commands import evaluate as evaluate_command
from aif_dcpc.commands import train as train_command
from aif_dcpc.configuration import load_config
from aif_dcpc.schema import train_config

WHOLE = ("emnist", "fashion_mnist", "celeba_32", "celeba_64")


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Run a command as it is typed in `tmp_path`, in this process, and return what it prints."""

    def run(command, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["aif", *arguments])
        command.main()
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("experiment", WHOLE)
def test_the_pipeline_from_files_to_numbers(experiment, image_files, typed, tmp_path):
    images = train_config(load_config("train", f"experiment={experiment}")).images
    place = image_files(images.data)
    budget = (
        "epochs=1",
        "images.batch_size=9",
        "inference.num_particles=2",
        "inference.num_sweeps=1",
        "log_every=1",
    )
    small = (
        "images.validation_sweeps=8",
        "images.validation_images=2",
        *small_overrides(images.model),
    )
    learned = typed(
        train_command,
        f"experiment={experiment}",
        f"data_dir={place}",
        "run_dir=RUN",
        *budget,
        *small,
    )
    assert learned.startswith("site ") and "finished: RUN" in learned
    quick = (
        "held_out=3",
        "sweeps=2",
        "annealed_images=2",
        "temperatures=4",
        "chains=2",
        "samples=12",
        "seeds=2",
    )
    result = json.loads(typed(evaluate_command, "run=RUN", *quick).splitlines()[-1])
    assert {
        "reconstruction_bce",
        "mse",
        "neg_log_marginal",
        "ess_fraction",
        "mse_sd",
    } <= result.keys()
    if experiment.startswith("celeba"):
        assert result["features"].startswith("none: these data have no labels")
    else:
        assert result["features"] == "classifier" and result["fid_prior"] >= 0
    assert {path.name for path in (tmp_path / "RUN" / "figures").iterdir()} >= FIGURES
