"""Every metric of images through one checklist; a line in `reconstruction.METRICS` is tried as soon as it is there."""

import math

import pytest
import torch

from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.reconstruction import METRICS, Reconstruction, find_metrics, measured


def some(images: slice = slice(None)) -> Reconstruction:
    """Seven images of three particles, or some of them; pixels from 0 to 1 inclusive."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 7, 1, 4, 4, generator=generator).round(decimals=1)
    log_joint = torch.randn(3, 7, generator=generator)
    return Reconstruction(pixels[0, images], pixels[1, images], log_joint[:, images])


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_a_mean_over_images(name):
    """So that it does not depend on the size of the batches in which `aif-evaluate` infers them."""
    whole = METRICS[name](some())
    first = METRICS[name](some(slice(0, 2)))
    rest = METRICS[name](some(slice(2, 7)))
    assert math.isfinite(whole)
    assert float(whole) == pytest.approx(float(2 * first + 5 * rest) / 7, rel=1e-5)


def test_what_is_measured_is_what_the_names_say():
    """Written out for one image of two pixels and two particles."""
    found = Reconstruction(
        images=torch.tensor([1.0, 0.25]).view(1, 1, 1, 2),
        means=torch.tensor([0.5, 0.75]).view(1, 1, 1, 2),
        log_joint=torch.tensor([[-3.0], [-5.0]]),
    )
    bce = math.log(2) - 0.25 * math.log(0.75) - 0.75 * math.log(0.25)
    wanted = {"reconstruction_bce": bce, "mse": 0.25, "free_energy": 4.0}
    assert measured({name: METRICS[name] for name in wanted}, found) == pytest.approx(wanted)


def test_ones_own_stand_behind_those_of_the_package():
    assert list(find_metrics("metrics", ["math:fsum"])) == [*METRICS, "fsum"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aif_dcpc.image_runs.reconstruction:mse", "rename it; reconstruction_bce, mse"),
        ("collections:abc_sd", "rename it"),
        ("no_module", "expected module:name"),
        ("math:fsun", "Did you mean 'fsum'"),
        ("math:pi", "must be something to call"),
    ],
)
def test_a_metric_that_cannot_be_reported_is_refused_in_one_sentence(name, words):
    with pytest.raises(ConfigError, match=words) as refused:
        find_metrics("metrics", [name])
    assert str(refused.value).startswith(f"metrics={name}") and "\n" not in str(refused.value)
