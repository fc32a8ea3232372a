"""What a user can get wrong in declaring, clamping or configuring raises an error that names it; its neighbour passes."""

import math
from dataclasses import fields

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal

from aif_dcpc.configuration import load_config
from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.assembly import GRAPHS, make_model
from aif_dcpc.image_runs.data import DATA_SETS, ImageData, load_images
from aif_dcpc.inference import (
    DCPC,
    ClampError,
    GraphicalModel,
    InferenceError,
    ModelError,
    MoveError,
    every,
    lag,
)
from aif_dcpc.inference.baselines.vae import chain_encoder
from aif_dcpc.inference.distributions import DiscretizedNormal
from aif_dcpc.inference.images import dlgm, generator, with_visible
from aif_dcpc.inference.images.layers import GaussianLayer
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.moves.schedule import KINDS, UPDATES
from aif_dcpc.inference.queries.diagnostics import to_arviz
from aif_dcpc.inference.queries.evidence import METHODS
from aif_dcpc.inference.smc.annealing import annealed_log_evidence
from aif_dcpc.inference.stores import ParticleStore, with_batch
from aif_dcpc.schema import ImageConfig, train_config


def normal(*parents):
    return Normal(sum(parents, torch.zeros(())), 1.0)


def static():
    model = GraphicalModel()
    model.add_site("z", normal)
    model.add_site("x", normal, ["z"])
    return model


def series():
    model = GraphicalModel()
    model.add_site("s", normal, [lag("s")], initial=normal, scope="slice")
    model.add_site("o", normal, ["s"], scope="slice")
    return model


def declared(**site):
    """A model with a slow site and one more."""
    model = GraphicalModel()
    model.add_site("slow", normal, scope=every(2))
    model.add_site("once", normal)
    model.add_site(**{"name": "new", "kernel": normal, **site})
    return model


def with_conditional(draw):
    model = static()
    model.add_conditional(["z"], draw)
    engine = DCPC(model, num_particles=2)
    return engine.sweep(engine.init({"x": torch.zeros(3)}))


DECLARED = {
    "lag of nothing": (lambda: lag("s", 0), "at least 1 step back", lambda: lag("s", 1)),
    "period of one": (lambda: every(1), "at least 2", lambda: every(2)),
    "no initial kernel": (
        lambda: declared(parents=[lag("slow")], scope=every(2)),
        "no `initial` kernel",
        lambda: declared(parents=[lag("slow")], scope=every(2), initial=normal),
    ),
    "no name": (lambda: declared(name=""), "non-empty", lambda: declared(name="a")),
    "timeless child": (
        lambda: declared(parents=["slow"]),
        "has no time",
        lambda: declared(parents=["once"]),
    ),
    "global child": (
        lambda: declared(parents=["once"], scope="global"),
        "cannot depend",
        lambda: declared(),
    ),
    "periods": (
        lambda: declared(parents=["slow"], scope=every(3)),
        "multiple of the child's",
        lambda: declared(parents=["slow"], scope="slice"),
    ),
    "unknown block": (
        lambda: static().add_conditional(["y"], None),
        "unknown site 'y'",
        lambda: static().add_conditional(["z"], None),
    ),
    "lagged deterministic": (
        lambda: series().add_deterministic("d", torch.exp, [lag("s")], scope="slice"),
        "same slice",
        lambda: series().add_deterministic("d", torch.exp, ["s"], scope="slice"),
    ),
    "lag of a later, undeclared site": (
        lambda: DCPC(declared(parents=[lag("none")], scope="slice", initial=normal)),
        "unknown parent 'none'",
        lambda: DCPC(declared(parents=[lag("slow")], scope=every(2), initial=normal)),
    ),
    "no particles": (
        lambda: DCPC(static(), num_particles=0),
        "at least 1",
        lambda: DCPC(static(), num_particles=1),
    ),
    "update": (
        lambda: DCPC(static(), update="exakt"),
        "Did you mean 'exact'",
        lambda: DCPC(static(), update="paper"),
    ),
    "moves": (
        lambda: DCPC(static(), moves={"y": "mala"}),
        "unknown site",
        lambda: DCPC(static(), moves={"z": "mala"}),
    ),
    "no temperature": (
        lambda: annealed_log_evidence(DCPC(static()), {"x": torch.zeros(1)}, num_temperatures=0),
        "at least 1",
        lambda: annealed_log_evidence(DCPC(static()), {"x": torch.zeros(1)}, num_temperatures=1),
    ),
    "no level": (lambda: dlgm(()), "at least one level", lambda: dlgm((2,))),
    "pixels": (lambda: dlgm((2,), likelihood="no"), "expected one of", lambda: dlgm((2,))),
    "sides": (
        lambda: generator((3, 48, 48)),
        "32 x 32 or 64 x 64",
        lambda: generator((3, 32, 32), width=16),
    ),
    "rectangles": (
        lambda: generator((3, 32, 64)),
        "32 x 32 or 64 x 64",
        lambda: generator((3, 64, 64), width=16),
    ),
    "priors": (
        lambda: generator((3, 32, 32), width=16, prior="no"),
        "standard, learned",
        lambda: generator((3, 32, 32), width=16, prior="learned"),
    ),
    "width": (
        lambda: generator((3, 32, 32), width=24),
        "multiple of 16",
        lambda: generator((3, 32, 32), width=32),
    ),
    "likelihood": (
        lambda: generator((3, 32, 32), width=16, likelihood="no"),
        "expected one of",
        lambda: generator((3, 32, 32), width=16, likelihood="normal"),
    ),
    "unknown site of a cloud": (
        lambda: DCPC(static()).init().conditioning.site("y"),
        "unknown site",
        lambda: DCPC(static()).init().conditioning.site("x"),
    ),
    "encoder of scalars": (
        lambda: chain_encoder(DCPC(static()).init({"x": torch.zeros(1)}), "x"),
        "latents that are vectors",
        lambda: chain_encoder(
            DCPC(dlgm((2,), (1, 2, 2))).init({"image": torch.zeros(1, 1, 2, 2)}), "image"
        ),
    ),
}


@pytest.mark.parametrize("case", DECLARED)
def test_unsound_declarations_are_refused(case):
    wrong, message, right = DECLARED[case]
    right()
    with pytest.raises(ModelError, match=message):
        wrong()


def image_choices(field):
    """The names that a key of `images` may have."""
    (found,) = [entry for entry in fields(ImageConfig) if entry.name == field]
    return found.metadata["choices"]


def image_run(*overrides):
    return train_config(load_config("train", "experiment=digits", *overrides))


EMPTY = torch.zeros(0, 1, 8, 8)
NO_IMAGES = ImageData(EMPTY, EMPTY, torch.zeros(0), torch.zeros(0))


def clamp(model, **options):
    return DCPC(model, num_particles=2).init(**options)


def appended(**observation):
    engine = DCPC(series(), num_particles=2)
    return engine.append(engine.init({"o": torch.zeros(3, 4)}), observation)


def with_input():
    model = GraphicalModel()
    model.add_input("u", scope="episode")
    model.add_deterministic("d", torch.exp, ["u"])
    model.add_site("x", normal, ["d"])
    return model


def globally():
    model = GraphicalModel()
    model.add_site("g", normal, scope="global")
    model.add_site("x", normal, ["g"])
    return model


B3 = torch.zeros(3)
CLAMPED = {
    "batches": (
        lambda: clamp(static(), data={"x": B3, "z": torch.zeros(2)}),
        "differ in their number of data",
    ),
    "lengths": (
        lambda: clamp(series(), data={"o": torch.zeros(3, 4), "s": torch.zeros(3, 5)}),
        "differ in their number of slices",
    ),
    "no length": (lambda: clamp(series()), "pass length="),
    "no tensor": (lambda: clamp(globally(), data={"g": 1.0}), "expected a tensor, found float"),
    "no time": (lambda: clamp(series(), data={"o": B3[:, None]}, length=4), "number of slices"),
    "mask": (lambda: clamp(static(), data={"x": B3}, masks={"x": B3}), "expected bool"),
    "unknown mask": (lambda: clamp(static(), masks={"y": B3}), "unknown site 'y'"),
    "unknown do": (lambda: clamp(static(), do={"y": B3}), "unknown site 'y'"),
    "input": (lambda: clamp(with_input()), "input 'u' was not given"),
    "deterministic": (lambda: clamp(with_input(), data={"u": B3, "d": B3}), "cannot be clamped"),
    "deterministic do": (
        lambda: DCPC(with_input()).run(clamp(with_input(), data={"u": B3}), 0, do={"d": B3}),
        "cannot be set",
    ),
    "event": (
        lambda: DCPC(static()).run(clamp(static(), data={"x": B3}), 0, do={"z": B3[:, None]}),
        "events of shape",
    ),
    "arrival, unknown": (lambda: appended(o=B3, y=B3), "unknown site 'y'"),
    "arrival, latent": (lambda: appended(o=B3, s=B3), "cannot be observed"),
    "arrival, missing": (lambda: appended(), "is missing"),
    "arrival, shape": (lambda: appended(o=torch.zeros(2)), "expected one slice"),
    "no future": (
        lambda: DCPC(static()).forecast(clamp(static(), data={"x": B3}), length=2),
        "model with time",
    ),
    "global store": (lambda: ParticleStore.like(clamp(globally(), data={"x": B3}), 3), "is global"),
    "stored shapes": (
        lambda: ParticleStore({"z": (2,)}, 3).load_state_dict({"z": torch.zeros(3, 1)}),
        r"expected \(3, 2\), found \(3, 1\)",
    ),
    "with_batch": (
        lambda: with_batch(clamp(static(), data={"x": B3}), {}, {"z": torch.zeros(2, 3)}),
        "no values for x",
    ),
}


@pytest.mark.parametrize("case", CLAMPED)
def test_data_that_do_not_fit_are_refused(case):
    wrong, message = CLAMPED[case]
    with pytest.raises(ClampError, match=message):
        wrong()


MOVED = {
    "move": (
        lambda: DCPC(static(), moves={"z": "malla"}).run(clamp(static(), data={"x": B3}), 1),
        "Did you mean 'mala'",
    ),
    "marginals": (
        lambda: DCPC(static()).marginals(clamp(static(), data={"x": B3}), "z"),
        "finite support",
    ),
    "other sites": (
        lambda: with_conditional(lambda values, _: {"x": values["x"]}),
        "exactly the declared sites",
    ),
    "other shapes": (
        lambda: with_conditional(lambda values, _: {"z": values["z"][:1]}),
        "came back as",
    ),
}


@pytest.mark.parametrize("case", MOVED)
def test_moves_that_do_not_fit_are_refused(case):
    wrong, message = MOVED[case]
    with pytest.raises(MoveError, match=message):
        wrong()


# what can be chosen by name, and how a wrong name is asked for
REGISTRIES = {
    "move": (KINDS, lambda name: DCPC(static(), moves={"z": name})),
    "update": (UPDATES, lambda name: DCPC(static(), update=name)),
    "method": (METHODS, lambda name: DCPC(static()).log_evidence({"x": B3}, method=name)),
    "data set": (DATA_SETS, lambda name: load_images(name, "data")),
    "image model": (GRAPHS, lambda name: make_model(image_run(f"images.model={name}"), NO_IMAGES)),
    "baseline": (image_choices("method"), lambda name: image_run(f"images.method={name}")),
    "schedule": (image_choices("schedule"), lambda name: image_run(f"images.schedule={name}")),
}


@pytest.mark.parametrize(
    ("registry", "name"),
    [(kind, name) for kind, (names, _) in REGISTRIES.items() for name in names],
)
def test_a_name_without_its_second_letter_gets_the_whole_one(registry, name):
    _, ask = REGISTRIES[registry]
    misspelt = name[0] + name[2:]
    with pytest.raises((InferenceError, ConfigError), match=f"Did you mean '{name}'"):
        ask(misspelt)


def test_distributions_and_layers_refuse_what_they_cannot_be():
    with pytest.raises(ValueError, match="low < high"):
        DiscretizedNormal(torch.zeros(1), torch.ones(1), low=1.0, high=1.0)
    with pytest.raises(ValueError, match="2 levels"):
        DiscretizedNormal(torch.zeros(1), torch.ones(1), levels=1)
    DiscretizedNormal(torch.zeros(1), torch.ones(1), levels=2)
    with pytest.raises(ValueError, match="expected one of"):
        GaussianLayer(2, 2, covariance="none")


def test_an_export_of_nothing_is_refused():
    with pytest.raises(InferenceError, match="nothing was recorded"):
        to_arviz(Info({}, torch.zeros(1, 1)))


def test_pixels_that_are_independent_may_be_hidden():
    """Four pixels that are each one of three values with the same chance."""
    model = GraphicalModel()
    model.add_site("image", lambda: Independent(Categorical(torch.ones(1, 2, 2, 3)), 3))
    model = with_visible(model, "image", torch.ones(1, 2, 2))
    log_joint = DCPC(model).log_joint(DCPC(model).init({"image": torch.zeros(1, 1, 2, 2)}))
    assert torch.allclose(log_joint, torch.tensor(-4 * math.log(3)))


def test_pixels_that_are_not_independent_cannot_be_hidden():
    covariance = torch.eye(2)
    model = GraphicalModel()
    model.add_site(
        "image", lambda: torch.distributions.MultivariateNormal(torch.zeros(1, 2, 2), covariance)
    )
    model = with_visible(model, "image", torch.ones(1, 2, 2))
    state = DCPC(model).init({"image": torch.zeros(1, 1, 2, 2)})
    with pytest.raises(ModelError, match="pixels one by one"):
        DCPC(model).log_joint(state)


def test_layers_of_a_network_are_checked():
    with pytest.raises(ModelError, match="one noise per layer"):
        GraphicalModel.from_sequential(nn.Sequential(nn.Linear(2, 2)), [0.1, 0.1])
    with pytest.raises(ModelError, match="positive"):
        GraphicalModel.from_sequential(nn.Sequential(nn.Linear(2, 2)), 0.0)
