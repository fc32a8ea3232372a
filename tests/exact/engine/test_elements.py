"""Elements that are given by names of their own: where they come to stand, and what is masked."""

import pytest
import torch
from torch.distributions import Independent, Normal

from aif_dcpc.inference import ClampError, GraphicalModel
from aif_dcpc.inference.model.elements import Pick, gathered, refilled

WHOLE = torch.arange(6.0).reshape(2, 3)
YES, NO = True, False


@pytest.fixture
def sites():
    """A site of three elements, two data."""
    model = GraphicalModel()
    model.add_site("y", lambda: Independent(Normal(torch.zeros(3), 1.0), 1))
    for i in range(3):
        model.add_deterministic(f"y_{i}", Pick(i), ["y"])
    model.add_site("x", lambda: Normal(0.0, 1.0))
    return model.sites


def of(*rows):
    return torch.tensor(rows)


def test_elements_that_are_not_given_are_missing(sites):
    data, masks = gathered(sites, {"y_2": of(7.0, 8.0), "x": of(1.0, 2.0)}, {})
    assert set(data) == {"y", "x"} and set(masks) == {"y"}
    assert torch.equal(data["y"], of([0.0, 0.0, 7.0], [0.0, 0.0, 8.0]))
    assert torch.equal(masks["y"], of([NO, NO, YES], [NO, NO, YES]))
    data, masks = gathered(sites, {f"y_{i}": WHOLE[:, i] for i in range(3)}, {})
    assert torch.equal(data["y"], WHOLE) and masks == {}


@pytest.mark.parametrize(
    ("mask", "rest"),
    [
        (of(YES, NO), of([YES, YES], [NO, NO])),
        (of([NO, YES, NO], [YES, YES, NO]), of([YES, NO], [YES, NO])),
    ],
    ids=["of data", "of elements"],
)
def test_an_element_beside_its_site_replaces_what_is_there(mask, rest, sites):
    given = {"y": WHOLE, "y_0": of(7.0, 8.0)}
    data, masks = gathered(sites, given, {"y": mask})
    assert torch.equal(data["y"], torch.cat([of([7.0], [8.0]), WHOLE[:, 1:]], 1))
    assert torch.equal(masks["y"], torch.cat([of([YES], [YES]), rest], 1))
    _, masks = gathered(sites, given, {"y": mask, "y_0": of(NO, YES)})
    assert torch.equal(masks["y"], torch.cat([of([NO], [YES]), rest], 1))
    _, masks = gathered(sites, given, {})
    assert masks == {}


def test_a_mask_of_an_element_without_data_is_left_as_it_is(sites):
    data, masks = gathered(sites, {"x": of(1.0, 2.0)}, {"y_1": of(YES, NO)})
    assert set(data) == {"x"} and set(masks) == {"y_1"}


def test_what_does_not_fit_is_refused(sites):
    with pytest.raises(ClampError, match=r"expected data of shape \(B, 3\)"):
        gathered(sites, {"y": torch.zeros(2, 4), "y_0": of(1.0, 2.0)}, {})
    with pytest.raises(ClampError, match="need one shape"):
        gathered(sites, {"y_1": torch.zeros(3), "y_0": of(1.0, 2.0)}, {})
    with pytest.raises(ClampError, match="expected bool"):
        gathered(sites, {"y_0": of(1.0, 2.0)}, {"y_0": of(1.0, 0.0)})


def test_particles_of_elements_are_put_into_those_of_their_site(sites):
    cloud = torch.zeros(4, 2, 3)
    found = refilled(sites, {"y_1": torch.ones(4, 2), "x": torch.ones(4, 2)}, lambda name: cloud)
    assert set(found) == {"x", "y"}
    assert found["y"].sum() == 8 and (found["y"][..., 1] == 1).all() and cloud.sum() == 0
    both = refilled(sites, {"y_0": torch.ones(4, 2), "y": cloud + 2}, lambda name: cloud)
    assert torch.equal(both["y"][0, 0], of(1.0, 2.0, 2.0))
    with pytest.raises(ClampError, match="particles of site 'y_1'"):
        refilled(sites, {"y_1": torch.ones(3, 2)}, lambda name: cloud)
