"""Every image experiment under `configs/` learns by both updates."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from aif_dcpc.inference.schedule import UPDATES
from aif_dcpc.schema import train_config
from aif_dcpc.training.image_run import continue_image_run, create_image_run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = (
    "epochs=1",
    "log_every=1",
    "images.train_images=20",
    "images.batch_size=9",
    "images.validation_images=2",
    "images.validation_sweeps=8",
    "inference.num_particles=2",
    "inference.num_sweeps=1",
)
GRAPHS = {
    "dlgm": ("images.options.sizes=[3, 6]",),
    "generator": ("++images.options.width=16", "++images.options.latents=4"),
}


def composed(*overrides):
    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        return train_config(OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True))


def named():
    return sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


EXPERIMENTS = [name for name in named() if composed(f"experiment={name}").images is not None]


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_learns_by_both_updates(experiment, update, image_files, tmp_path):
    images = composed(f"experiment={experiment}").images
    asked = (*GRAPHS[images.model], f"inference.update={update}", f"data_dir={image_files(images.data)}")
    config = composed(f"experiment={experiment}", *SMALL, *asked, f"run_dir={tmp_path / 'run'}")
    folder = create_image_run(config)
    outcome = continue_image_run(folder, folder.config())
    assert outcome.reason == "finished" and outcome.steps == 2
    records = [json.loads(line) for line in outcome.folder.metrics.read_text().splitlines()]
    assert all(record["train/free_energy"] is not None for record in records[:2])
    assert 0 < outcome.numbers["mse"] < 1
