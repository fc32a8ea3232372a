"""TensorBoard: charts are described, runs are comparable by their settings, and numbers stay as they were written."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR
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
    metadata_of_chart = board.SummaryMetadata("train/return")
    assert metadata_of_chart.plugin_data.plugin_name == "scalars"
    assert (
        metadata_of_chart.data_class == DATA_CLASS_SCALAR
    )  # else the default loader drops the words
    shown = metadata_of_chart.summary_description
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


def points(folder, tag):
    board = EventAccumulator(str(folder))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(tag)]


def test_a_chart_appears_once_it_changes_with_all_that_matters_of_it(tmp_path):
    """The first and the last of equal points, then every point; one point alone is shown in the end."""
    values = {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0}
    with MetricsLog(tmp_path) as log:
        for step, value in values.items():
            log.scalars(
                step, {"inference/ess": value, "inference/constant": 4.0, "train/return": 0.0}
            )
        log.scalars(6, {"inference/once": 3.0})
    assert points(tmp_path, "inference/ess") == [(1, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]
    assert points(tmp_path, "inference/once") == [(6, 3.0)]
    assert [value for _, value in points(tmp_path, "train/return")] == [0.0] * 5
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert "inference/constant" not in board.Tags()["scalars"]


def test_results_come_first_on_the_page(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.scalars(3, {"train/return": 0.5, "train/success_rate": 1.0, "efe/total": 2.0})
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert sorted(board.Tags()["scalars"])[:2] == ["0_results/return", "0_results/success_rate"]
    assert points(tmp_path, "0_results/return") == points(tmp_path, "train/return") == [(3, 0.5)]


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
