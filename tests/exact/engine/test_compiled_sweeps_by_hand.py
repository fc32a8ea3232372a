"""Compiled sweeps of moves written by hand, stage by stage, against the moves one after the other.

The compiler is stood in for by one that hands every graph back and notes what it is asked for: what
it would add is rounding. The moves read values, data, weights and noise, so that what is replayed with
arguments in another order, or at an older cloud, gives other numbers.
"""

import itertools
import warnings
from types import SimpleNamespace

import pytest
import torch
from models import gaussian_pair
from own_moves import Own, assert_alike, cloud, halve, read, seeded, walk

from aif_dcpc.inference import DCPC, compiled_sweeps
from aif_dcpc.inference.compiled_sweeps import CompiledSweeps, Kind, least_seconds
from aif_dcpc.inference.errors import CompileWarning
from aif_dcpc.inference.model import compiling
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.inference.sweeping import make_moves


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """What a compiler that hands graphs back is asked for."""
    noted = []

    def compile_(graph, *examples):
        noted.append("compile")
        return lambda *arguments: noted.append("call") or graph(*arguments)

    monkeypatch.setattr(compiling, "check_compiler", lambda device: None)
    monkeypatch.setattr(compiling, "compiled_or_raise", compile_)
    return noted


def swept(sweeps, moves, number, *, period=1, generators=(None, None), state=None):
    """Sweeps made both ways, the same after each; gives the cloud and each sweep's kind."""
    state = state or cloud()
    other = state
    kinds = []
    for _ in range(number):
        found = sweeps(moves, period, state, generators[0], adapt=False)
        expected = make_moves(moves, other, generators[1], adapt=False)
        assert_alike(found, expected)
        state = found[0]
        other = expected[0]
        kind = list(sweeps._kinds.values())[-1]
        kinds.append((kind.met, kind.recording is not None, kind.function is not None))
    return state, kinds


# -- stages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [walk, halve])
def test_a_kind_is_met_then_recorded_then_compiled_then_called(change, asked):
    """With a period of 1 there are two kinds, of even and odd sweeps."""
    drawn = change is walk
    generators = (seeded(), seeded()) if drawn else (None, None)
    sweeps = CompiledSweeps(True, 0)
    assert sweeps.ahead == 0 and sweeps.causes == []
    state, kinds = swept(sweeps, (Own("z", change),), 10, generators=generators)
    stages = [(1, False, False), (1, True, False), (2, True, True), (2, True, True)]
    assert kinds == [stage for stage in [*stages, stages[-1]] for _ in range(2)]
    assert asked == ["compile"] * 2 + ["call"] * 4
    assert sweeps.causes == []
    assert sweeps._taken_apart(state)[0] is sweeps._last[1]
    assert sweeps._taken_apart(state.replace(values=dict(state.values)))[0] is not sweeps._last[1]


def test_another_cloud_after_a_compiled_sweep_is_the_one_that_is_swept(asked):
    sweeps = CompiledSweeps(True, 0)
    moves = (Own("z", walk),)
    state, _ = swept(sweeps, moves, 8, generators=(seeded(), seeded()))
    another = cloud(seed=1).replace(sweeps=state.sweeps)
    swept(sweeps, moves, 2, generators=(seeded(), seeded()), state=another)
    assert asked.count("call") == 4


@pytest.mark.parametrize(("period", "kinds"), [(1, 2), (2, 2), (3, 6), (4, 4)])
def test_there_are_as_many_kinds_as_phases_and_twice_that_for_odd_periods(period, kinds):
    sweeps = CompiledSweeps(True, 0)
    swept(sweeps, (Own("z", halve),), 13, period=period)
    assert len(sweeps._kinds) == kinds


def test_kinds_differ_by_what_kernels_hold():
    sweeps = CompiledSweeps(True, 0)
    held = torch.ones(2)
    snapshots = [None, *(Snapshot((held,), (0,), (n,)) for n in (1.0, 2.0, 1.0))]
    for snapshot in (*snapshots, Snapshot((held.clone(),), (0,), (1.0,))):
        sweeps((Own("z", halve),), 1, cloud().replace(snapshot=snapshot), None, adapt=False)
    assert len(sweeps._kinds) == 4


def test_of_kinds_the_thirty_two_last_in_use_are_remembered():
    sweeps = CompiledSweeps("auto", 0)
    state = cloud()
    moves = [Own("z", lambda *given: halve(*given)) for _ in range(33)]
    for move in (*moves[:32], moves[0], moves[32]):
        sweeps((move,), 1, state, None, adapt=False)
    kept = [key[0][0] for key in sweeps._kinds]
    assert kept == [*moves[2:32], moves[0], moves[32]]


# -- what pays -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "pays"), [(1.4, True), (1.5, False), (1.6, False)])
def test_half_of_the_time_of_the_sweeps_ahead_is_more_than_compiling_takes(cost, pays):
    """Three sweeps ahead in a cycle of two: one and a half of the kind, of 2 s each."""
    sweeps = CompiledSweeps("auto", 10)
    sweeps.ahead = 3
    sweeps._cost = cost
    assert sweeps._pays(Kind((), met=1, seconds=2.0), 2, adapt=False) is pays


def test_what_has_not_been_compiled_is_taken_for_twenty_seconds():
    """Half of 40 and of 41 sweeps of a second."""
    for ahead, pays in ((40, False), (41, True)):
        sweeps = CompiledSweeps("auto", 10)
        sweeps.ahead = ahead
        assert sweeps._pays(Kind((), seconds=1.0), 1, adapt=False) is pays


@pytest.mark.parametrize(("met", "pays"), [(4, False), (5, False), (6, True), (9, True)])
def test_moves_that_learn_stand_after_more_sweeps_than_a_warm_up_has(met, pays):
    assert CompiledSweeps(True, 10)._pays(Kind((), met=met, seconds=1.0), 2, adapt=True) is pays


def test_what_does_not_pay_is_made_as_it_stands(asked):
    sweeps = CompiledSweeps("auto", 0)
    _, kinds = swept(sweeps, (Own("z", walk),), 8, generators=(seeded(), seeded()))
    assert kinds[-1] == (4, False, False) and not asked


@pytest.mark.parametrize("setting", ["auto", True])
def test_what_takes_as_long_when_compiled_is_compiled(setting, monkeypatch):
    """Everything takes a second: no more than the sweep itself."""
    clock = itertools.count(7.0)
    monkeypatch.setattr(compiled_sweeps, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    sweeps = CompiledSweeps(setting, 0)
    sweeps._cost = -10.0
    _, kinds = swept(sweeps, (Own("z", halve),), 5)
    assert kinds[-1] == (2, True, True)


def test_the_least_time_of_three_calls(monkeypatch):
    """They take 5, 4 and 6.5 s."""
    clock = iter([2.0, 7.0, 3.0, 7.0, 2.0, 8.5])
    monkeypatch.setattr(compiled_sweeps, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    given = []
    assert least_seconds(lambda *x: given.append(x), (torch.ones(1), torch.ones(2))) == 4.0
    assert [len(x) for x in given] == [2, 2, 2]


# -- what stays as it is ---------------------------------------------------------------------------


def said(function):
    """The warnings of compiling that a call leads to."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        function()
    return [warning for warning in noted if warning.category is CompileWarning]


def test_moves_beside_one_that_keeps_tables_are_compiled_one_by_one(asked):
    """Both of one site, whose rate is the mean of theirs; said once, though two kinds stay."""
    sweeps = CompiledSweeps(True, 0)
    moves = (Own("z", walk), Own("z", halve, keeps_tables=True))
    noted = said(lambda: swept(sweeps, moves, 12, generators=(seeded(), seeded())))
    kinds = {
        (len(key[0]), key[0][0].keeps_tables): (kind.apart, kind.refused, kind.function is not None)
        for key, kind in sweeps._kinds.items()
    }
    assert kinds[2, False] == (True, False, False)
    assert kinds[1, False] == (False, False, True)
    assert kinds[1, True] == (False, True, False)
    assert len(noted) == 1 and "keeps tables" in str(noted[0].message)
    assert sweeps.causes == ["a move keeps tables from sweep to sweep."]
    assert asked.count("compile") == 2


def test_where_compiling_fails_a_sweep_of_two_moves_stays_whole(asked, monkeypatch):
    def fails(graph, *examples):
        asked.append("compile")
        raise OSError("full")

    monkeypatch.setattr(compiling, "compiled_or_raise", fails)
    sweeps = CompiledSweeps(True, 0)
    moves = (Own("z", walk), Own("z", halve))
    noted = said(lambda: swept(sweeps, moves, 12, generators=(seeded(), seeded())))
    assert [(kind.refused, kind.apart) for kind in sweeps._kinds.values()] == [(True, False)] * 2
    assert len(noted) == 1 and sweeps.causes == ["OSError: full"]
    assert asked == ["compile"] * 2


def test_what_a_recording_drew_before_it_failed_is_drawn_again():
    sweeps = CompiledSweeps(True, 0)
    generators = (seeded(), seeded())
    assert said(lambda: swept(sweeps, (Own("z", read),), 6, generators=generators))
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert all(kind.refused and not kind.apart for kind in sweeps._kinds.values())


def more_every_time(number, z):
    return z + number


def double_from_the_third_on(number, z):
    return z.double() if number > 1 else z + 0


@pytest.mark.parametrize("how", [more_every_time, double_from_the_third_on])
def test_what_differs_from_sweep_to_sweep_is_not_compiled(how, asked):
    """Numbers, and kinds of numbers; the same cloud each time."""
    calls = itertools.count()
    sweeps = CompiledSweeps(True, 0)
    state = cloud()
    moves = (Own("z", lambda state, generator: how(next(calls), state.values["z"])),)
    noted = said(lambda: [sweeps(moves, 1, state, None, adapt=False) for _ in range(4)])
    assert len(noted) == 1 and not asked
    assert sweeps.causes == ["its operations differ from sweep to sweep."]


def test_who_swept_is_named_where_sweeps_stay_as_they_are():
    move = Own("z", halve, keeps_tables=True)
    engine = DCPC(gaussian_pair(), num_particles=3, compile=True, moves={"z": move})
    states = [engine.init({"x": torch.ones(2)}, seed=0)]
    with pytest.warns(CompileWarning) as noted:
        for _ in range(6):
            states.append(engine.sweep(states[-1], adapt=False)[0])
    assert noted[0].filename == __file__
