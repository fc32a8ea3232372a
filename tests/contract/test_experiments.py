"""Every image experiment under `configs/`, and the graph of every other one, learns by both updates."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from aif_dcpc.experiments.bouncing_digits.graph import bouncing_digits
from aif_dcpc.image_runs.run import continue_image_run, create_image_run
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.images import (
    class_embedding,
    labelled_dlgm,
    labelled_embedding,
    sequential_memory,
)
from aif_dcpc.inference.learning import learn_step
from aif_dcpc.inference.moves.schedule import UPDATES
from aif_dcpc.schema import train_config

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
        return train_config(
            OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)
        )


def named():
    return sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


EXPERIMENTS = [name for name in named() if composed(f"experiment={name}").images is not None]


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_learns_by_both_updates(experiment, update, image_files, tmp_path):
    images = composed(f"experiment={experiment}").images
    asked = (
        *GRAPHS[images.model],
        f"inference.update={update}",
        f"data_dir={image_files(images.data)}",
    )
    config = composed(f"experiment={experiment}", *SMALL, *asked, f"run_dir={tmp_path / 'run'}")
    folder = create_image_run(config)
    outcome = continue_image_run(folder, folder.config())
    assert outcome.reason == "finished" and outcome.steps == 2
    records = [json.loads(line) for line in outcome.folder.metrics.read_text().splitlines()]
    assert all(record["train/free_energy"] is not None for record in records[:2])
    assert 0 < outcome.numbers["mse"] < 1


FILMS = {"frame": torch.rand(3, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))}
LABELLED = {"image": torch.ones(3, 1, 2, 2), "label": torch.tensor([0, 1, 2])}
OTHERS = {
    "labelled_dlgm": (lambda: labelled_dlgm(3, (2, 4), (1, 2, 2)), LABELLED),
    "labelled_embedding": (
        lambda: labelled_embedding(3, (1, 2, 2), latents=2, hidden=4, label_hidden=4),
        LABELLED,
    ),
    "class_embedding": (lambda: class_embedding(3, (1, 2, 2), latents=2, hidden=4), LABELLED),
    "bouncing_digits": (lambda: bouncing_digits(latents=2, hidden=4, patch=4, canvas=8), FILMS),
    "bouncing_digits, paths": (
        lambda: bouncing_digits(latents=2, hidden=4, patch=4, canvas=8, candidates=3),
        FILMS,
    ),
    "sequential_memory": (
        lambda: sequential_memory((1, 2, 2), latents=2, hidden=4),
        {"image": torch.ones(3, 4, 1, 2, 2)},
    ),
}


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("graph", OTHERS)
def test_graphs_of_the_other_experiments_learn_by_both_updates(graph, update):
    make, data = OTHERS[graph]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
    engine = DCPC(model, num_particles=3, update=update)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    state = engine.init(data, seed=0)
    for _ in range(2):
        state, info = learn_step(engine, state, optimizer)
    assert torch.isfinite(info.log_joint).all()
    assert all(
        not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)
    )
