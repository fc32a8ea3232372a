"""However a kernel holds a number or a tensor, densities follow it when it changes."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.model.parameters import MOST, Snapshot

SETTINGS = {"scale": 1.0}
SCALES = [1.0]


@dataclass
class Settings:
    scale: object = 1.0


class Scaled(nn.Module):
    """A kernel with a scale that is no parameter."""

    def __init__(self, scale, read=lambda held: held):
        super().__init__()
        self.scale = scale
        self.read = read

    def forward(self, z):
        return Normal(z, self.read(self.scale))


def by_attribute(holder):
    return (lambda z: Normal(z, holder.scale)), lambda new: setattr(holder, "scale", new)


def by_module(scale, read, change):
    module = Scaled(scale, read)
    return module, lambda new: change(module, new)


HOLDERS = {
    "namespace": lambda: by_attribute(SimpleNamespace(scale=1.0)),
    "dataclass": lambda: by_attribute(Settings()),
    "tensor of a dataclass": lambda: by_attribute(Settings(torch.tensor(1.0))),
    "global dict": lambda: (
        lambda z: Normal(z, SETTINGS["scale"]),
        lambda new: SETTINGS.update(scale=new),
    ),
    "global list": lambda: (
        lambda z: Normal(z, SCALES[0]),
        lambda new: SCALES.__setitem__(0, new),
    ),
    "module": lambda: by_module(1.0, lambda x: x, lambda m, new: setattr(m, "scale", new)),
    "tensor of a module": lambda: by_module(
        torch.tensor(1.0), lambda x: x, lambda m, new: m.scale.fill_(new)
    ),
    "list of a module": lambda: by_module(
        [1.0], lambda x: x[0], lambda m, new: m.scale.__setitem__(0, new)
    ),
    "tensors of a module": lambda: by_module(
        {"x": torch.tensor(1.0)}, lambda x: x["x"], lambda m, new: m.scale["x"].fill_(new)
    ),
    "object of a module": lambda: by_module(
        Settings(), lambda x: x.scale, lambda m, new: setattr(m.scale, "scale", new)
    ),
}


def pair(kernel):
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", kernel, ["z"])
    return model


@pytest.mark.parametrize("name", HOLDERS)
def test_densities_follow_what_a_kernel_holds(name):
    kernel, change = HOLDERS[name]()
    change(1.0)
    engine = DCPC(pair(kernel), num_particles=3)
    state, _ = engine.sweep(engine.init({"x": torch.tensor([0.5])}, seed=0))
    change(0.1)
    z = state.particles["z"]
    expected = Normal(0.0, 1.0).log_prob(z) + Normal(z, 0.1).log_prob(torch.tensor(0.5))
    assert torch.allclose(engine.log_joint(state), expected)


def test_a_snapshot_ends_with_what_is_a_part_of_itself_and_with_long_lists():
    holder = SimpleNamespace(scale=1.0)
    holder.itself = [holder, {"again": holder}]
    holder.long = [0.0] * (2 * MOST)
    found = Snapshot.of(pair(lambda z: Normal(z, holder.scale)))
    assert found.numbers == (1.0, *[0.0] * MOST)


def test_what_torch_notes_of_a_module_is_no_part_of_a_snapshot():
    assert Snapshot.of(pair(Scaled(1.0))).numbers == (True, 1.0)  # `training`, `scale`
