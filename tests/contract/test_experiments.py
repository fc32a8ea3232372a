"""Every image experiment under `configs/`, and every graph of the project, learns by both updates."""

import json
from pathlib import Path

import pytest
import torch
from image_graphs import GRAPHS, drawn_data, small_overrides, smallest

from aif_dcpc.configuration import load_config
from aif_dcpc.image_runs import assembly
from aif_dcpc.image_runs.run import continue_image_run, create_image_run
from aif_dcpc.inference import DCPC
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


def configured(*overrides):
    return train_config(load_config("train", *overrides))


def is_of_images(experiment):
    return configured(f"experiment={experiment}").images is not None


NAMED = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
EXPERIMENTS = [name for name in NAMED if is_of_images(name)]


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_learns_by_both_updates(experiment, update, image_files, tmp_path):
    images = configured(f"experiment={experiment}").images
    asked = (
        *small_overrides(images.model),
        f"inference.update={update}",
        f"data_dir={image_files(images.data)}",
    )
    config = configured(f"experiment={experiment}", *SMALL, *asked, f"run_dir={tmp_path / 'run'}")
    folder = create_image_run(config)
    outcome = continue_image_run(folder, folder.config())
    assert outcome.reason == "finished" and outcome.steps == 2
    records = [json.loads(line) for line in outcome.folder.metrics.read_text().splitlines()]
    assert all(record["train/free_energy"] is not None for record in records[:2])
    assert 0 < outcome.numbers["mse"] < 1


def test_every_graph_that_a_command_knows_is_tried():
    assert {assembly.find_graph(name).__name__ for name in assembly.GRAPHS} <= set(GRAPHS)


# options that put another kernel or draw into a graph
VARIANTS = [(name, {}) for name in GRAPHS] + [
    ("generator", {"prior": "learned"}),
    ("bouncing_digits", {"candidates": 3}),
    ("bouncing_digits", {"candidates": 3, "num_digits": 2}),
]


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize(("graph", "options"), VARIANTS, ids=str)
def test_every_parameter_of_every_graph_learns_by_both_updates(graph, options, update):
    model = smallest(GRAPHS[graph], **options)
    engine = DCPC(model, num_particles=3, update=update)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    state = engine.init(drawn_data(model), seed=0)
    for _ in range(2):
        state, info = learn_step(engine, state, optimizer)
    assert torch.isfinite(info.log_joint).all()
    learned = dict(model.named_parameters())
    assert [name for name in before if torch.equal(before[name], learned[name])] == []
