"""What compiling is made of, with a compiler that is stood in for: constants, places, numbers, caches."""

import itertools
import os
from pathlib import Path

import pytest
import torch
from compilers import NO_COMPILER

from aif_dcpc.inference.errors import CompileWarning
from aif_dcpc.inference.model import compiling, replay
from aif_dcpc.inference.model.recording import record

# -- graphs ----------------------------------------------------------------------------------------


def test_several_constants_follow_several_arguments_in_order():
    first = torch.tensor([1.0, 2.0, 4.0])
    second = torch.tensor([3.0, 5.0, 9.0])
    one = torch.full((1,), 0.5)
    graph = record(
        lambda x, y, z: (x / first - (y - z) / second + one,), *(torch.ones(3) for _ in range(3))
    )
    whole, constants = compiling._with_constants_as_arguments(graph)
    assert all(torch.equal(a, b) for a, b in zip(constants, (first, second), strict=True))
    places = [torch.full((3,), value) for value in (7.0, 11.0, 2.0)]
    assert torch.allclose(whole(*places, *constants)[0], 7.0 / first - 9.0 / second + 0.5)
    whole.graph.lint()
    order = [node.op for node in whole.graph.nodes]
    assert order[:5] == ["placeholder"] * 5 and "placeholder" not in order[5:]


@pytest.mark.parametrize(
    ("value", "uniform"), [([2.0], True), ([3.0, 2.0], False), ([2.0, 2.0, 3.0], False)]
)
def test_one_number_throughout_is_neither_a_bound_nor_that_of_a_few(value, uniform):
    assert compiling._is_uniform(torch.tensor(value)) is uniform


def test_one_compilation_serves_other_data_of_the_same_layout(monkeypatch):
    """Two graphs that differ in data are one; a graph of more numbers is another."""
    made = []
    monkeypatch.setattr(compiling, "_known", {})
    monkeypatch.setattr(compiling, "_built", lambda bare, given: made.append(given) or bare)
    for data in (torch.arange(3.0), torch.arange(3.0) ** 2, torch.arange(4.0)):
        graph = record(lambda x, data=data: (x - data,), torch.ones(len(data)))
        (found,) = compiling.compiled_or_raise(graph, torch.ones(len(data)))(torch.zeros(len(data)))
        assert torch.equal(found, -data)
    assert [len(given[0]) for given in made] == [3, 4]


def test_sixty_four_graphs_are_remembered(monkeypatch):
    monkeypatch.setattr(compiling, "_known", dict.fromkeys(range(70)))
    compiling._forget()
    assert list(compiling._known) == list(range(6, 70))


# -- a compiler that is stood in for ---------------------------------------------------------------


def doubled_and_one(x):
    return (2 * x + 1,)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache and a memory of compiled graphs that nobody else has; every device can be compiled for."""
    monkeypatch.setattr(compiling, "_known", {})
    monkeypatch.setattr(compiling, "cache_dir", lambda: str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(compiling, "clear_caches", lambda: None)
    monkeypatch.setattr(compiling, "check_compiler", lambda device: None)
    return tmp_path / "not" / "yet" / compiling.OWN


def test_what_is_compiled_right_is_what_is_called(own_cache, monkeypatch):
    calls = []
    monkeypatch.setattr(
        compiling, "compile_fx", lambda *given: lambda x: calls.append(x) or doubled_and_one(x)
    )
    graph = record(doubled_and_one, torch.ones(3))
    function = compiling.compiled_or_raise(graph, torch.ones(3))
    before = len(calls)
    assert torch.equal(function(torch.ones(3))[0], torch.full((3,), 3.0))
    assert len(calls) == before + 1


def test_a_compiled_graph_is_compared_beside_its_examples_too(own_cache, monkeypatch):
    """At the examples, ones, the square is as good as the number."""
    monkeypatch.setattr(compiling, "compile_fx", lambda *given: lambda x: doubled_and_one(x * x))
    with pytest.raises(compiling.CannotCompile, match="other numbers"):
        compiling.compiled_or_raise(record(doubled_and_one, torch.ones(3)), torch.ones(3))


def test_what_fails_in_a_cache_is_tried_in_an_empty_one(own_cache, monkeypatch):
    folders = []

    def compile_(graph, examples):
        folders.append(os.environ[compiling.CACHE])
        if len(folders) == 1:
            raise OSError("damaged")
        return doubled_and_one

    monkeypatch.setattr(compiling, "compile_fx", compile_)
    graph = record(doubled_and_one, torch.ones(3))
    function = compiling.compiled_or_raise(graph, torch.ones(3))
    assert torch.equal(function(torch.zeros(3))[0], torch.ones(3))
    assert folders[0] == str(own_cache) and folders[1] != folders[0]
    assert own_cache.exists() and not Path(folders[1]).exists()


def test_who_asked_is_named_where_a_graph_is_not_compiled():
    graph = record(lambda x: (x.cos() - 3.5,), torch.ones(2))
    with NO_COMPILER, pytest.warns(CompileWarning) as warned:
        compiling.compiled(graph, torch.ones(2))
    assert warned[0].filename == __file__


@pytest.mark.parametrize("device", ["cuda", "meta", "xpu"])
def test_other_devices_need_no_compiler_of_the_processor(device):
    with NO_COMPILER:
        compiling.check_compiler(torch.device(device))


# -- numbers that are compared ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [torch.arange(4), torch.ones(4)[::2], torch.ones(3, 1).expand(3, 4)]
)
def test_integers_and_layouts_that_a_copy_loses_stay_where_they_are(value):
    assert compiling._moved(value) is value


def test_a_place_near_a_value_is_another_by_a_few_hundredths():
    value = torch.linspace(1.0, 5.0, 7)
    ratio = compiling._moved(value) / value
    assert ((ratio - 1).abs() > 0.01).all() and ((ratio - 1).abs() < 0.1).all()
    assert torch.equal(value, torch.linspace(1.0, 5.0, 7))


@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("off", "alike"), [(1.0, True), (1.1, False)])
def test_what_is_not_finite_is_compared_but_says_nothing_of_the_size(special, off, alike):
    """Of numbers near 1e-4 a tenth is far, however large the one beside them is."""
    expected = torch.full((4,), 1e-4)
    expected[0] = special
    assert compiling.agree((expected,), (off * expected,)) is alike
    other = torch.full((4,), 1e-4)
    assert not compiling.agree((expected,), (other,))


@pytest.mark.parametrize(("found", "alike"), [(1e-10, True), (1e-8, False), (-1e-8, False)])
def test_beside_zeros_a_thousandth_of_a_millionth_is_let_pass(found, alike):
    assert compiling.agree((torch.zeros(3),), (torch.full((3,), found),)) is alike


def test_as_many_tensors_are_compared_as_there_are():
    one = torch.ones(2)
    assert compiling.agree((one, 2 * one), (one, 2 * one))
    assert not compiling.agree((one, 2 * one), (one, one))
    with pytest.raises(ValueError, match="zip"):
        compiling.agree((one,), (one, one))


# -- caches ----------------------------------------------------------------------------------------


def test_a_library_that_another_process_removes_first_is_gone(own_cache, monkeypatch):
    own_cache.mkdir(parents=True)
    library = own_cache / "some.so"
    library.write_bytes(b"code")
    monkeypatch.setattr(compiling, "_is_whole", lambda path: bool(path.unlink()))
    with compiling._checked_cache():
        assert not library.exists()


# -- replaying -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"compiles": False}, {"compiles": True}])
def test_a_graph_is_compiled_where_this_is_asked_for(options, monkeypatch):
    asked = []
    monkeypatch.setattr(
        compiling, "compiled", lambda graph, *examples: asked.append(examples) or doubled_and_one
    )
    found = replay.replayed(doubled_and_one, torch.ones(3), **options)
    assert (found is doubled_and_one) is bool(asked) is options.get("compiles", False)
    assert torch.equal(found(torch.zeros(3))[0], torch.ones(3))


def test_an_interpreter_has_made_its_plan_before_it_is_handed_over(monkeypatch):
    calls = itertools.count()
    monkeypatch.setattr(torch.jit, "trace", lambda *given, **options: lambda x: (x + next(calls),))
    found = replay.replayed(doubled_and_one, torch.ones(3))
    assert torch.equal(found(torch.zeros(3))[0], torch.full((3,), float(replay.SETTLING)))
    assert replay.SETTLING >= 1
