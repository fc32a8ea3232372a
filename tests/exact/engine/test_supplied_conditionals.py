"""Conditionals that a model brings along: drawn from where they are exact, and left out where they are not."""

import pytest
import torch
from clouds import close
from models import gaussian_pair, gaussian_pair_evidence
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.moves.user_conditional import UserConditional


def with_its_own_conditional():
    """z ~ Normal(0, 1), x ~ Normal(z, .5), with the exact draw of z given x."""
    model = gaussian_pair()
    model.add_conditional(
        ["z"],
        lambda values, generator: {
            "z": 0.8 * values["x"] + 0.2**0.5 * torch.randn(values["z"].shape, generator=generator)
        },
    )
    return model


def test_a_supplied_conditional_is_not_used_where_it_would_not_be_exact():
    """It knows nothing of temperatures, nor of data that were set by hand."""
    engine = DCPC(with_its_own_conditional(), num_particles=2000)
    data = {"x": torch.tensor([2.0])}
    state, info = engine.run(engine.init(data, seed=0), 1)
    assert info.acceptance["z"] == 1
    assert abs(state.particles["z"].mean() - 1.6) < 5 * (0.2 / 2000) ** 0.5
    exact = gaussian_pair_evidence(data["x"])
    assert (engine.log_evidence(data, method="annealed", seed=0) - exact).abs() < 0.1
    tempered, _ = engine.temper(data, seed=0)
    assert abs(tempered.particles["z"].mean() - 1.6) < 0.1
    state, _ = engine.run(engine.init(do={"x": torch.tensor([2.0])}, seed=0), 60)
    assert abs(state.particles["z"].mean()) < 5 / 2000**0.5
    assert abs(state.particles["z"].var() - 1) < 0.2


@pytest.mark.parametrize("knows_masks", [False, True])
def test_a_supplied_conditional_is_not_used_where_some_of_what_it_reads_is_set(knows_masks):
    """x is set at the first datum, and inferred at the second: z keeps its prior, and has N(.8 y / 1.8, 1 / 1.8)."""
    model = GraphicalModel()

    def draw(values, generator):
        noise = torch.randn(values["z"].shape, generator=generator)
        return {"z": 0.8 * values["x"] + 0.2**0.5 * noise}

    def draw_by_masks(values, generator, masks):
        return draw(values, generator)

    model.add_site(
        "z", lambda: Normal(0.0, 1.0), conditional=draw_by_masks if knows_masks else draw
    )
    model.add_site("x", lambda z: Normal(z, 0.5), ["z"])
    model.add_site("y", lambda x: Normal(x, 1.0), ["x"])
    engine = DCPC(model, num_particles=2000)
    y = torch.tensor([2.0, 2.0])
    masks = {"x": torch.tensor([True, False])}
    seen = engine.init({"x": y, "y": y}, masks=masks, seed=0)
    assert UserConditional(("z",)) in engine.schedule(seen).moves(0)
    state = engine.init({"y": y}, do={"x": y}, masks=masks, seed=0)
    state, _ = engine.run(state, 60)
    variance = 1.25 / 2.25
    assert close(state.particles["z"][:, 0], 0.0, 1.0)
    assert close(state.particles["z"][:, 1], 2 / 2.25, variance)
