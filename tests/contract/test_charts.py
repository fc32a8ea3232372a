"""TensorBoard: charts are described, runs are comparable by their settings, and numbers stay as they were written."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from aif_dcpc.charts import DESCRIPTIONS, compared_settings, description
from aif_dcpc.configuration import load_config
from aif_dcpc.metrics import MetricsLog


def test_charts_bring_their_description_and_settings(tmp_path):
    config = load_config("train", "agent=random", "env=TMaze", "seed=7")
    with MetricsLog(tmp_path) as log:
        log.settings(config, kind="agent")
        for step in (1, 2):
            log.scalars(step, {"train/return": step / 4, "my/own": 3.0})
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("train/return")] == [(1, 0.25), (2, 0.5)]
    shown = board.SummaryMetadata("train/return").summary_description
    assert shown == DESCRIPTIONS["train/return"]
    content = board.PluginTagToContent(metadata.PLUGIN_NAME)
    assert metadata.SESSION_START_INFO_TAG in content
    started = plugin_data_pb2.HParamsPluginData.FromString(
        content[metadata.SESSION_START_INFO_TAG]
    ).session_start_info
    assert started.hparams["seed"].number_value == 7
    assert started.hparams["agent.name"].string_value == "random"
    experiment = plugin_data_pb2.HParamsPluginData.FromString(
        content[metadata.EXPERIMENT_TAG]
    ).experiment
    assert {info.name.tag for info in experiment.metric_infos} == {
        "train/return",
        "train/success_rate",
    }


def test_descriptions_are_found_by_the_longest_beginning():
    assert description("train/success_rate") == DESCRIPTIONS["train/success_rate"]
    assert description("inference/acceptance/z1") == DESCRIPTIONS["inference/acceptance"]
    assert description("speed/ms_planning") == DESCRIPTIONS["speed/ms"]
    assert description("my/own") == ""
    assert all(text.endswith(".") for text in DESCRIPTIONS.values())


def test_settings_are_flat_and_of_plain_kinds():
    found = compared_settings(load_config("train", "experiment=digits"))
    assert found["images.options.sizes"] == "[10, 32, 64]" and "run_dir" not in found
    assert all(isinstance(value, (bool, int, float, str)) for value in found.values())
