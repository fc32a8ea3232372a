"""What evidence and tempering may cost: samples as many as the error asks for, clouds and paths within bounds."""

import math

import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.experiments.evidence.models import KNOWN
from aif_dcpc.experiments.exactness import linear_gaussian
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.queries import evidence
from aif_dcpc.inference.queries.importance import Importance
from aif_dcpc.inference.smc import tempering
from aif_dcpc.inference.smc.annealing import AnnealingPath

# -- importance samples ----------------------------------------------------------------------------


def even_and_odd(number, size):
    """Weights 1 + size and 1 - size by turns: their standard error is size / sqrt(number - 1)."""
    weights = 1 + size * (-1.0) ** torch.arange(number)
    return Importance(weights.double().log()[:, None], torch.zeros(4, 1).double())


def test_as_many_samples_as_the_error_asks_for():
    found = even_and_odd(101, 0.6)
    assert abs(float(found.standard_error) - 0.06) < 1e-3
    aim = evidence.MARGIN * evidence.MAX_ERROR
    needed = evidence._samples_needed(found)
    assert needed == math.ceil(101 * (float(found.standard_error) / aim) ** 2)
    assert evidence._samples_needed(even_and_odd(1001, 0.6)) == 0  # .019 will do
    heavy = Importance(-2 * torch.arange(1, 4001).double().log()[:, None], found.log_weights)
    assert float(heavy.standard_error) > evidence.MAX_ERROR  # but its tail index is 2
    assert evidence._samples_needed(heavy) == 0


@pytest.mark.parametrize(
    ("name", "most", "small"),
    [("MORE_SAMPLES", 16, True), ("MORE_SAMPLES", 1, False), ("MOST_DRAWN", 3 * 64, False)],
)
def test_few_samples_are_followed_by_more(monkeypatch, name, most, small):
    monkeypatch.setattr(evidence, name, most)
    case = linear_gaussian.collider()
    engine = DCPC(case.model, num_particles=64)
    state = engine.init(case.data, seed=0)
    found = evidence._by_importance(engine, state, 64, 4096, strict=True)
    assert (float(found.standard_error) <= evidence.MAX_ERROR) is small
    assert bool(found.warnings) is not small
    assert abs(float(found.log_evidence) - case.log_evidence) < 0.15


# -- paths -----------------------------------------------------------------------------------------


def wide(size, batch=1):
    """A cloud of two particles over so many coordinates."""
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(torch.zeros(size - 2), 1.0))
    model.add_site("b", lambda: Normal(0.0, 1.0), scope="slice")
    model.add_site("x", lambda a: Normal(a.sum(-1), 1.0), ["a"])
    return DCPC(model, num_particles=2).init({"x": torch.zeros(batch)}, length=2, seed=0)


def test_coordinates_of_a_particle_are_counted_over_slices():
    assert tempering.num_coordinates(wide(7, batch=3)) == 7


def test_a_path_is_long_from_some_thousand_coordinates_on():
    assert not evidence._is_long(wide(1024))
    assert evidence._is_long(wide(1025))
    assert not evidence._is_long(wide(256, batch=8))
    assert evidence._is_long(wide(256, batch=9))


def test_a_long_path_is_not_begun_by_itself(monkeypatch):
    known = KNOWN["32 modes"]()
    monkeypatch.setattr(evidence, "MOST_ANNEALED", 1)
    monkeypatch.setattr(evidence, "_climb", lambda *_: pytest.fail("annealed"))
    with pytest.warns(ConvergenceWarning) as caught:
        found = DCPC(known.model).evidence(known.data, seed=0)
    assert found.method == "gauss_markov"
    assert [str(w.message) for w in caught] == list(found.warnings)
    assert "was not tried by itself" in found.warnings[-1]
    assert "1 x 5 latent coordinates" in found.warnings[-1]


def test_sweeps_of_a_path_are_those_of_the_nearest_knots():
    path = AnnealingPath(torch.tensor([0.2, 0.25, 1.0]), (0.2, 1.0), [{}, {}], (3, 5))
    assert tempering.num_sweeps(path) == 3 + 3 + 5


@pytest.mark.parametrize(
    ("spare", "chains", "most"), [(0, 32, True), (-1, 32, False), (0, 31, False)]
)
def test_clouds_grow_within_a_budget(monkeypatch, spare, chains, most):
    """Four times 2 particles of 4 data, 7 coordinates each, along 8 sweeps."""
    path = AnnealingPath(torch.tensor([0.5, 1.0]), (0.5, 1.0), [{}, {}], (3, 5))
    monkeypatch.setattr(tempering, "MOST_WORK", 4 * 2 * 4 * 7 * 8 + spare)
    monkeypatch.setattr(tempering, "MOST_CHAINS", chains)
    assert tempering._may_grow(wide(7, batch=4), path) is most


def test_a_cloud_that_may_not_grow_is_returned_as_it_is(monkeypatch):
    monkeypatch.setattr(tempering, "MOST_WORK", 1)
    case = linear_gaussian.chain_of_two()
    engine = DCPC(case.model, num_particles=16)
    path = AnnealingPath(torch.tensor([0.5, 1.0]), (1.0,), [{}], (2,))
    found = tempering.climb_until(engine, path, lambda _: False, case.data)
    assert found.state.num_particles == tempering.ISLANDS * tempering.LEAST_ISLAND
