"""Tables of kernels: values, combinations of parents, particles' parameters, and what they tell, by definition."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Dirichlet, Independent, Normal, Poisson

from aif_dcpc.agents import kernel_tables
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.kernel_tables import (
    KernelTable,
    TableMemory,
    finite_values,
    indices,
    information,
    reads_particles,
    spread,
    tabulate,
)
from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.model.factor_graph import Argument


def world() -> tuple[GraphicalModel, DCPC, object]:
    """A place of three that an action and a tide move; a chance that is a parameter; a pair of lights, a level."""
    model = GraphicalModel()
    model.add_input("action")
    model.add_input("tide")
    model.add_site("bias", lambda: Dirichlet(torch.ones(3)), [], scope="global")

    def place(past, action, tide):
        shift = (past + action + tide.long()) % 3
        return Categorical(0.7 * torch.nn.functional.one_hot(shift, 3) + 0.1)

    model.add_site("place", place, [lag("place"), lag("action"), "tide"], scope="slice",
                   initial=lambda tide: Categorical(torch.ones(3).expand(*tide.shape, 3)))  # fmt: skip

    def word(place, bias):
        return Categorical(0.5 * bias + 0.5 * torch.nn.functional.one_hot(place, 3))

    model.add_site("word", word, ["place", "bias"], scope="slice")
    model.add_site(
        "lights", lambda place: Independent(Bernoulli((place.float()[..., None] + 1).expand(*place.shape, 2) / 4), 1),
        ["place"], scope="slice",
    )  # fmt: skip
    model.add_site("sound", lambda lights: Categorical(torch.stack([lights.sum(-1) + 1, lights[..., 0] + 2], -1)),
                   ["lights"], scope="slice")  # fmt: skip
    model.add_site("level", lambda place: Normal(place.float(), 1.0), ["place"], scope="slice")
    model.add_site("number", lambda place: Poisson(place.float() + 1), ["place"], scope="slice")
    engine = DCPC(model, num_particles=2)
    data = {
        "action": torch.zeros(1, 2, dtype=torch.long), "tide": torch.zeros(1, 2), "word": torch.zeros(1, 2).long(),
        "lights": torch.zeros(1, 2, 2), "sound": torch.zeros(1, 2).long(), "level": torch.zeros(1, 2), "number": torch.zeros(1, 2),
    }  # fmt: skip
    state = engine.init(data, seed=0)
    return model, engine, state


MODEL, ENGINE, STATE = world()
FACTORS = STATE.conditioning.factor_graph.factors_by_key
VALUES = {"place": torch.arange(3), "action": torch.arange(2), "word": torch.arange(3)}
OWN = Argument("place")
READ = {a.site: a for a in FACTORS["place"].inputs if a != OWN}
PAST, ACTION, TIDE = READ["place"], READ["action"], READ["tide"]


def test_all_values_of_a_site_are_listed() -> None:
    assert finite_values(STATE, "place").tolist() == [0, 1, 2]
    assert finite_values(STATE, "word").tolist() == [0, 1, 2]
    lights = finite_values(STATE, "lights")
    assert {tuple(row) for row in lights.tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)} and len(
        lights
    ) == 4
    assert finite_values(STATE, "level") is None and finite_values(STATE, "number") is None


def test_too_many_values_are_no_list(monkeypatch) -> None:
    monkeypatch.setattr(kernel_tables, "MAX_VALUES", 4)
    assert len(finite_values(STATE, "lights")) == 4
    monkeypatch.setattr(kernel_tables, "MAX_VALUES", 3)
    assert finite_values(STATE, "lights") is None


def test_values_are_found_among_all() -> None:
    every = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    asked = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 1]], [[0, 1], [1, 0]]])
    assert indices(every, asked).tolist() == [[2, 0], [3, 1], [1, 2]]
    assert indices(torch.tensor([2, 3, 4]), torch.tensor([4, 2])).tolist() == [2, 0]


def test_a_table_holds_the_law_at_every_combination() -> None:
    for tide in (0, 1):
        found = tabulate(STATE, FACTORS["place"], VALUES, {TIDE: torch.tensor(float(tide))})
        assert found.site == "place" and {a.site for a in found.parents} == {"place", "action"}
        assert found.chances.shape[0] == 1
        table = found.spread((PAST, ACTION, OWN))[0]
        for past, action, now in np.ndindex(3, 2, 3):
            expected = 0.1 + 0.7 * ((past + action + tide) % 3 == now)
            assert table[past, action, now] == pytest.approx(expected, abs=1e-6)


def test_a_parent_may_be_a_vector() -> None:
    lights = finite_values(STATE, "lights")
    found = tabulate(STATE, FACTORS["sound"], {"lights": lights, "sound": torch.arange(2)}, {})
    for row, (first, second) in zip(found.chances[0], lights.tolist(), strict=True):
        weights = np.array([first + second + 1, first + 2])
        assert np.allclose(row, weights / weights.sum(), atol=1e-6)


def test_a_table_of_a_parameter_differs_from_particle_to_particle() -> None:
    found = tabulate(STATE, FACTORS["word"], VALUES, {})
    bias = STATE.constrained("bias")[:, 0].numpy()
    assert np.abs(bias[0] - bias[1]).max() > 0.05
    expected = 0.5 * bias[:, None] + 0.5 * np.eye(3)
    assert np.allclose(found.chances, expected, atol=1e-6)
    weights = np.array([0.25, 0.75])
    mean = found.mean(weights)
    assert (
        np.allclose(mean.chances, np.tensordot(weights, expected, 1)[None])
        and mean.mean(weights) is mean
    )
    told = information(found, weights)
    for place in range(3):
        rows = expected[:, place]
        whole = weights @ rows
        entropy = [-(r * np.log(r)).sum() for r in (whole, *rows)]
        assert told[0, place] == pytest.approx(entropy[0] - weights @ entropy[1:])
    sure = KernelTable("x", (), np.eye(2))
    assert information(sure, np.array([0.5, 0.5])) == pytest.approx(math.log(2))
    alike = KernelTable("x", (), np.full((2, 3), 1 / 3))
    assert (
        information(alike, weights) == pytest.approx(0, abs=1e-12)
        and information(alike, weights) >= 0
    )


def test_axes_are_laid_out_and_taken() -> None:
    a, b, c = Argument("a"), Argument("b"), Argument("c")
    values = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    found = spread(values, (a, b, c), (c, Argument("d"), a, b))
    assert found.shape == (1, 4, 1, 2, 3)
    for i, j, k in np.ndindex(2, 3, 4):
        assert found[0, k, 0, i, j] == values[0, i, j, k]
    table = KernelTable("c", (a, b), values)
    taken = table.taken(b, 2)
    assert taken.parents == (a, b) and np.array_equal(taken.chances, values[:, :, [2]])
    assert table.taken(Argument("z"), 1) is table
    assert np.array_equal(table.spread((a, b, c)), values)


def test_tables_that_are_too_large_or_miss_a_value_are_refused(monkeypatch) -> None:
    given = {TIDE: torch.tensor(0.0)}
    monkeypatch.setattr(kernel_tables, "MAX_ENTRIES", 18)
    tabulate(STATE, FACTORS["place"], VALUES, given)
    monkeypatch.setattr(kernel_tables, "MAX_ENTRIES", 17)
    with pytest.raises(AgentError, match="'place': a table of 6 combinations"):
        tabulate(STATE, FACTORS["place"], VALUES, given)
    monkeypatch.undo()
    with pytest.raises(AgentError, match=r"its 2 values sum to 0\.2"):
        tabulate(STATE, FACTORS["place"], {**VALUES, "place": torch.arange(2)}, given)


def test_what_was_read_is_remembered_until_something_changes() -> None:
    """By input; never what particles make different; nothing of another model."""
    memory = TableMemory().of(MODEL)
    assert memory.of(MODEL) is memory
    assert memory.finite_values(STATE, "place") is memory.finite_values(STATE, "place")
    zero, one = ({TIDE: torch.tensor(float(t))} for t in (0, 1))
    first = memory.tabulate(STATE, FACTORS["place"], VALUES, zero)
    assert memory.tabulate(STATE, FACTORS["place"], VALUES, zero) is first
    other = memory.tabulate(STATE, FACTORS["place"], VALUES, one)
    assert not np.array_equal(other.chances, first.chances)
    words = memory.tabulate(STATE, FACTORS["word"], VALUES, {})
    assert memory.tabulate(STATE, FACTORS["word"], VALUES, {}) is not words
    assert reads_particles(STATE, FACTORS["word"], VALUES)
    assert not reads_particles(STATE, FACTORS["place"], VALUES)
    memory.carried[b"x"] = np.ones(2)
    memory.of(MODEL)
    assert memory.tables and memory.values and memory.carried
    memory.of(world()[0])
    assert not (memory.tables or memory.values or memory.carried)
    assert replace(memory).model is memory.model
