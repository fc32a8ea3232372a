"""`aif-check` on models of known soundness: sound ones pass, planted faults are found, and the exit code tells which.

A sound model is rejected with probability at most 1e-4 by the ranks and 1e-5 by Geweke's test;
seeds are fixed.
"""

import os
import signal
import sys
import types

import pytest
import torch
from torch.distributions import Beta, Binomial, Gamma, Independent, Normal, Poisson

from aif_dcpc.commands.check import check, main
from aif_dcpc.errors import ConfigError
from aif_dcpc.inference import GraphicalModel
from aif_dcpc.inference.checks.calibration import calibrate


def counts():
    model = GraphicalModel()
    model.add_site("rate", lambda: Gamma(2.0, 1.0))
    model.add_site("count", lambda rate: Poisson(rate), ["rate"])
    return model


def with_inputs():
    model = GraphicalModel()
    model.add_input("row", scope="episode")
    model.add_site("slope", lambda: Independent(Normal(torch.zeros(2), 1.0), 1), scope="global")
    model.add_site("y", lambda row, slope: Normal((row * slope).sum(-1), 0.5), ["row", "slope"])
    return model


class Shifted(Normal):
    """A normal law whose density lies half a unit from its draws."""

    def log_prob(self, value):
        return super().log_prob(value - 0.5)


def shifted():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Shifted(z, 1.0), ["z"])
    return model


def discrete_and_bounded():
    model = GraphicalModel()
    model.add_site("chance", lambda: Beta(torch.tensor(2.0), torch.tensor(2.0)))
    model.add_site("hits", lambda chance: Binomial(8, chance), ["chance"])
    model.add_site("x", lambda hits: Normal(hits, 1.0), ["hits"])
    return model


ROWS = {"row": torch.randn(7, 2, generator=torch.Generator().manual_seed(0))}


@pytest.fixture
def own(monkeypatch, tmp_path):
    module = types.ModuleType("own_models")
    module.counts = counts()
    module.shifted = shifted
    module.with_inputs = with_inputs
    module.rows = ROWS
    module.number = 3
    module.fails = lambda: 1 / 0
    module.with_list = lambda: (counts(), [1, 2])
    monkeypatch.setitem(sys.modules, "own_models", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code, capsys.readouterr()


def test_a_sound_model_passes_and_leaves_its_ranks(own, capsys):
    code, said = run(capsys, "own_models:counts", "--plot", "here.png")
    assert code == 0 and said.out.splitlines()[-1].startswith("sound: ")
    assert (own / "here.png").read_bytes().startswith(b"\x89PNG")


def test_a_fault_is_a_line_and_exit_code_1(own, capsys):
    code, said = run(capsys, "own_models:shifted")
    *faults, verdict = said.out.splitlines()
    assert (
        code == 1 and verdict == f"not sound: {len(faults)} fault{'s' * (len(faults) > 1)} found."
    )
    assert faults and all(line.startswith("fault: site ") for line in faults)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["own_models:with_inputs"], "'row', of which nothing is given"),
        (["own_models:number"], "expected a GraphicalModel"),
        (["own_models:contus"], "Did you mean 'counts'"),
        (["no_such_module:model"], "there is no module"),
        (["own_models:fails"], "ZeroDivisionError"),
        (["own_models:counts", "--data", "own_models:number"], "expected site -> tensor"),
        (["own_models:counts", "--data-sets", "3"], "at least 100"),
        (["own_models:counts", "--seed", "-1"], "--seed -1: expected a whole number from 0"),
        (["own_models:with_list"], "the data of own_models:with_list: found a list"),
        (
            ["own_models:counts", "--plot", "no/x.png"],
            "--plot no/x.png: expected a file in a folder",
        ),
        (["own_models:counts", "--plot", "."], "--plot .: expected a file"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence_and_exit_code_2(own, capsys, arguments, words):
    code, said = run(capsys, *arguments)
    assert code == 2 and words in said.err and said.err.count("\n") == 1
    assert said.out == ""


def test_a_plot_that_cannot_be_written_costs_neither_the_verdict_nor_an_older_plot(
    own, capsys, monkeypatch
):
    (own / "ranks.png").write_text("older")

    def full(self, file, **options):
        file.write_text("half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    code, said = run(capsys, "own_models:counts", "--data-sets", "100")
    assert code == 2 and said.out.splitlines()[-1].startswith("sound: ")
    assert "--plot ranks.png: cannot be written: No space left on device." in said.err
    assert [path.name for path in own.iterdir()] == ["ranks.png"]
    assert (own / "ranks.png").read_text() == "older"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_traceback(number, own, capsys, monkeypatch):
    stopped = lambda: os.kill(os.getpid(), number)  # noqa: E731
    monkeypatch.setattr(sys.modules["own_models"], "fails", stopped)
    code, said = run(capsys, "own_models:fails")
    assert code == 128 + number and said.err == "note: interrupted.\n"


def test_help_tells_the_exit_codes(capsys):
    code, said = run(capsys, "--help")
    assert code == 0 and "Exit code 0" in said.out and "--plot" in said.out


def test_inputs_are_repeated_for_simulated_data():
    assert check(with_inputs(), ROWS, data_sets=200).faults == ()
    with pytest.raises(ConfigError, match="--data"):
        check(with_inputs())


def test_discrete_latents_are_ranked_with_ties_broken_evenly():
    found = calibrate(discrete_and_bounded(), num_sweeps=80)
    assert found.faults == () and set(found.ranks) == {"chance", "hits"}


def test_ranks_alone_notice_a_density_beside_its_draws():
    """Half a unit is .35 of the sum's deviation: the posterior is shifted by .35 of its own, in 400 data sets."""
    found = calibrate(shifted(), num_sweeps=60)
    assert len(found.faults) == 1 and "site 'z'" in found.faults[0]
