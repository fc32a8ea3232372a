"""Resampling and arrivals against counting: offspring, lineages, weights, evidence."""

import math

import pytest
import torch
from models import random_walk
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel, MoveError, lag
from aif_dcpc.inference.model.resampling import (
    ess,
    resample_lineages,
    systematic,
    take,
    unique_ancestors,
)


def cloud(particles=6, batch=2):
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    return DCPC(model, num_particles=particles).init({"x": torch.zeros(batch)}, seed=0)


def test_effective_sample_sizes():
    weights = torch.tensor([[1.0, 1.0, 1e-9], [1.0, 0.5, 1.0], [1.0, 0.5, 1e-9]]).log()
    assert torch.allclose(ess(weights), torch.tensor([3.0, 1 / (0.25 + 2 / 16), 1.0]))


def test_offspring_are_the_floor_or_the_ceiling_of_what_is_due_and_unbiased():
    weights = torch.tensor([0.05, 0.5, 0.0, 0.3, 0.15])[:, None].expand(5, 4000)
    generator = torch.Generator().manual_seed(0)
    found = systematic(weights.log(), generator)
    assert found.shape == (5, 4000) and (found.diff(dim=0) >= 0).all()
    counts = torch.stack([(found == k).sum(0) for k in range(5)])
    due = 5 * weights
    assert ((counts >= (due - 1e-4).floor()) & (counts <= (due + 1e-4).ceil())).all()
    share = due - due.floor()
    error = (share * (1 - share) / 4000).sqrt()[:, 0]
    assert ((counts.double().mean(1) - due[:, 0]).abs() <= 5 * error + 1e-6).all()


def test_a_single_particle_of_weight_has_all_offspring():
    for place in range(4):
        weights = torch.full((4, 1), -math.inf)
        weights[place] = 0.0
        assert (
            systematic(weights, torch.Generator().manual_seed(place)).flatten().tolist()
            == [place] * 4
        )


def test_particles_are_picked_by_datum():
    values = torch.arange(24.0).reshape(3, 4, 2)
    indices = torch.tensor([[0, 1, 2, 2], [1, 1, 0, 2], [2, 0, 0, 2]])
    expected = torch.stack(
        [torch.stack([values[indices[k, b], b] for b in range(4)]) for k in range(3)]
    )
    assert torch.equal(take(values, indices), expected)


def test_lineages_are_resampled_where_the_effective_sample_size_is_low():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda a: Normal(a, 1.0), ["a"])
    state = DCPC(model, num_particles=6).init(batch_size=3, seed=0)
    weights = torch.zeros(6, 3)
    weights[:, 0] = torch.tensor([0.0, 0, 0, 0, -90, -90])  # an ESS of 4, above half of K
    weights[:, 1] = torch.tensor([5.0, 5, -90, -90, -90, -90])
    state = state.replace(log_weights=weights)
    moved = resample_lineages(state, torch.Generator().manual_seed(0))
    assert torch.equal(moved.log_weights[:, [0, 2]], weights[:, [0, 2]])
    # the same mean weight
    assert torch.allclose(moved.log_weights[:, 1], torch.full((6,), 5 + math.log(2 / 6)))
    for name in "ab":
        assert torch.equal(moved.values[name][:, [0, 2]], state.values[name][:, [0, 2]])
        kept = state.values[name][:2, 1].repeat_interleave(3)
        assert torch.equal(moved.values[name][:, 1], kept)
    assert moved.ancestors[:, 1].tolist() == [0, 0, 0, 1, 1, 1]
    assert unique_ancestors(moved).tolist() == [6, 2, 6]
    higher = resample_lineages(state, torch.Generator().manual_seed(0), threshold=0.7)
    assert unique_ancestors(higher).tolist() == [4, 2, 6]
    again = resample_lineages(
        moved.replace(log_weights=weights.flip(0)), torch.Generator().manual_seed(0)
    )
    # the last two both descend from particle 1
    assert unique_ancestors(again).tolist() == [6, 1, 6]


# -- arrivals --------------------------------------------------------------------------------------


def walk(slice_proposal=None):
    model = random_walk(step=1.0, noise=1.0)
    if slice_proposal is not None:
        model.add_slice_proposal(slice_proposal)
    engine = DCPC(model, num_particles=5)
    return engine, engine.init({"o": torch.tensor([[0.5], [-0.5]])}, seed=0)


def test_an_arrival_is_weighed_by_how_well_it_was_predicted():
    engine, state = walk()
    observed = torch.tensor([0.2, 0.1])
    state = state.replace(log_weights=torch.tensor([0.0, 0.1, 0.2, 0.1, 0.0])[:, None].expand(5, 2))
    longer = engine.append(state, {"o": observed})
    increments = Normal(longer.values["s"][..., 1], 1.0).log_prob(observed)
    assert longer.length == 2 and torch.equal(longer.values["s"][..., 0], state.values["s"][..., 0])
    assert torch.allclose(longer.log_weights, state.log_weights + increments)
    gain = torch.log((state.weights() * increments.exp()).sum(0))
    assert torch.allclose(longer.log_evidence, gain, atol=1e-6)
    assert torch.equal(longer.values["o"], torch.tensor([[[0.5, 0.2], [-0.5, 0.1]]]))


def test_an_observed_site_with_lags_is_scored_by_its_initial_kernel_first():
    model = GraphicalModel()
    model.add_site("s", lambda: Normal(0.0, 1.0), scope="slice")
    model.add_site(
        "o",
        lambda s, o: Normal(s + o, 3.0),
        ["s", lag("o", 2)],
        initial=lambda s: Normal(s, 2.0),
        scope="slice",
    )
    engine = DCPC(model, num_particles=3)
    state = engine.init({"o": torch.tensor([[1.0]])}, seed=0)
    # flat: nothing is resampled
    for law in (lambda s: Normal(s, 2.0), lambda s: Normal(s + 1.0, 3.0)):
        state = state.replace(log_weights=torch.zeros(3, 1))
        state = engine.append(state, {"o": torch.tensor([0.5])})
        expected = law(state.values["s"][..., -1]).log_prob(torch.tensor(0.5))
        assert torch.allclose(state.log_weights, expected, atol=1e-5)
    assert state.length == 3


def test_functions_of_other_sites_need_no_observation():
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "s",
        lambda s, u: Normal(s + u, 1.0),
        [lag("s"), "u"],
        initial=lambda u: Normal(u, 1.0),
        scope="slice",
    )
    model.add_deterministic("twice", lambda s: 2 * s, ["s"], scope="slice")
    model.add_site("o", lambda t: Normal(t, 3.0), ["twice"], scope="slice")
    engine = DCPC(model, num_particles=5)
    state = engine.init({"u": torch.zeros(2, 1), "o": torch.zeros(2, 1)}, seed=0)
    longer = engine.append(state, {"u": torch.ones(2), "o": torch.tensor([0.5, -0.5])})
    assert set(longer.values) == {"u", "s", "o"}
    assert longer.values["u"][0, :, 1].tolist() == [1.0, 1.0]
    expected = Normal(2 * longer.values["s"][..., 1], 3.0).log_prob(torch.tensor([0.5, -0.5]))
    assert torch.allclose(longer.log_weights, expected, atol=1e-5)


def test_a_model_may_extend_its_cloud_itself():
    seen = {}

    def propose(values, observation, generator):
        seen.update(values=values, observation=observation)
        new = observation["o"][None, :, None] + torch.arange(5.0)[:, None, None]
        return {"s": torch.cat([values["s"], new], 2)}, -0.1 * torch.arange(5.0)[:, None].expand(
            5, 2
        )

    engine, state = walk(propose)
    longer = engine.append(state, {"o": torch.tensor([2.0, 3.0])})
    assert torch.equal(seen["values"]["s"], state.particles["s"])
    assert longer.length == 2 and not longer.cache
    assert torch.equal(longer.values["s"][:, 1, 1], 3 + torch.arange(5.0))
    assert torch.equal(longer.values["o"][0, :, 1], torch.tensor([2.0, 3.0]))
    assert torch.allclose(longer.log_weights, -0.1 * torch.arange(5.0)[:, None].expand(5, 2))
    with pytest.raises(MoveError, match="generator"):
        DCPC(engine.model).append(state, {"o": torch.tensor([2.0, 3.0])})


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_global_particle_is_resampled_with_its_data_as_one_lineage(batch):
    """Particles 1 and 4 share the weight: three offspring each, the same ones for all data."""
    state = cloud(batch=batch)
    assert state.values["g"].shape[:2] == (6, 1)
    weights = torch.tensor([-90.0, 0, -90, -90, 0, -90])[:, None].expand(6, batch)
    moved = resample_lineages(state.replace(log_weights=weights), torch.Generator().manual_seed(0))
    kept = torch.tensor([1, 1, 1, 4, 4, 4])
    assert torch.equal(moved.ancestors, kept[:, None].expand(6, batch))
    assert torch.equal(moved.values["g"], state.values["g"][kept])
    assert torch.equal(moved.values["z"], state.values["z"][kept])
