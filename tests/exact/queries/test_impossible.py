"""Data of probability zero are refused where they are swept, as their evidence is nothing; rare ones are not."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, lag

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
