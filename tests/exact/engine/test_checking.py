"""`check_model` accepts sound models and names each planted fault with its site."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Beta, Categorical, Gamma, Independent, Normal

from aif_dcpc.inference import GraphicalModel, lag
from aif_dcpc.inference.checks.check_model import check_model


def hierarchy():
    model = GraphicalModel()
    model.add_site("scale", lambda: Gamma(3.0, 2.0), scope="global")
    model.add_site(
        "z",
        lambda s: Independent(Normal(torch.zeros(2), s.unsqueeze(-1).expand(*s.shape, 2)), 1),
        ["scale"],
    )
    model.add_site("x", lambda z: Normal(torch.sin(z), 0.5), ["z"])
    return model


def mixed():
    model = GraphicalModel()
    model.add_site("p", lambda: Beta(2.0, 2.0))
    model.add_site("c", lambda p: Categorical(torch.stack([p, 1 - p], -1)), ["p"])
    model.add_site("x", lambda c: Normal(2.0 * c, 1.0), ["c"])
    return model


def series():
    model = GraphicalModel()
    model.add_input("a")
    model.add_site(
        "s",
        lambda s, a: Normal(0.8 * s + a, 0.5),
        [lag("s"), "a"],
        initial=lambda a: Normal(a, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Bernoulli(logits=s), ["s"], scope="slice")
    return model


ACTIONS = {"a": torch.linspace(-1, 1, 10).reshape(2, 5)}


@pytest.mark.parametrize(
    "model, data",
    [(hierarchy(), None), (mixed(), None), (series(), ACTIONS)],
    ids=["global", "mixed", "series"],
)
def test_sound_models_pass(model, data):
    assert check_model(model, data) == ()


def single_fault(model, site, words, **options):
    faults = check_model(model, **{"replicates": 1000, **options})
    assert len(faults) == 1, faults
    assert f"site {site!r}" in faults[0]
    assert words in faults[0]


def with_child(kernel):
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(torch.zeros(3), 1.0))
    model.add_site("x", kernel, ["z"])
    return model


def test_batch_normalisation_is_found():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, z):
            return Normal(self.norm(z.flatten(0, 1)).unflatten(0, z.shape[:2]), 1.0)

    single_fault(with_child(Normed()), "x", "fails on one particle of one datum alone")


def test_a_sum_over_the_batch_is_found():
    single_fault(
        with_child(lambda z: Normal(z - z.mean(1, keepdim=True), 1.0)),
        "x",
        "changes with the other",
    )


def test_a_wrong_shape_is_found():
    single_fault(with_child(lambda z: Normal(z.sum((0, 2)), 1.0)), "x", "changes with the other")


def test_a_kernel_without_leading_axes_is_found():
    single_fault(
        with_child(lambda z: Independent(Normal(z, 1.0), 2)), "x", "changes with the other"
    )


def test_a_kernel_that_fails_on_time_is_found():
    model = GraphicalModel()
    model.add_site("s", lambda: Normal(torch.zeros(2), 1.0), scope="slice")
    model.add_site(
        "o", lambda s: Normal(s.reshape(s.shape[0], s.shape[1], 1, 2), 1.0), ["s"], scope="slice"
    )
    single_fault(model, "o", "fails on parents with leading axes (3, 4, 5)")


def test_a_detached_parent_is_found():
    single_fault(
        with_child(lambda z: Normal(z.detach() ** 2, 1.0)),
        "x",
        "gradient of its log density towards 'z'",
    )


def test_a_wrong_backward_is_found():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return z**2

        @staticmethod
        def backward(ctx, gradient):
            (z,) = ctx.saved_tensors
            return gradient * z  # half of it

    single_fault(with_child(lambda z: Normal(Square.apply(z), 1.0)), "x", "is not its slope")


def test_a_density_that_is_not_finite_is_found():
    single_fault(with_child(lambda z: Normal(z, z * 0)), "x", "not finite")


class Loud(Normal):
    """Draws twice as broad as the density says."""

    def sample(self, sample_shape=()):
        return self.loc + 2 * (super().sample(sample_shape) - self.loc)


def test_draws_that_do_not_follow_the_density_are_found():
    faults = check_model(with_child(lambda z: Loud(z, 0.5)))
    assert faults
    assert all("Geweke" in fault for fault in faults)


def test_a_wrong_conditional_is_found():
    model = GraphicalModel()

    def draw(values, generator):
        x = values["x"].expand_as(values["z"])
        # variance .25 for .5
        return {"z": 0.5 * x + 0.5 * torch.randn(x.shape, generator=generator)}

    model.add_site("z", lambda: Normal(0.0, 1.0), conditional=draw)
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    faults = check_model(model)
    assert any("site 'z'" in fault and "Geweke" in fault for fault in faults)


class Broken(Normal):
    """A distribution without draws."""

    def sample(self, sample_shape=()):
        raise NotImplementedError


class Closed(Normal):
    """A distribution whose density raises what no density should."""

    def log_prob(self, value):
        raise KeyError(3)


class Tiring:
    """A kernel that fails from some call on."""

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, z):
        self.calls -= 1
        if self.calls < 0:
            raise ZeroDivisionError("tired")
        return Normal(z, 1.0)


CAPTURED = torch.linspace(-1, 1, 12).reshape(4, 3)
MISTAKES = {
    "a tensor": (lambda z: z, "returned Tensor, expected a torch or Pyro distribution"),
    "nothing": (lambda z: None, "returned NoneType"),
    "too few parameters": (lambda: Normal(0.0, 1.0), "takes 0 positional arguments"),
    "a wrong name": (lambda z: Normal(z.means, 1.0), "AttributeError"),
    "a wrong size": (lambda z: Normal(z @ torch.eye(2), 1.0), "RuntimeError"),
    "a negative scale": (lambda z: Normal(z, -1.0), "std >= 0"),
    "no draws": (lambda z: Broken(z, 1.0), "NotImplementedError"),
    "no density": (lambda z: Closed(z, 1.0), "KeyError: 3"),
    "captured data": (lambda z: Normal(z + CAPTURED, 1.0), "declare them with add_input"),
    "a late failure": (
        Tiring(5),
        "fails on one particle of one datum alone: ZeroDivisionError: tired",
    ),
}


@pytest.mark.parametrize(("kernel", "words"), MISTAKES.values(), ids=MISTAKES)
def test_kernels_that_fail_are_named(kernel, words):
    single_fault(with_child(kernel), "x", words)


def test_failures_of_sweeps_are_sentences():
    def kernel(z):
        if z.shape[1] == 50 and z.requires_grad:
            raise ZeroDivisionError("tired")
        return Normal(z, 1.0)

    found = check_model(with_child(kernel), replicates=50)
    assert len(found) == 1 and "cannot sweep this model: site 'x'" in found[0]
    assert "ZeroDivisionError: tired" in found[0]


def test_captured_covariates_of_clamped_data_are_named():
    """The kernel of a global site's child holds a row of covariates per datum."""
    rows = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    model = GraphicalModel()
    model.add_site("w", lambda: Independent(Normal(torch.zeros(2), 1.0), 1), scope="global")
    model.add_site("y", lambda w: Normal((rows * w).sum(-1), 0.5), ["w"])
    single_fault(model, "y", "declare them with add_input", data={"y": torch.zeros(20)})
    sound = GraphicalModel()
    sound.add_input("rows", scope="episode")
    sound.add_site("w", lambda: Independent(Normal(torch.zeros(2), 1.0), 1), scope="global")
    sound.add_site("y", lambda rows, w: Normal((rows * w).sum(-1), 0.5), ["rows", "w"])
    assert check_model(sound, {"rows": rows}, replicates=0) == ()
