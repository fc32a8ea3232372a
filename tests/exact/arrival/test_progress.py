"""What is told while sampling goes on: counted by hand, with a clock of its own."""

import pytest

from aif_dcpc.inference.arrival import progress
from aif_dcpc.inference.arrival.progress import EVERY, SampleProgress


def two_stages(told):
    told.begin("warming up", 2)
    told.advance()
    told.extend(3)
    told.advance()
    told.begin("drawing", 4)
    told.advance()


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_bar_shows_the_stage_and_how_far_it_is():
    with SampleProgress(show=True) as told:
        assert told.bar is not None and told.bar.live.is_started
        told.begin("warming up", 2)
        told.advance()
        (task,) = told.bar.tasks
        assert (task.description, task.completed, task.total) == ("warming up", 1, 2)
        told.extend(3)
        (task,) = told.bar.tasks
        assert (task.completed, task.total) == (1, 5)
        told.begin("drawing", 4)
        told.advance()
        told.advance()
        (task,) = told.bar.tasks
        assert (task.description, task.completed, task.total) == ("drawing", 2, 4)
    assert not told.bar.live.is_started


def test_without_a_terminal_a_line_is_printed_a_minute(clock, capsys):
    with SampleProgress() as told:
        assert told.bar is None
        two_stages(told)
        assert capsys.readouterr().err == ""
        clock[0] += EVERY + 1
        told.advance()
        assert capsys.readouterr().err == "sample: drawing, 2 of 4 sweeps\n"
        told.extend(6)
        told.advance()
        assert capsys.readouterr().err == ""
        clock[0] += EVERY - 1
        told.advance()
        assert capsys.readouterr().err == ""
        clock[0] += 2
        told.advance()
        assert capsys.readouterr().err == "sample: drawing, 5 of 10 sweeps\n"


def test_silence_is_silence(clock, capsys):
    with SampleProgress(show=False) as told:
        assert told.bar is None
        two_stages(told)
        clock[0] += 10 * EVERY
        told.advance()
    assert capsys.readouterr().err == ""
