"""Run folders and checkpoints: what is read is what was written, or it is refused; nothing in them runs.

Oracles: the identity (written, then read), and a file that the hostile content would have to
    create.
"""

import json
import os
import pickle
import random
from dataclasses import asdict

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as tuned
from hypothesis import strategies as st
from run_configs import CONFIG

from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.metrics import Averages, MetricsLog, as_json, finite
from aif_dcpc.randomness import derive, random_states, restore_random_states
from aif_dcpc.runs import RunFolder, atomic, new_run, read_checkpoint
from aif_dcpc.schema import EnvConfig, TrainConfig, build, train_config

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def folder(tmp_path):
    with new_run(str(tmp_path / "run"), "x") as made:
        made.save_config(train_config(CONFIG))
    return made


class Hostile:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@tuned(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    content=st.dictionaries(
        st.text(min_size=1, max_size=5).filter(lambda k: k != "format"), plain, max_size=4
    )
)
def test_checkpoints_give_back_what_they_were_given(folder, content):
    read = read_checkpoint(folder.save_checkpoint(3, {**content, "tensor": torch.arange(5)}))
    assert torch.equal(read.pop("tensor"), torch.arange(5))
    assert read.pop("format") == 1
    assert read == content


@tuned(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_damage_anywhere_is_noticed_or_harmless(folder, where, bit, cut):
    path = folder.save_checkpoint(3, {"tensor": torch.arange(50), "name": "x"})
    data = bytearray(path.read_bytes())
    place = int(where * len(data))
    if cut:
        del data[place:]
    else:
        data[place] ^= 1 << bit
    path.write_bytes(data)
    try:
        read = read_checkpoint(path)
    except RunFolderError:
        return
    assert torch.equal(read["tensor"], torch.arange(50))
    assert read["name"] == "x"


def test_damage_that_has_no_words_is_told(folder, monkeypatch):
    path = folder.save_checkpoint(3, {"name": "x"})

    def silent(self):
        raise EOFError

    monkeypatch.setattr("zipfile.ZipFile.testzip", silent)
    with pytest.raises(RunFolderError, match="cannot be read: EOFError"):
        read_checkpoint(path)


def test_the_newest_two_checkpoints_are_kept_and_the_newest_whole_one_is_read(folder):
    for step in (1, 9, 10, 200):
        folder.save_checkpoint(step, {"step": step})
    assert [path.name for path in folder.checkpoints()] == [
        "step-0000000200.pt",
        "step-0000000010.pt",
    ]
    assert folder.load_checkpoint()["step"] == 200
    folder.checkpoints()[0].write_bytes(b"torn")
    assert folder.load_checkpoint()["step"] == 10
    folder.quarantine(10)
    assert [path.name for path in folder.checkpoints()] == ["step-0000000010.pt"]
    folder.checkpoints()[0].write_bytes(b"")
    with pytest.raises(RunFolderError, match="cannot be read"):
        folder.load_checkpoint()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_preparation_leaves_no_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), new_run(str(tmp_path / "a" / "run"), "x") as folder:
        folder.save_config(train_config(CONFIG))
        raise ZeroDivisionError
    assert list((tmp_path / "a").iterdir()) == []


def test_folders_named_by_the_clock_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    places = []
    for _ in range(3):
        with new_run(None, "x") as folder:
            folder.save_config(train_config(CONFIG))
        places.append(folder.path.name)
    assert places == ["now", "now-2", "now-3"]


@pytest.mark.parametrize(
    "wrap",
    [lambda h: h, lambda h: {"format": 1, "agent": h}, lambda h: {"format": 1, "tally": [h]}],
)
def test_hostile_checkpoints_run_nothing(folder, tmp_path, wrap):
    trace = tmp_path / "trace"
    path = folder.path / "checkpoints" / "step-0000000009.pt"
    torch.save(wrap(Hostile(trace)), path)
    with pytest.raises(RunFolderError):
        folder.load_checkpoint()
    path.write_bytes(pickle.dumps(wrap(Hostile(trace))))
    with pytest.raises(RunFolderError):
        folder.load_checkpoint()
    assert not trace.exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [TRACE]",
        "agent: !!python/object/apply:os.mkdir [TRACE]",
        "agent: {name: random, _target_: os.mkdir, path: TRACE}",
        "name: ${oc.env:HOME}",
        "name: [",
        "- 1",
        "",
        "seed: -1",
        "agent: {}",
        "\0",
        "? [1, 2]\n: 3",
    ],
)
def test_hostile_or_foreign_configurations_are_refused(folder, tmp_path, text):
    trace = tmp_path / "trace"
    changes = yaml.safe_dump({key: value for key, value in CONFIG.items() if f"{key}:" not in text})
    (folder.path / "config.yaml").write_text(
        text.replace("TRACE", str(trace)) + ("\n" + changes if ": " in text else "")
    )
    with pytest.raises(RunFolderError):
        folder.config()
    assert not trace.exists()


def test_configurations_come_back(folder):
    config = train_config(CONFIG)
    assert folder.config() == config
    assert train_config(asdict(config)) == config


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("seeed", 1, "Did you mean 'seed'"),
        ("seed", -1, "seed must be at least 0"),
        ("seed", True, "seed must be a whole number"),
        ("seed", "1", "seed must be a whole number"),
        ("total_env_steps", 0, "at least 1"),
        ("total_env_steps", 1.5, "whole number"),
        ("max_minutes", -1, "at least"),
        ("max_minutes", float("nan"), "at least"),
        ("policy", "gredy", "Did you mean 'greedy'"),
        ("env", 3, "group of keys"),
        ("name", None, "a text"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(key, value, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        train_config({**CONFIG, key: value})
    assert "\n" not in str(caught.value)


def test_nested_keys_are_named_by_their_path():
    with pytest.raises(ConfigError, match=r"unknown key 'env\.slipp'. Did you mean 'env\.slip'"):
        train_config({**CONFIG, "env": {**CONFIG["env"], "slipp": 0.1}})
    with pytest.raises(ConfigError, match="no value for 'slip'"):
        build(EnvConfig, {key: value for key, value in CONFIG["env"].items() if key != "slip"})
    assert build(TrainConfig, {**CONFIG, "total_env_steps": 1e3}).total_env_steps == 1000


def draws():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]


def test_random_states_survive_a_checkpoint(folder):
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    random.gauss(0, 1)  # leaves a spare
    np.random.randn()
    path = folder.save_checkpoint(1, {"random": random_states()})
    expected = draws()
    draws()
    restore_random_states(read_checkpoint(path)["random"])
    assert draws() == expected


def test_derived_seeds_differ():
    seeds = {
        derive(seed, purpose, episode)
        for seed in range(10)
        for purpose in range(3)
        for episode in range(50)
    }
    assert len(seeds) == 1500


def test_metrics_are_cut_back_to_a_checkpoint(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.scalars(1, {"a": 1.0})
        length = log.length()
        log.scalars(2, {"a": float("inf")})
    with MetricsLog(tmp_path, length=length, step=1) as log:
        log.scalars(2, {"a": 3.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "a": 1.0}, {"step": 2, "a": 3.0}]
    with pytest.raises(RunFolderError, match="shorter"):
        MetricsLog(tmp_path, length=10_000)


def test_averages_restart_when_taken():
    averages = Averages()
    averages.add({"a": 1.0, "b": 4.0})
    averages.add({"a": 2.0})
    assert averages.take() == {"a": 1.5, "b": 4.0}
    assert averages.take() == {}


def test_numbers_that_json_cannot_hold_become_null():
    assert [finite(value) for value in (1, 2.5, float("nan"), float("-inf"))] == [
        1,
        2.5,
        None,
        None,
    ]


def test_a_result_is_one_line_of_json_whatever_its_numbers():
    line = as_json({"run": ["a"], "by": {"x": float("nan"), "y": 2}, "z": float("inf")})
    assert line == '{"run": ["a"], "by": {"x": null, "y": 2}, "z": null}'


def test_a_run_folder_that_is_not_one_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder(tmp_path).config()
    with pytest.raises(RunFolderError, match="holds no checkpoint"):
        RunFolder(tmp_path).load_checkpoint()
