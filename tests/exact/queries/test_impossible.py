"""Data of probability zero are refused where they are swept, as their evidence is nothing; rare ones are not."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, lag
from aif_dcpc.inference.queries.impossible import refuse_impossible

STILL = torch.eye(2)
MOVING = torch.tensor([[0.99, 0.01], [0.5, 0.5]])


def chain(move, show, first=(0.5, 0.5)):
    """A hidden chain `z` by which `x` shows one of three symbols."""
    model = GraphicalModel()
    start = torch.tensor(first)
    model.add_site(
        "z",
        lambda z: Categorical(move[z]),
        [lag("z")],
        initial=lambda: Categorical(start),
        scope="slice",
    )
    model.add_site("x", lambda z: Categorical(show[z]), ["z"], scope="slice")
    return model


NEVER = torch.tensor([[0.5, 0.5, 0.0], [0.3, 0.7, 0.0]])
APART = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
IMPOSSIBLE = {
    "a symbol that no state shows": (MOVING, NEVER, [[0, 1, 1], [0, 1, 2]], "site 'x', slice 2"),
    "states that never follow": (STILL, APART, [[0, 0, 0], [0, 1, 1]], "slice [01]"),
}


@pytest.mark.parametrize("move, show, seen, where", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_datum_of_probability_zero_is_refused_by_site_and_slice(move, show, seen, where):
    data = {"x": torch.tensor(seen)}
    engine = DCPC(chain(move, show))
    assert torch.isfinite(engine.log_evidence(data, seed=0)).tolist() == [True, False]
    with pytest.raises(ClampError, match=where + ".*probability zero"):
        engine.run(engine.init(data, seed=0), 10)
    with pytest.raises(ClampError, match=where + ".*probability zero"):
        engine.sample(data, seed=0)


def test_a_symbol_of_a_rare_state_is_not():
    """No draw from the prior is in the second state, which alone shows 2."""
    show = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    engine = DCPC(chain(MOVING, show, (1.0, 0.0)), num_particles=2)
    state = engine.init({"x": torch.tensor([[0, 1, 2]])}, seed=0)
    state, _ = engine.run(state, 5)
    assert (state.particles["z"] == torch.tensor([0, 0, 1])).all()


def test_a_probability_that_is_rounded_to_one_is_not_zero():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(100.0, 1.0))
    model.add_site("x", lambda z: Bernoulli(torch.sigmoid(z)), ["z"])
    engine = DCPC(model)
    _, info = engine.run(engine.init({"x": torch.zeros(1)}, seed=0), 5)
    assert torch.isfinite(info.log_joint).all()


# -- without time, shared, at another temperature --------------------------------------------------


def shown(table, scope="episode"):
    """A state `z`, perhaps shared by all data, by which `x` shows one of three symbols."""
    model = GraphicalModel()
    model.add_site("z", lambda: Categorical(torch.tensor([0.5, 0.5])), scope=scope)
    model.add_site("x", lambda z: Categorical(table[z]), ["z"])
    return DCPC(model, num_particles=8)


def test_without_time_no_slice_is_named():
    engine = shown(NEVER)
    state = engine.init({"x": torch.tensor([1, 2])}, seed=0)
    with pytest.raises(ClampError, match=r"^site 'x': the data have probability zero"):
        refuse_impossible(state)
    refuse_impossible(engine.init({"x": torch.tensor([1, 0])}, seed=0))


def test_data_that_are_possible_one_by_one_need_not_be_together():
    """The first state shows 0 alone, the second 1 or 2: no shared state shows both 0 and 1."""
    table = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    seen = {"x": torch.tensor([0, 1, 0])}
    refuse_impossible(shown(table).init(seed=0, data=seen))
    together = shown(table, "global")
    with pytest.raises(ClampError, match="probability zero"):
        refuse_impossible(together.init(seed=0, data=seen))
    refuse_impossible(together.init({"x": torch.tensor([2, 1, 2])}, seed=0))


def test_particles_that_are_wrong_are_no_proof():
    """All stand in the state that does not show the datum; the other one does."""
    table = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    engine = shown(table)
    state = engine.init({"x": torch.tensor([1, 0])}, seed=0)
    wrong = torch.zeros_like(state.values["z"])
    refuse_impossible(state.with_values({"z": wrong}))


def test_a_datum_that_no_latent_explains_is_refused():
    """Beside a latent that has nothing to do with it, and at the posterior's own temperature only."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda: Bernoulli(torch.tensor(0.0)))
    state = DCPC(model, num_particles=4).init({"x": torch.ones(2)}, seed=0)
    with pytest.raises(ClampError, match="site 'x'"):
        refuse_impossible(state)
    refuse_impossible(state.replace(inverse_temperature=torch.full((2,), 0.5)))


def test_the_slice_of_the_datum_that_is_lost_is_named():
    """A possible datum, whose chains move, stands before the impossible one."""
    engine = DCPC(chain(MOVING, NEVER), num_particles=8)
    seen = torch.zeros(3, 6, dtype=torch.long)
    seen[1, 4] = 2
    with pytest.raises(ClampError, match="slice 4: the data"):
        refuse_impossible(engine.init({"x": seen}, seed=0))
