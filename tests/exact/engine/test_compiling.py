"""Recorded graphs that are compiled: by what they give, where nothing compiles, or a cache is damaged."""

import itertools
import os
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from compilers import NO_COMPILER, needs_compiler
from models import gaussian_pair

from aif_dcpc.inference import DCPC, compiled_sweeps
from aif_dcpc.inference.errors import CompileWarning
from aif_dcpc.inference.model import compiling
from aif_dcpc.inference.model.parts import Parts
from aif_dcpc.inference.model.recording import TOLERANCE, record
from aif_dcpc.inference.model.replay import replayed
from aif_dcpc.inference.recorded_sweeps import record_sweep
from aif_dcpc.inference.sweeping import make_moves


def test_a_graph_without_a_compiler_is_used_as_it_is():
    graph = record(lambda x: (x.sin() + 0.25,), torch.ones(3))
    with NO_COMPILER, pytest.warns(CompileWarning, match=r"no C\+\+ compiler was found"):
        function = compiling.compiled(graph, torch.ones(3))
    assert torch.equal(function(torch.zeros(3))[0], torch.full((3,), 0.25))


def test_a_graph_that_compiles_to_other_numbers_is_used_as_it_is(monkeypatch):
    graph = record(lambda x: (x.sin() + 0.75,), torch.ones(3))
    monkeypatch.setattr(compiling, "compile_fx", lambda *given: lambda *x: (x[0].cos(),))
    with pytest.warns(CompileWarning, match="other numbers"):
        function = compiling.compiled(graph, torch.ones(3))
    assert torch.equal(function(torch.zeros(3))[0], torch.full((3,), 0.75))


def test_constants_of_one_number_are_written_down_and_others_become_arguments():
    """So that graphs that do the same to other data are one: their texts are the same."""
    bare = []
    for data in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 5.0])):
        level = torch.full((3,), 0.5)
        graph = record(
            lambda x, y, level=level, data=data: (x * y + level - data,),
            torch.ones(3),
            torch.ones(3),
        )
        whole, constants = compiling._with_constants_as_arguments(graph)
        assert len(constants) == 1 and torch.equal(constants[0], data)
        places = torch.full((3,), 2.0), torch.full((3,), 0.25)
        assert torch.equal(whole(*places, *constants)[0], 1.0 - data)
        bare.append(whole.code)
    assert bare[0] == bare[1] and "full" in bare[0] and "0.5" in bare[0]


@pytest.mark.parametrize("value, uniform", [([2.0, 2.0], True), ([2.0, 3.0], False), ([], False)])
def test_what_is_one_number_throughout(value, uniform):
    assert compiling._is_uniform(torch.tensor(value)) is uniform
    assert not compiling._is_uniform(torch.tensor(value, requires_grad=True))


def test_what_is_compiled_is_remembered_and_the_oldest_forgotten(monkeypatch):
    """Of four graphs where three are kept, the first is compiled again, and the last is not."""
    made = []
    monkeypatch.setattr(compiling, "KEPT", 3)
    monkeypatch.setattr(compiling, "_known", {})
    monkeypatch.setattr(compiling, "_built", lambda bare, given: made.append(given) or bare)
    graphs = [record(lambda x, n=n: (x.sin() + n,), torch.ones(3)) for n in range(4)]
    for graph in (*graphs, graphs[3], graphs[0]):
        function = compiling.compiled_or_raise(graph, torch.ones(3))
        assert torch.equal(function(torch.zeros(3))[0], graph(torch.zeros(3))[0])
    assert len(made) == 5 and len(compiling._known) == 3


@pytest.mark.parametrize("share, alike", [(0.01, True), (0.02, False)])
def test_one_number_in_a_hundred_may_be_turned_by_rounding(share, alike):
    """Off by far; all others by a thousandth of what is let pass."""
    expected = torch.linspace(1.0, 2.0, 1000)
    found = expected * (1 + 1e-3 * TOLERANCE)
    found[: round(1000 * share)] = 0.0
    assert compiling.agree((expected,), (found,)) is alike
    assert not compiling.agree((expected,), (found.double(),))
    assert not compiling.agree((expected,), (found[:-1],))
    assert not compiling.agree((expected[:-1],), (found,))
    assert compiling.agree((expected[:0],), (found[:0],))


def test_conditionings_are_told_apart_by_content_where_it_can_be_written_down():
    """A lambda cannot be: then it is the very object that counts."""

    none = {}

    def digest(bijections, graph=None):
        roles = SimpleNamespace(
            bijections=bijections,
            supports=none,
            bounds=none,
            factor_graph=graph,
            latent=("z",),
            intervened=(),
            partly_intervened=(),
            discrete=(),
        )
        return sweeps._digest(roles)

    sweeps = compiled_sweeps.CompiledSweeps(True, 10)
    assert digest({"z": 1.0}) == digest({"z": 1.0}) != digest({"z": 2.0})
    held = {"z": lambda x: x}
    assert digest(held) == digest(held) != digest({"z": lambda x: x})
    assert digest({"z": 1.0}, graph=held) != digest({"z": 1.0})


def test_what_compiling_costs_is_learned_as_it_goes(monkeypatch):
    """Three seconds each: half of the way from the 20 s that are guessed at every compilation."""
    clock = itertools.cycle([2.0, 5.0])
    monkeypatch.setattr(compiled_sweeps, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(compiling, "check_compiler", lambda device: None)
    monkeypatch.setattr(compiling, "compiled_or_raise", lambda graph, *examples: graph)
    engine = DCPC(gaussian_pair(), num_particles=4, warmup=2, compile=True)
    state = engine.init({"x": torch.ones(2)}, seed=0)
    for _ in range(16):
        state, _ = engine.sweep(state, adapt=False)
    kinds = engine.compiled._kinds.values()
    number = sum(kind.function is not None for kind in kinds)
    assert number >= 1 and {kind.seconds for kind in kinds} == {3.0}
    assert engine.compiled._cost == pytest.approx(3 + 17 / 2**number)


def test_a_recorded_sweep_counts_what_is_learned_for_the_first_time():
    engine = DCPC(gaussian_pair(), num_particles=4)
    state = engine.init({"x": torch.ones(2)}, seed=0)
    moves = engine.schedule(state).moves(state.sweeps)
    drawn = engine.generator.get_state()
    expected, _ = make_moves(moves, state, engine.generator, adapt=True)
    engine.generator.set_state(drawn)
    _, found, _ = record_sweep(moves, state, engine.generator, adapt=True)
    counts = Parts.of(expected).counts
    assert not Parts.of(state).counts and counts
    assert Parts.of(found).counts == counts


def test_sweeps_ahead_are_counted_down_to_none():
    engine = DCPC(gaussian_pair(), num_particles=4, compile="auto")
    state = engine.init({"x": torch.ones(2)}, seed=0)
    left = []
    engine.compiled.ahead = 2
    for _ in range(4):
        state, _ = engine.sweep(state)
        left.append(engine.compiled.ahead)
    assert left == [1, 0, 0, 0]


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_libraries_without_their_checksum_are_made_anew(before, tmp_path, monkeypatch):
    """In a folder of our own, which is the compiler's within and no longer afterwards."""
    if before is None:
        monkeypatch.delenv(compiling.CACHE, raising=False)
    else:
        monkeypatch.setenv(compiling.CACHE, before)
    monkeypatch.setattr(compiling, "cache_dir", lambda: str(tmp_path))
    monkeypatch.setattr(compiling, "clear_caches", lambda: None)
    own = tmp_path / compiling.OWN
    with compiling._checked_cache():
        assert os.environ[compiling.CACHE] == str(own)
        (own / "deep").mkdir()
        (own / "deep" / "whole.so").write_bytes(b"code")
        (own / "damaged.so").write_bytes(b"code")
    assert os.environ.get(compiling.CACHE) == before
    (own / "damaged.so").write_bytes(b"cody")
    (own / "foreign.so").write_bytes(b"code")
    with compiling._checked_cache():
        assert [path.name for path in own.rglob("*.so")] == ["whole.so"]


@pytest.mark.parametrize("code", [b"a", b"b", b"c", b"d", b"e", b"f"])
def test_a_library_is_whole_where_its_checksum_is_the_very_one(code, tmp_path):
    """Whether the noted one is larger or smaller than that of other bytes."""
    library = tmp_path / "some.so"
    library.write_bytes(b"code")
    library.with_suffix(compiling.CHECKSUM).write_text(compiling._checksum(library))
    assert compiling._is_whole(library)
    library.write_bytes(code)
    assert not compiling._is_whole(library)


@pytest.mark.parametrize("setting", ["auto", True])
@pytest.mark.parametrize("takes", [0.0, 1e9])
def test_what_takes_longer_when_compiled_is_compiled_only_on_demand(setting, takes, monkeypatch):
    monkeypatch.setattr(compiled_sweeps, "least_seconds", lambda function, arguments: takes)
    monkeypatch.setattr(compiling, "check_compiler", lambda device: None)
    monkeypatch.setattr(compiling, "compiled_or_raise", lambda graph, *examples: graph)
    engine = DCPC(gaussian_pair(), num_particles=4, warmup=2, compile=setting)
    engine.compiled._cost = 0.0
    state = engine.init({"x": torch.ones(2)}, seed=0)
    slower = setting == "auto" and takes > 0
    with pytest.warns(CompileWarning, match="takes longer") if slower else nullcontext():
        for _ in range(24):
            state, _ = engine.sweep(state, adapt=False)
            engine.compiled._cost = 0.0
    made = [kind.function for kind in engine.compiled._kinds.values() if kind.function is not None]
    assert bool(made) is not slower


def test_a_cache_is_left_where_compiling_fails(tmp_path, monkeypatch):
    monkeypatch.setenv(compiling.CACHE, "elsewhere")
    with pytest.raises(ZeroDivisionError), compiling._cache_in(str(tmp_path)):
        _ = 1 / 0
    assert os.environ[compiling.CACHE] == "elsewhere"


def broken(*_, **__):
    raise NotImplementedError


@pytest.mark.parametrize("interpreter", [torch.jit.trace, broken])
def test_a_graph_is_replayed_with_and_without_an_interpreter(interpreter, monkeypatch):
    monkeypatch.setattr(torch.jit, "trace", interpreter)
    found = replayed(lambda x, y: (x.sin() * y, x + 1), torch.ones(3), torch.ones(3))
    x = torch.linspace(0.0, 1.0, 3)
    for have, want in zip(found(x, 2 * x), (x.sin() * 2 * x, x + 1), strict=True):
        assert torch.equal(have, want)
    assert isinstance(found, torch.fx.GraphModule) is (interpreter is broken)


def test_what_cannot_be_recorded_is_replayed_as_it_stands(monkeypatch):
    monkeypatch.setattr(torch.jit, "trace", broken)
    found = replayed(lambda x: (x * float(x.sum()),), torch.ones(3))
    assert torch.equal(found(torch.full((3,), 2.0))[0], torch.full((3,), 12.0))


DAMAGED = """
    import sys, pathlib, torch
    from aif_dcpc.inference.model.compiling import compiled_or_raise
    from aif_dcpc.inference.model.recording import record

    graph = record(lambda x: ((x * 2).sin().cumsum(0) + 1,), torch.ones(3, 2))
    function = compiled_or_raise(graph, torch.ones(3, 2))
    assert torch.allclose(function(torch.zeros(3, 2))[0], torch.ones(3, 2))
"""


@needs_compiler
def test_a_damaged_cache_is_survived(tmp_path):
    """Calling a library whose code was overwritten ends a process, so each try has one of its own."""

    def compile_once():
        folder = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TORCHINDUCTOR_VEC_ISA_OK": "0"}
        environment = {**os.environ, **folder}
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(DAMAGED)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first = compile_once()
    assert first.returncode == 0, first.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    libraries = [path for path in files if path.suffix == ".so"]
    assert libraries
    for path in libraries:
        content = path.read_bytes()
        path.write_bytes(content[:4096] + bytes(4096) + content[8192:])
    second = compile_once()
    assert second.returncode == 0, second.stderr
    for path in set(files) - set(libraries):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    third = compile_once()
    assert third.returncode == 0, third.stderr
