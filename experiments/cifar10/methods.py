"""What is compared: five ways to learn the same generator, each with the settings it is tuned among.

`exact` and `vae` have one knob, the rate; the others have the size of a Langevin step too, which
matters more. Every method is tried at five settings for the same processor time.
"""

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


METHODS: dict[str, Setting] = {
    "exact": ("inference.update=exact",),
    "paper": ("inference.update=paper",),
    "pgd": ("images.method=pgd",),
    "mcpc": ("images.method=mcpc", "images.visits=1", "images.langevin_steps=10"),
    "vae": ("images.method=vae", "images.visits=1"),
}


def _rate(rate: float) -> Setting:
    return f"images.rate={rate}", f"images.covariance_rate={rate}"


RATES: tuple[Setting, ...] = tuple(_rate(rate) for rate in (0.0003, 0.001, 0.002, 0.004, 0.008))


def _steps(key: str) -> tuple[Setting, ...]:
    tried = [(0.003, 0.001), (0.003, 0.003), (0.003, 0.01), (0.001, 0.003), (0.001, 0.01)]
    return tuple((*_rate(rate), f"{key}={step}") for rate, step in tried)


SETTINGS: dict[str, tuple[Setting, ...]] = {
    "exact": RATES,
    "paper": _steps("images.paper_step"),
    "pgd": _steps("images.langevin_step"),
    "mcpc": _steps("images.langevin_step"),
    "vae": RATES,
}
