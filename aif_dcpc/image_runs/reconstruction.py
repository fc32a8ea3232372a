"""Images beside the means that their particles give, and what is measured of them.

A metric is a function of a `Reconstruction`. A line in `METRICS` is all that a new one takes: while
learning, `metrics.jsonl` and TensorBoard get it as `valid/<name>`; `aif-evaluate` reports it as
`<name>`, and of training images as `train_<name>`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from aif_dcpc.errors import ConfigError
from aif_dcpc.outside import find_function

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reconstruction:
    """Images beside the means that their particles give.

    Attributes:
        images: `(B, C, H, W)` in [0, 1].
        means: `(B, C, H, W)`, averaged over particles.
        log_joint: log p(image, particles), `(K, B)` nats.
    """

    images: "Tensor"
    means: "Tensor"
    log_joint: "Tensor"


Metric = Callable[[Reconstruction], Union["Tensor", float]]


def reconstruction_bce(found: Reconstruction) -> "Tensor":
    """Binary cross-entropy between pixels and the averaged mean, nats per image (the paper's "NLL")."""
    images = found.images
    means = found.means.clamp(1e-6, 1 - 1e-6)
    return -(images * means.log() + (1 - images) * (1 - means).log()).flatten(1).sum(1).mean()


def mse(found: Reconstruction) -> "Tensor":
    """Mean squared difference per pixel (the paper's "MSE")."""
    return (found.images - found.means).square().mean()


def free_energy(found: Reconstruction) -> "Tensor":
    """Mean of minus the log joint, nats per image."""
    return -found.log_joint.mean()


METRICS: dict[str, Metric] = {
    "reconstruction_bce": reconstruction_bce,
    "mse": mse,
    "free_energy": free_energy,
}
SUFFIXES = ("_sd", "_se")  # under which aif-evaluate reports deviations of a metric


def find_metrics(key: str, names: Sequence[str]) -> dict[str, Metric]:
    """Find the metrics of the package, and one's own by `module:function`, by the names that they are reported under.

    Args:
        key: of the configuration that holds the names.
        names: of one's own metrics; each is reported under the name of its function.

    Raises:
        ConfigError: one is not to be had, or cannot be reported under its name.
    """
    found = dict(METRICS)
    for name in names:
        short = name.rpartition(":")[2]
        if short in found or short.endswith(SUFFIXES):
            raise ConfigError(
                f"{key}={name}: rename it; {', '.join(found)} are there already, and names that end "
                f"in {' or '.join(SUFFIXES)} are deviations of others."
            )
        found[short] = find_function(key, name)
    return found


def measured(metrics: dict[str, Metric], found: Reconstruction) -> dict[str, float]:
    """Evaluate metrics, by name."""
    return {name: float(metric(found)) for name, metric in metrics.items()}
