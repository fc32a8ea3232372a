"""Coupled discrete sites in `sample` and in sweeps, against enumeration: a 0/1 gate locks sites that move alone."""

import itertools
import math

import pytest
import torch
from compilers import needs_compiler
from torch.distributions import Bernoulli, Normal

from aif_dcpc.experiments.posteriordb import exact_laws
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.errors import CompileWarning
from aif_dcpc.inference.moves import elimination
from aif_dcpc.inference.moves.elimination import JointDiscreteDraw, coupled_groups

P_LEFT = 0.1
P_RIGHT = 0.2
P_SEEN = {0: 0.05, 1: 0.9}


def gate():
    """Either cause opens the gate for certain; the gate is seen through noise."""
    model = GraphicalModel()
    model.add_site("left", lambda: Bernoulli(torch.tensor(P_LEFT)))
    model.add_site("right", lambda: Bernoulli(torch.tensor(P_RIGHT)))
    model.add_site("open", lambda a, b: Bernoulli((a + b).clamp(max=1.0)), ["left", "right"])
    model.add_site("seen", lambda o: Bernoulli(torch.where(o > 0, P_SEEN[1], P_SEEN[0])), ["open"])
    return model, {"seen": torch.ones(1)}


def posterior_of_gate():
    """P(left), P(right), P(open) given that the gate is seen, by enumeration."""
    total = 0.0
    found = [0.0, 0.0, 0.0]
    for left, right in itertools.product((0, 1), repeat=2):
        gate_open = int(left or right)
        weight = (P_LEFT if left else 1 - P_LEFT) * (P_RIGHT if right else 1 - P_RIGHT)
        weight *= P_SEEN[gate_open]
        total += weight
        found = [f + weight * v for f, v in zip(found, (left, right, gate_open), strict=True)]
    return [f / total for f in found]


def test_a_gate_of_zeros_and_ones_is_drawn_exactly():
    """12,800 independent draws: a right sampler fails one of three at 5 standard errors 2 in a million."""
    model, data = gate()
    draws = DCPC(model).sample(data, seed=0)
    assert not draws.warnings
    for name, expected in zip(("left", "right", "open"), posterior_of_gate(), strict=True):
        error = math.sqrt(expected * (1 - expected) / draws[name].numel())
        assert abs(float(draws[name].mean()) - expected) < 5 * error
    assert bool((draws["open"] == (draws["left"] + draws["right"]).clamp(max=1)).all())


# -- sweeps ----------------------------------------------------------------------------------------


def closed(engine, data):
    """Sixteen particles whose gates are all closed: one at a time, nothing ever moves."""
    nothing = {n: torch.zeros(16, 1) for n in ("left", "right", "open")}
    return engine.init(data, particles=nothing, seed=0)


def test_sweeps_draw_a_gate_at_once_wherever_particles_begin():
    """Every sweep is 16 independent draws: 8,000 in all, 5 standard errors."""
    model, data = gate()
    engine = DCPC(model, num_particles=16)
    state, info = engine.run(closed(engine, data), 500, record=["left", "right", "open"])
    for name, expected in zip(("left", "right", "open"), posterior_of_gate(), strict=True):
        found = info.trace[name]
        error = math.sqrt(expected * (1 - expected) / found.numel())
        assert abs(float(found.mean()) - expected) < 5 * error
    assert bool((info.trace["open"] == (info.trace["left"] + info.trace["right"] > 0)).all())
    assert engine.schedule(state).moves(0) == engine.schedule(state).moves(1)


def kinds(model, data, **options):
    engine = DCPC(model, num_particles=4, **options)
    state = engine.init(data, seed=0)
    return sorted(type(m).__name__ for m in engine.schedule(state).moves(0))


def test_only_sites_that_hold_each_other_are_drawn_at_once():
    model, data = gate()
    model.add_site("alone", lambda: Bernoulli(torch.tensor(0.5)))
    model.add_site("x", lambda a: Normal(a, 1.0), ["alone"])
    data = data | {"x": torch.zeros(1)}
    assert kinds(model, data) == ["Gibbs", "JointDiscreteDraw"]
    causes = {"left": "gibbs", "right": "gibbs"}  # the user's choice
    assert kinds(model, data, moves=causes) == ["Gibbs"] * 4
    assert kinds(model, data, moves={"open": "gibbs"}) == ["Gibbs"] * 2 + ["JointDiscreteDraw"]
    assert kinds(model, data, update="paper") == ["Gibbs"] * 4
    noisy = GraphicalModel()
    noisy.add_site("left", lambda: Bernoulli(torch.tensor(P_LEFT)))
    noisy.add_site("open", lambda a: Bernoulli(0.1 + 0.8 * a), ["left"])
    noisy.add_site("seen", lambda o: Bernoulli(0.1 + 0.8 * o), ["open"])
    assert kinds(noisy, {"seen": torch.ones(1)}) == ["Gibbs", "Gibbs"]


@needs_compiler
def test_sweeps_with_tables_are_not_recorded():
    model, data = gate()
    engine = DCPC(model, num_particles=16, compile=True)
    with pytest.warns(CompileWarning, match="keeps tables"):
        _, info = engine.run(closed(engine, data), 70, record=["open"])
    assert 0.5 < float(info.trace["open"].mean()) < 1


# -- groups ----------------------------------------------------------------------------------------


def test_sites_that_share_no_factor_are_groups_of_their_own():
    model, _ = gate()
    model.add_site("alone", lambda: Bernoulli(torch.tensor(0.5)))
    model.add_site("x", lambda a: Normal(a, 1.0), ["alone"])
    data = {"seen": torch.ones(1), "x": torch.zeros(1)}
    state = DCPC(model, num_particles=2).init(data, seed=0)
    assert list(coupled_groups(state, state.conditioning.latent)) == [("left", "right", "open")]


# -- a lattice, alone and beside a latent ----------------------------------------------------------


def lattice(side=10):
    """Spins of which neighbours are alike with odds of 3 to 1: tables of 2^14 values."""
    model = GraphicalModel()
    names = [f"s{i}" for i in range(side**2)]
    for name in names:
        model.add_site(name, lambda: Bernoulli(torch.tensor(0.5)))
    across = [(i, i + 1) for i in range(side**2) if (i + 1) % side]
    down = [(i, i + side) for i in range(side**2 - side)]
    bonds = {f"b{i}_{j}": [names[i], names[j]] for i, j in across + down}
    for bond, ends in bonds.items():
        model.add_site(bond, lambda s, t: Bernoulli(0.25 + 0.5 * (s == t).float()), ends)
    return model, names, dict.fromkeys(bonds, torch.ones(1))


def test_a_lattice_is_drawn_at_once_where_no_particle_changes_its_tables(monkeypatch):
    """Correlations of neighbours by a transfer matrix: odds of 3 to 1 are a coupling of (log 3) / 2."""
    monkeypatch.setattr(exact_laws, "COUPLING", math.log(3) / 2)
    model, names, data = lattice()
    state = DCPC(model, num_particles=2000).init(data, seed=0)
    (group,) = coupled_groups(state, names)
    with torch.no_grad():
        drawn, _ = JointDiscreteDraw(group)(state, torch.Generator().manual_seed(0), adapt=False)
    spins = 2 * torch.cat([drawn.values[n] for n in names], 1) - 1
    expected = exact_laws.correlations()
    for i, j in ((0, 1), (0, 10), (44, 45), (44, 55), (0, 99)):
        error = math.sqrt((1 - expected[i, j] ** 2) / len(spins))
        assert abs(float((spins[:, i] * spins[:, j]).mean()) - expected[i, j]) < 5 * error


def test_large_tables_are_not_made_for_every_particle():
    """The same lattice beside a continuous latent that one of its spins moves."""
    model, names, data = lattice()
    model.add_site("z", lambda s: Normal(s, 1.0), ["s0"])
    state = DCPC(model, num_particles=2).init(data, seed=0)
    assert not list(coupled_groups(state, names))


def seen_gate(mean):
    """A gate with a datum of its own for each of the causes, so that its tables read what can change."""
    model, data = gate()
    model.add_site("shift", lambda: Normal(mean, 1.0))
    model.add_site("x", lambda a, shift: Normal(a + shift, 0.5), ["left", "shift"])
    return model, data | {"x": torch.tensor([1.0])}


def test_tables_are_made_again_where_what_they_read_has_changed(monkeypatch):
    """Once for data that stay; at every draw beside a latent that moves."""
    made = []
    once = elimination.eliminate
    monkeypatch.setattr(elimination, "eliminate", lambda *given: made.append(1) or once(*given))
    model, data = gate()
    state = DCPC(model, num_particles=4000).init(data, seed=0)
    move = JointDiscreteDraw(("left", "right", "open"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            state, _ = move(state, generator, adapt=False)
        assert len(made) == 1
        unseen = state.with_values({"seen": torch.zeros_like(state.values["seen"])})
        unseen, _ = move(unseen, generator, adapt=False)
        assert len(made) == 2
        shut = 0.95 * (1 - P_LEFT) * (1 - P_RIGHT)
        opened = 0.1 * (1 - (1 - P_LEFT) * (1 - P_RIGHT))
        expected = opened / (opened + shut)
        error = math.sqrt(expected * (1 - expected) / 4000)
        assert abs(float(unseen.values["open"].mean()) - expected) < 5 * error
        model, data = seen_gate(0.0)
        state = DCPC(model, num_particles=4000).init(data, seed=0)
        for mean in (3.0, -3.0):
            state = state.with_values({"shift": torch.full_like(state.values["shift"], mean)})
            state, _ = move(state, generator, adapt=False)
        assert len(made) == 4
