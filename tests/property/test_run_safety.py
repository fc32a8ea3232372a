"""Run folders under attack: links, locks, dead processes, damaged values, bombs of YAML.

Oracles: what stood outside before still stands there; what was written comes back or is refused in one
sentence.
"""

import copy
import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from run_configs import CONFIG
from tensorboard.summary.writer.record_writer import RecordWriter

from aif_dcpc import metrics, plain_yaml
from aif_dcpc.agent_runs.episode_statistics import EpisodeStatistics
from aif_dcpc.checkpoints import DIGEST, digest, read_checkpoint
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.files import atomic, clear_temporaries, hidden_folder, locked
from aif_dcpc.image_runs.loop import Progress
from aif_dcpc.metrics import Averages, MetricsLog, logged_bytes
from aif_dcpc.runs import WRITTEN_TO, RunFolder, new_run, open_run, refuse_taken, writing
from aif_dcpc.schema import build, train_config


@pytest.fixture
def folder(tmp_path):
    with new_run(str(tmp_path / "run"), "x") as made:
        made.save_config(train_config(CONFIG))
    return made


def sentence(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- one writer at a time --------------------------------------------------------------------------

HOLD = """
import fcntl, os, sys, time
held = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_refused_until_the_first_is_dead(folder):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match="is writing to") as caught:
            with writing(folder, folder.config()):
                pass
        assert str(other.pid) in sentence(caught) or "another process" in sentence(caught)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with writing(folder, folder.config()):  # the system lets go, however a process ends
        with pytest.raises(BlockingIOError), locked(folder.path):
            pass


def test_what_cannot_be_written_is_told_as_that_and_nothing_else_is(folder):
    of_writing = OSError(errno.ENOSPC, "No space left"), OSError(2, "gone", f"{folder}/figures/x")
    of_others = ConnectionRefusedError(111, "refused"), OSError(2, "gone", "/elsewhere/map.txt")
    for error in of_writing:
        with pytest.raises(RunFolderError, match=r"cannot write to .*make room"):
            with writing(folder, folder.config()):
                raise error
    for error in of_others:
        with pytest.raises(type(error)) as caught, writing(folder, folder.config()):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    "look", [open_run, refuse_taken, lambda path: RunFolder(Path(path)).config()]
)
def test_a_path_that_cannot_be_looked_at_is_told_in_one_sentence(look):
    with pytest.raises(RunFolderError, match="File name too long") as caught:
        look("x" * 300)
    assert sentence(caught)


def test_budgets_given_anew_are_kept(folder):
    longer = train_config({**CONFIG, "total_env_steps": 77})
    with writing(folder, longer):
        pass
    assert folder.config().total_env_steps == 77


# -- what dead processes leave ---------------------------------------------------------------------


def test_files_and_folders_of_dead_processes_are_cleared_away(tmp_path, folder):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = os.getppid()
    for place in (folder.path, folder.path / "checkpoints"):
        for process in (dead.pid, os.getpid(), alive):
            (place / f".step.pt.{process}.tmp").touch()
    (folder.path / ".mine.tmp").touch()  # not of ours
    clear_temporaries(folder.path)
    left = {p.name for p in folder.path.rglob(".*")}
    assert left == {f".step.pt.{alive}.tmp", ".mine.tmp"}
    (tmp_path / ".run-abc.unfinished" / "checkpoints").mkdir(parents=True)
    with hidden_folder(tmp_path) as held:
        assert sorted(tmp_path.glob(".run-*")) == [held]
        with hidden_folder(tmp_path) as other:  # what a living process holds stays
            assert sorted(tmp_path.glob(".run-*")) == sorted([held, other])


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN_TO)
def test_nothing_is_written_through_a_link(name, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "kept"
    target.write_text("kept")
    place = folder.path / name
    if place.is_dir():
        place.rmdir()
    place.symlink_to(target if "." in name else outside)
    with pytest.raises(RunFolderError, match=rf"{name} is a link to elsewhere") as caught:
        with writing(folder, folder.config()):
            pass
    assert sentence(caught)
    assert [p.name for p in outside.iterdir()] == ["kept"] and target.read_text() == "kept"


def test_links_in_the_place_of_files_are_replaced_not_followed(folder, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    places = ["config.yaml", f".config.yaml.{os.getpid()}.tmp", "checkpoints/step-0000000003.pt"]
    for name in places:
        (folder.path / name).unlink(missing_ok=True)
        (folder.path / name).symlink_to(kept)
    folder.save_config(train_config(CONFIG))
    folder.save_checkpoint(3, {"step": 3})
    assert kept.read_text() == "kept"
    assert folder.load_checkpoint()["step"] == 3 and folder.config() == train_config(CONFIG)


def test_a_second_name_of_the_metrics_keeps_its_content(folder, tmp_path):
    with MetricsLog(folder.path) as log:
        log.scalars(1, {"a": 1.0})
        length = log.length()
        log.scalars(2, {"a": 2.0})
    backup = tmp_path / "backup.jsonl"
    os.link(folder.metrics, backup)
    before = backup.read_bytes()
    with MetricsLog(folder.path, length=length) as log:
        log.scalars(2, {"a": 3.0})
    assert backup.read_bytes() == before and folder.metrics.read_bytes() != before


# -- configurations --------------------------------------------------------------------------------

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
DAMAGED = {
    "date": ("name: 2026-13-45", "month must be"),
    "day": ("name: 2026-10-10", "write it as a text"),
    "float": ("max_minutes: !!float abc", "could not convert"),
    "int": ("seed: !!int x", "invalid literal"),
    "digits": ("seed: " + "9" * 5000, "5000 digits"),
    "sixties": ("seed: 1" + ":1" * 3000, "digits"),
    "itself": ("env: &a {k: *a}", r"alias \*a"),
    "deep": ("env: " + "[" * 3000 + "]" * 3000, "more than 32 deep"),
    "deeper, open": ("env: " + "[" * 100_000, "more than 32 deep"),
    "bomb": (BOMB, r"alias \*a0"),
    "merge": ("a: &a {b: 1}\nc: {<<: *a}", r"alias \*a"),
    "long": ("name: " + "x" * 200_000, "more than 131072 bytes"),
    "set": ("env: !!set {a, b}", "not allowed|write it as a text"),
    "binary": ("name: !!binary aGk=", "write it as a text"),
    "number": ("3", "no group of keys"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_configurations_are_read_in_bounded_time_or_refused(case, folder):
    text, words = DAMAGED[case]
    (folder.path / "config.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(RunFolderError, match=words) as caught:
        folder.config()
    assert time.process_time() - start < 2
    assert len(sentence(caught)) < 600


def test_a_changed_value_is_noticed_and_a_missing_seal_is_not_asked_for(folder):
    path = folder.path / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("total_env_steps: 10", "total_env_steps: 19"))
    with pytest.raises(RunFolderError, match=r"checksum is another.*remove its line"):
        folder.config()
    body = text.rpartition(plain_yaml.SEAL)[0]
    path.write_text(body.replace("total_env_steps: 10", "total_env_steps: 19"))
    assert (
        folder.config().total_env_steps == 19
    )  # as a person changed it, or as it was before seals
    path.write_text(text.replace("\n", "\r\n"))
    assert folder.config() == train_config(CONFIG)


def test_what_could_not_be_read_again_is_not_written(folder):
    agent = {"name": "random", "values": list(range(100_000))}
    with pytest.raises(ConfigError, match="at most 131072"):
        folder.save_config(train_config({**CONFIG, "agent": agent}))
    assert folder.config() == train_config(CONFIG)


# -- checkpoints -----------------------------------------------------------------------------------

CONTENT = {
    "format": 1,
    "model": {"w": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0)},
    "tally": {"step": 3, "returns": [0.5, 1.0], "name": "x", "none": None, "flag": True},
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def changes(value):
    """Every value with one of its parts changed a little."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: other} for other in changes(entry))
    elif isinstance(value, list):
        yield value[:-1]
        for i, entry in enumerate(value):
            yield from ([*value[:i], other, *value[i + 1 :]] for other in changes(entry))
    elif isinstance(value, torch.Tensor):
        yield value.double()
        if value.numel():
            yield value.reshape(-1)[:1]
            other = value.clone()
            other.view(-1)[-1] += 1
            yield other
    else:
        yield from (other for other in (None, -7, 3.5, "y", [], {}) if other != value)


def test_every_changed_value_of_a_checkpoint_is_noticed(folder):
    path = folder.save_checkpoint(3, CONTENT)
    stored = torch.load(path, weights_only=True)
    assert read_checkpoint(path).keys() == CONTENT.keys()
    assert stored[DIGEST] == digest(CONTENT)
    number = 0
    for other in changes({key: value for key, value in stored.items() if key != DIGEST}):
        torch.save({**other, DIGEST: stored[DIGEST]}, path)
        with pytest.raises(RunFolderError, match=r"was changed since|not a checkpoint") as caught:
            read_checkpoint(path)
        assert sentence(caught)
        number += 1
    assert number > 40
    torch.save({**copy.deepcopy(stored)}, path)
    assert read_checkpoint(path).keys() == CONTENT.keys()


def test_going_on_from_an_older_checkpoint_is_told(folder, capsys):
    folder.save_checkpoint(1, {"step": 1})
    folder.save_checkpoint(2, {"step": 2}).write_bytes(b"torn")
    assert folder.load_checkpoint()["step"] == 1
    told = capsys.readouterr().err
    assert "cannot be read" in told and "Going on from step-0000000001.pt" in told


@pytest.mark.parametrize("length", [None, -1, "3", 2.0])
def test_a_checkpoint_without_a_length_of_metrics_is_refused(length):
    with pytest.raises(RunFolderError, match="metrics_length"):
        logged_bytes({"metrics_length": length})
    assert logged_bytes({"metrics_length": 3}) == 3


@pytest.mark.parametrize(
    "counts",
    [None, "x", {}, {"step": "x"}, {"step": -1}, {"step": 3, "more": 1}, {"step": 3, "returns": 2.0},
     {"step": 3, "returns": ["x"]}, {"step": 3, "successes": [None]}, {"step": 2.5}],
)  # fmt: skip
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(RunFolderError, match="not one of an agent") as caught:
        EpisodeStatistics.of({"tally": counts})
    sentence(caught)
    assert EpisodeStatistics.of({"tally": {"step": 3, "returns": [1.0]}}).step == 3


@pytest.mark.parametrize(
    "counts", [{"step": -3}, {"step": "x"}, {"factor": 2.0}, {"validated": -2}]
)
def test_a_step_that_is_none_is_refused(counts):
    with pytest.raises(ConfigError, match=r"progress\."):
        build(Progress, counts, "progress.")


@pytest.mark.parametrize("error", [OSError("no room"), ValueError("a fault")])
def test_of_the_threads_of_the_board_a_full_disk_is_told_once(error, folder, monkeypatch):
    """Flushing raises it anew; whatever else a thread dies of is printed."""
    told = []
    monkeypatch.setattr(metrics, "HOOKS", [told.append])
    monkeypatch.setattr(threading, "excepthook", metrics._except_the_board)

    def fail(*_):
        raise error

    log = MetricsLog(folder.path)
    monkeypatch.setattr(RecordWriter, "write", fail)
    log.scalars(1, {"a": 1.0})
    with pytest.raises(type(error)):
        log.length()
    log.file.close()
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("tensorboard."):
            thread.join(20)
    assert [args.exc_type for args in told] == [ValueError] * isinstance(error, ValueError)


@pytest.mark.parametrize(
    "sums", [None, "x", {"a": 3.0}, {"a": [1.0]}, {"a": ["x", 1]}, {"a": None}]
)
def test_averages_that_are_none_are_refused(sums):
    averages = Averages()
    averages.add({"a": 1.0})
    with pytest.raises((TypeError, ValueError)):
        averages.restore(sums)
    averages.restore({"a": [4.0, 2]})
    assert averages.take() == {"a": 2.0}


def test_a_file_is_whole_or_as_before_though_a_link_stands_in_the_way(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("kept")
    path = tmp_path / "file"
    path.with_name(f".file.{os.getpid()}.tmp").symlink_to(outside)
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert outside.read_text() == "kept" and path.read_text() == "new"


def test_a_folder_that_is_no_run_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")  # reading it would wait for ever
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder(tmp_path).config()
