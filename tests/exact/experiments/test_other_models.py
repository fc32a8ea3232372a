"""Programs of `other_models` import as they stand, and their references speak of numbers that they have."""

import json

import pytest

from aif_dcpc.experiments.other_models.data import data_of
from aif_dcpc.experiments.other_models.measure import REFERENCE, verdict
from aif_dcpc.experiments.other_models.programs import PROGRAMS, tensors
from aif_dcpc.inference import DCPC, GraphicalModel

KNOWN = json.loads(REFERENCE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_the_numbers_of_its_reference(name):
    model, data = GraphicalModel.from_pyro(PROGRAMS[name], **tensors(data_of(name)))
    state = DCPC(model, num_particles=2).init(data, seed=0)
    assert state.batch_size == 1
    for site, known in KNOWN[name].items():
        assert len(known["mean"]) == len(known["sd"]) == state.value(site)[0, 0].numel(), site


@pytest.mark.parametrize(
    "of_mean, of_sd, warned, expected",
    [
        (0.09, 0.09, False, "right"),
        (0.11, 0.0, False, "middling"),
        (0.0, 0.21, True, "wrong"),
        (0.21, 0.0, False, "silently wrong"),
    ],
)
def test_verdicts(of_mean, of_sd, warned, expected):
    assert verdict(of_mean, of_sd, warned=warned) == expected
