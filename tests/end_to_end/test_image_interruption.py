"""Runs of image models that are stopped, killed, or find the disk full or the pictures damaged.

Oracle: the same run, left alone.
"""

import json
import os
import signal
import time

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aif_dcpc.runs import RunFolder

SMALL = (
    "experiment=digits",
    "epochs=3",
    "log_every=1",
    "checkpoint_every=2",
    "picture_every=3",
    "images.options.sizes=[3,6]",
    "images.validation_sweeps=20",
    "images.validation_images=40",
)


def metrics(run):
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith("speed/")}
        for line in lines
    ]


def same_end(left, right):
    """Weights, optimiser, particles, adaptation, schedule and random states of the last checkpoints, all alike."""
    left, right = (run.load_checkpoint() for run in (left, right))
    assert left["learner"].keys() >= {"optimizer", "particles", "adaptation", "generator", "steps"}
    return all(alike(left[key], right[key]) for key in ("model", "learner", "progress", "random"))


def alike(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(alike(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(alike, left, right))
    return left == right


def wait_for_step(run, step, process):
    end = time.monotonic() + 200
    while not run.checkpoints() or run.checkpoints()[0].name < f"step-{step:010d}.pt":
        assert time.monotonic() < end and process.is_alive()
        time.sleep(0.002)


def test_an_image_run_that_is_signalled_and_killed_loses_nothing(spawn_quickly, tmp_path):
    run = RunFolder(tmp_path / "parts")
    whole = RunFolder(tmp_path / "whole")
    asked = (*SMALL, "run_dir=parts")
    for number, step in ((signal.SIGINT, 2), (signal.SIGKILL, 6), (signal.SIGTERM, 10)):
        process = spawn_quickly("train", *asked)
        wait_for_step(run, step, process)
        os.kill(process.pid, number)
        process.join(60)
        reached = run.load_checkpoint()["progress"]["step"]
        assert step <= reached < 18, "it ended before it was interrupted"
        if number != signal.SIGKILL:
            assert process.exitcode == 128 + number, (tmp_path / "output.txt").read_text()
            assert "next:    aif-train resume=parts" in (tmp_path / "output.txt").read_text()
        asked = ("resume=parts",)
    for arguments in (asked, (*SMALL, "run_dir=whole")):
        process = spawn_quickly("train", *arguments)
        process.join(200)
        assert process.exitcode == 0, (tmp_path / "output.txt").read_text()
    assert metrics(run) == metrics(whole) and same_end(run, whole)
    assert not run.particles.exists()  # the checkpoint holds them


def test_a_full_disk_is_told_in_one_sentence_and_keeps_the_last_checkpoint(spawn_quickly, tmp_path):
    def trained(*arguments, limit=None):
        process = spawn_quickly("train", *arguments, limit=limit)
        process.join(200)
        said = (tmp_path / "output.txt").read_text().splitlines()
        return process.exitcode, [
            line for line in said if not line.startswith(("site ", "z", "image ", "total "))
        ]

    assert trained(*SMALL, "run_dir=whole")[0] == 0
    whole = RunFolder(tmp_path / "whole")
    run = RunFolder(tmp_path / "run")
    later = (whole.path / "checkpoints" / "step-0000000018.pt").stat().st_size
    particles = 1500 * 4 * 6 * 4  # of z2, the largest
    refused = "error: cannot write to run_dir run: File too large."
    sentence = "error: cannot write to run (File too large): make room and go on with resume=run; what was learned up to "
    # no checkpoint fits
    assert trained(*SMALL, "run_dir=run", limit=particles // 2) == (2, [refused])
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "output.txt"}
    # the first checkpoint fits, those with an optimiser's state do not; then the particles do not
    assert trained(*SMALL, "run_dir=run", limit=later - 1000) == (2, [f"{sentence}step 0 is kept."])
    assert trained("resume=run", limit=particles - 1) == (2, [f"{sentence}step 0 is kept."])
    assert trained("resume=run")[0] == 0
    assert metrics(run) == metrics(whole) and same_end(run, whole)


def test_pictures_that_are_damaged_or_missing_are_told_before_there_is_a_run(
    finish, image_files, tmp_path
):
    faces = image_files("celeba") / "celeba" / "img_align_celeba"
    asked = ("experiment=celeba_32", "images.data=folder", f"images.folder={faces}", "run_dir=run")
    whole = (faces / "000003.jpg").read_bytes()
    (faces / "000003.jpg").write_bytes(whole[:500])
    refused = finish("train", *asked, rc=2)
    assert "000003.jpg is not a whole picture" in refused and len(refused.splitlines()) == 1
    Image.new("RGB", (20, 30)).save(faces / "000003.jpg")
    refused = finish("train", *asked, rc=2)
    assert "000003.jpg is 20 x 30 pixels: expected at least 32 a side." in refused
    assert len(refused.splitlines()) == 1
    for path in faces.iterdir():
        path.unlink()
    refused = finish("train", *asked, rc=2)
    assert "holds 0 pictures" in refused and len(refused.splitlines()) == 1
    assert not (tmp_path / "run").exists()


BOARD = {
    "train/free_energy": (-1e3, 1e4),
    "learning/log_joint": (-1e4, 1e3),
    "learning/rate": (0, 1),
    "inference/ess": (0, 4),  # of four particles
    "inference/acceptance/z1": (0, 1),
    "inference/acceptance/z2": (0, 1),
    "valid/reconstruction_bce": (0, 100),
    "valid/mse": (0, 1),
    "valid/free_energy": (-1e3, 1e4),
    "speed/ms_per_step": (0.01, 1e5),
}


@pytest.mark.parametrize("update", ["exact", "paper"])
def test_every_tag_of_the_board_has_sensible_values(update, finish, tmp_path):
    finish("train", *SMALL, f"inference.update={update}", "run_dir=run")
    board = EventAccumulator(str(tmp_path / "run"))
    board.Reload()
    for tag, (low, high) in BOARD.items():
        values = [event.value for event in board.Scalars(tag)]  # an unknown tag raises
        assert values and all(low <= value <= high for value in values), (tag, values)
    assert {"valid/reconstructions", "valid/samples"} <= set(board.Tags()["images"])
    assert {"config/text_summary", "model/text_summary"} <= set(board.Tags()["tensors"])
    steps = [event.step for event in board.Scalars("train/free_energy")]
    assert steps == list(range(1, 19))
    assert b"PNG" in board.Images("valid/samples")[-1].encoded_image_string[:8]
