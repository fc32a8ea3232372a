"""Recordings: the same after resuming, joined one frame at a time; results of rollouts though nothing can be written.

Oracles: the run that was left alone; the frames themselves.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aif_dcpc.agent_runs import recorder as recorder_module
from aif_dcpc.agent_runs.recorder import FRAMES_PER_SECOND, Recorder
from aif_dcpc.commands import rollout as rollout_command
from aif_dcpc.commands import train as train_command
from aif_dcpc.pictures import gif_bytes, gif_facts, read_gif
from aif_dcpc.runs import RunFolder, open_run

FILMED = ("agent=random", "env=TMaze", "seed=3", "picture_every=3", "video_every=1")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(run):
    found = (*Path(run).glob("videos/*"), *Path(run).glob("figures/*"))
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


@pytest.mark.parametrize("number", [1, 2])
def test_recordings_of_a_resumed_run_have_no_gap(number, run):
    """With two worlds steps go by twos, over every other step at which a picture falls due."""
    asked = (*FILMED, f"num_envs={number}")
    run(train_command.main, *asked, "total_env_steps=12", "run_dir=whole")
    run(train_command.main, *asked, "total_env_steps=1", "run_dir=parts")
    for steps in (2, 4, 7, 12):  # within episodes of two or three steps, and between them
        run(train_command.main, "resume=parts", f"total_env_steps={steps}")
    whole = files("whole")
    assert files("parts") == whole and "videos/learning.gif" in whole and len(whole) > 5


def test_a_checkpoint_of_before_goes_on_with_the_next_picture(run):
    """It does not tell which picture is due."""
    run(train_command.main, *FILMED, "total_env_steps=4", "run_dir=r")
    folder = open_run("r")
    content = folder.load_checkpoint()
    del content["next_picture"]
    folder.save_checkpoint(4, content)
    run(train_command.main, "resume=r", "total_env_steps=8")
    assert "figures/belief-0000000006.png" in files("r")


class OnlyFolder(Recorder):
    def __init__(self, folder):
        self.folder = folder


def frames(number, height, width, shade):
    return [np.full((height, width, 3), shade + 5 * i, np.uint8) for i in range(number)]


def test_recordings_are_joined_one_frame_at_a_time(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    films = [frames(4, 10, 12, 0), frames(3, 14, 8, 100), frames(5, 10, 12, 200)]
    for i, film in enumerate(films):
        path = tmp_path / "videos" / f"episode-{i:06d}.gif"
        path.write_bytes(gif_bytes(film, FRAMES_PER_SECOND))
    for i in range(3, 40):
        shutil.copy(path, tmp_path / "videos" / f"episode-{i:06d}.gif")
    read = []

    def counted(path):
        for frame in read_gif(path):
            read.append(path.name)
            yield frame

    monkeypatch.setattr(recorder_module, "read_gif", counted)
    monkeypatch.setattr(recorder_module, "MOST_FRAMES", 9)
    OnlyFolder(tmp_path).join("episode-*.gif", "learning")
    joined = list(read_gif(tmp_path / "videos" / "learning.gif"))
    assert gif_facts(tmp_path / "videos" / "learning.gif") == (9, 14, 12)
    assert len(read) <= 10 and set(read) == {f"episode-{i:06d}.gif" for i in range(3)}
    expected = [frame for film in films for frame in film][:9]
    for found, frame in zip(joined, expected, strict=True):
        height, width, _ = frame.shape
        assert (found[:height, :width] == frame).all()
        assert (found[height:] == 255).all() and (found[:, width:] == 255).all()


@pytest.mark.parametrize("video", ["false", "true"])
def test_a_rollout_gives_its_result_though_nothing_can_be_written(video, run, monkeypatch, capsys):
    run(train_command.main, *FILMED, "total_env_steps=3", "run_dir=r")
    before = files("r")

    def read_only(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("aif_dcpc.best_effort.MetricsLog", read_only)
    monkeypatch.setattr("sys.argv", ["aif-rollout", "run=r", "episodes=2", f"video={video}"])
    rollout_command.main()
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["episodes"] == 2
    assert printed.err.count("note: r keeps no trace of this (Read-only file system)") == 1
    assert files("r") == before


@pytest.mark.parametrize("agent", ["random", "tmaze"])
def test_a_rollout_reads_one_checkpoint_for_all_its_worlds(agent, run, monkeypatch):
    """The run may go on meanwhile; agents that live in one world each are all of that one."""
    run(train_command.main, *FILMED, f"agent={agent}", "total_env_steps=3", "run_dir=r")
    read = []
    load = RunFolder.load_checkpoint
    monkeypatch.setattr(RunFolder, "load_checkpoint", lambda self: read.append(1) or load(self))
    printed = run(rollout_command.main, "run=r", "episodes=6", "num_envs=3")
    assert json.loads(printed.splitlines()[-1])["episodes"] == 6 and len(read) == 1


def test_a_rollout_writes_nothing_through_links(run, tmp_path, capsys, monkeypatch):
    run(train_command.main, *FILMED, "total_env_steps=3", "run_dir=r")
    (tmp_path / "outside").write_text("kept")
    (tmp_path / "r" / "rollouts.jsonl").symlink_to(tmp_path / "outside")
    monkeypatch.setattr("sys.argv", ["aif-rollout", "run=r", "episodes=1"])
    rollout_command.main()
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["episodes"] == 1
    assert "is a link to elsewhere" in printed.err
    assert (tmp_path / "outside").read_text() == "kept"
