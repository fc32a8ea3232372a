"""What is compared: five ways to learn the same generator, each with the four settings among which it is tuned.

`exact` and `vae` have one knob, the rate; the others also have the size of a Langevin step. Every method is tried at four
settings for the same processor time.
"""

from dataclasses import dataclass

Setting = tuple[str, ...]  # overrides of the configuration

COMMON: Setting = (
    "experiment=cifar10_subset",
    "device=cpu",
    "images.options.likelihood=normal",
    "images.warmup_steps=20",
    "images.visits=4",
    "images.recycle=true",
    "inference.num_particles=2",
    "inference.num_sweeps=1",
)


@dataclass(frozen=True)
class Method:
    """A way to learn: what it always sets, and what it is tried with."""

    overrides: Setting
    settings: tuple[Setting, ...]


def _rates(*rates: float) -> tuple[Setting, ...]:
    return tuple((f"images.rate={rate}", f"images.covariance_rate={rate}") for rate in rates)


def _rates_and(key: str, values: tuple[float, ...], rates: tuple[float, ...]) -> tuple[Setting, ...]:
    return tuple((*rate, f"{key}={value}") for rate in _rates(*rates) for value in values)


METHODS: dict[str, Method] = {
    "exact": Method(("inference.update=exact",), _rates(0.001, 0.002, 0.004, 0.008)),
    "paper": Method(("inference.update=paper",), _rates_and("+inference.step", (3e-4, 1e-3), (0.002, 0.006))),
    "pgd": Method(("images.method=pgd",), _rates_and("images.langevin_step", (3e-4, 1e-3), (0.002, 0.006))),
    "mcpc": Method(
        ("images.method=mcpc", "images.visits=1", "images.langevin_steps=10"),
        _rates_and("images.langevin_step", (3e-4, 1e-3), (0.002, 0.006)),
    ),
    "vae": Method(("images.method=vae", "images.visits=1"), _rates(0.001, 0.002, 0.004, 0.008)),
}
