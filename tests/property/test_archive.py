"""A cloud that was packed, written, read and unpacked goes on bit for bit."""

import io

import pytest
import torch
from models import by_table, hidden_markov, random_walk

from aif_dcpc.inference import DCPC
from aif_dcpc.inference.archive import pack, unpack


def written_and_read(packed):
    """What comes back from a file that may hold no code."""
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def walk():
    return random_walk(), torch.randn(1, 12, generator=torch.Generator().manual_seed(0))


def markov():
    start = torch.tensor([0.5, 0.5])
    table = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
    outcomes = torch.randint(2, (1, 12), generator=torch.Generator().manual_seed(0))
    return hidden_markov(start, table, by_table(table)), outcomes


@pytest.mark.parametrize("update", ["exact", "paper"])
@pytest.mark.parametrize("declare", [walk, markov])
def test_a_cloud_goes_on_bit_for_bit(declare, update):
    model, series = declare()
    engine = DCPC(model, num_particles=5, update=update)
    first = engine.init({"o": series[:, :1]}, seed=0)
    state = first
    for t in range(1, 12):
        state, _ = engine.run(engine.append(state, {"o": series[:, t]}), 3)
    again = unpack(written_and_read(pack(state)), like=first)
    assert again.length == 12 and again.sweeps == state.sweeps
    ends = []
    random = engine.generator.get_state()
    for start in (state, again):
        engine.generator.set_state(random)
        ends.append(engine.run(start, 4)[0])
    for name, value in ends[0].values.items():
        assert torch.equal(value, ends[1].values[name])
    assert torch.equal(ends[0].log_evidence, ends[1].log_evidence)


def test_records_of_other_kinds_are_refused():
    model, series = walk()
    state = DCPC(model, num_particles=2).init({"o": series}, seed=0)
    with pytest.raises(TypeError, match="'Popen'"):
        unpack({**pack(state), "adaptation": {"record": "Popen", "args": "ls"}}, like=state)
    with pytest.raises(TypeError, match="cannot be packed"):
        pack(state.replace(adaptation={"z": object()}))


def test_an_older_file_means_growth_where_it_does_not_speak_of_doubling():
    model, series = walk()
    engine = DCPC(model, num_particles=2)
    state, _ = engine.run(engine.init({"o": series}, seed=0), 3)
    state = state.reopened()
    packed = {n: x for n, x in pack(state).items() if not n.startswith("doubled")}
    again = unpack(packed, like=state)
    assert (again.doubled, again.doubled_length) == (state.opened, state.opened_length) == (3, 12)
