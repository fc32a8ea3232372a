"""The typed configuration of every command: what keys exist, of which type, in which range.

The defaults stand in `configs/*.yaml`, which is also where each key is explained; this module
refuses what does not fit, with the closest match for a misspelt key. It reads plain mappings only,
and resolves, imports and calls nothing.

>>> train_config({"sed": 1})
Traceback (most recent call last):
    ...
aif_dcpc.errors.ConfigError: unknown key 'sed'. Did you mean 'seed'? ...
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from aif_dcpc.errors import ConfigError
from aif_dcpc.misspelt import unknown_name

Settings = dict[str, Any]
T = TypeVar("T")
MOST = (
    10**9
)  # of any number that declares no limit of its own: more is a slip, and would wait or fill the memory
LARGEST_SEED = 2**32 - 1
ENGINE_LIMITS = {"num_particles": (1, 100_000), "num_sweeps": (0, 10_000)}  # at least, at most


def bounded(
    *,
    at_least: float | None = None,
    at_most: float = MOST,
    choices: tuple[str, ...] = (),
    default: Any = MISSING,
) -> Any:
    """Declare a field with a range or a list of choices; the default is for folders of runs that lack the key."""
    return field(
        default=default, metadata={"at_least": at_least, "at_most": at_most, "choices": choices}
    )


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """Which environment, and how it is disturbed; the keys are those of `aif_dcpc.envs.make`."""

    name: str
    id: str | None
    slip: float = bounded(at_least=0, at_most=1)
    misread: float = bounded(at_least=0, at_most=1)
    permute_seed: int | None = bounded(at_least=0, at_most=LARGEST_SEED)
    max_steps: int | None = bounded(at_least=1)
    action_repeat: int = bounded(at_least=1, default=1)
    options: Settings

    def arguments(self) -> Settings:
        """Return keyword arguments for `aif_dcpc.envs.make`, all but the name.

        Raises:
            ConfigError: an option of the environment has the name of a key of every environment, or
                one of two more that `make` has.
        """
        given = {
            key: value for key, value in asdict(self).items() if key not in ("name", "options")
        }
        for key in self.options.keys() & given.keys():
            raise ConfigError(
                f"env.options.{key}={self.options[key]}: every environment has env.{key}; set that, "
                "or give the option of yours another name."
            )
        for key in self.options.keys() & {"name", "render"}:
            raise ConfigError(
                f"env.options.{key}={self.options[key]}: no option can be called {key!r}, which "
                "aif_dcpc.envs.make has itself; give the option of yours another name."
            )
        return {**given, **self.options}


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """An image model, its data and how it learns; each key is explained in `configs/images/default.yaml`."""

    data: str
    folder: str | None
    image_size: int | None = bounded(at_least=4, at_most=4096)
    train_images: int | None = bounded(at_least=2)
    hold_out: int = bounded(at_least=0)
    model: str
    options: Settings
    method: str = bounded(choices=("dcpc", "pgd", "mcpc", "lpc", "map", "vae"))
    langevin_step: float = bounded(at_least=0)
    langevin_steps: int = bounded(at_least=1)
    batch_size: int = bounded(at_least=1)
    steps: int | None = bounded(at_least=1)
    rate: float = bounded(at_least=0)
    covariance_rate: float | None = bounded(at_least=0)
    warmup_steps: int = bounded(at_least=0)
    visits: int = bounded(at_least=1)
    recycle: bool
    paper_share: float = bounded(at_least=0, at_most=1)
    paper_step: float = bounded(at_least=0, default=0.1)
    binarize: bool
    schedule: str = bounded(choices=("constant", "cosine", "plateau"))
    validation_images: int = bounded(at_least=1)
    validation_sweeps: int = bounded(at_least=1)
    metrics: list[str] = field(default_factory=list)  # which runs of before do not hold
    compile: bool = False  # likewise


# what may be said anew beside resume=RUN_DIR; everything else is the run's own
RENEWABLE = (
    "total_env_steps",
    "epochs",
    "max_minutes",
    "stop_after_successes_in_a_row",
    "checkpoint_every",
    "device",
    "threads",
    "data_dir",
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; each key is explained in `configs/train.yaml`."""

    name: str
    agent: Settings
    env: EnvConfig
    images: ImageConfig | None = None
    inference: Settings
    seed: int = bounded(at_least=0, at_most=LARGEST_SEED)
    device: str = bounded(choices=("auto", "cpu", "cuda"))
    threads: int | None = bounded(at_least=1, at_most=1024)
    run_dir: str | None
    resume: str | None
    trust: list[str] = field(default_factory=list)  # of this call: a run folder does not hold it
    data_dir: str
    total_env_steps: int = bounded(at_least=1)
    epochs: int | None = bounded(at_least=1)
    num_envs: int = bounded(at_least=1, at_most=4096)
    max_minutes: float | None = bounded(at_least=0.001)
    stop_after_successes_in_a_row: int | None = bounded(at_least=1)
    policy: str = bounded(choices=("greedy", "sampled"))
    checkpoint_every: int = bounded(at_least=1)
    log_every: int = bounded(at_least=1)
    picture_every: int = bounded(at_least=0)
    video_every: int = bounded(at_least=0)

    def agent_settings(self) -> Settings:
        """Settings for `aif_dcpc.agents.make`: the agent's own keys and the engine's under `inference`."""
        own = {key: value for key, value in self.agent.items() if key != "name"}
        return {**own, "inference": dict(self.inference)}


@dataclass(frozen=True, kw_only=True)
class EnvChange:
    """What a rollout changes about the environment of the run; None keeps what the run was trained on."""

    id: str | None
    slip: float | None = bounded(at_least=0, at_most=1)
    misread: float | None = bounded(at_least=0, at_most=1)
    permute_seed: int | None = bounded(at_least=0, at_most=LARGEST_SEED)
    max_steps: int | None = bounded(at_least=1)
    action_repeat: int | None = bounded(at_least=1)

    def applied_to(self, env: EnvConfig) -> EnvConfig:
        """Return `env` with the given changes."""
        changes = {key: value for key, value in asdict(self).items() if value is not None}
        return EnvConfig(**{**asdict(env), **changes})


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """One evaluation of a trained agent; each key is explained in `configs/rollout.yaml`."""

    run: str | None
    episodes: int = bounded(at_least=1)
    max_episode_steps: int = bounded(at_least=1)
    num_envs: int = bounded(at_least=1, at_most=4096)
    seed: int = bounded(at_least=0, at_most=LARGEST_SEED)
    policy: str = bounded(choices=("greedy", "sampled"))
    video: bool
    explain: bool
    rerun: bool
    video_episodes: int = bounded(at_least=1)
    device: str = bounded(choices=("auto", "cpu", "cuda"))
    threads: int | None = bounded(at_least=1, at_most=1024)
    trust: list[str]
    env: EnvChange


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One evaluation of an image model; each key is explained in `configs/evaluate.yaml`."""

    run: list[str]
    seed: int = bounded(at_least=0, at_most=LARGEST_SEED)
    seeds: int = bounded(at_least=1)
    held_out: int = bounded(at_least=1)
    sweeps: int = bounded(at_least=1)
    warm_step: float = bounded(at_least=0)
    batch_size: int = bounded(at_least=1)
    annealed_images: int = bounded(at_least=0)
    simulated_images: int = bounded(at_least=0)
    temperatures: int = bounded(at_least=1)
    chains: int = bounded(at_least=1)
    samples: int = bounded(at_least=0)
    metrics: list[str]
    features: str = bounded(choices=("classifier", "inception"))
    device: str = bounded(choices=("auto", "cpu", "cuda"))
    threads: int | None = bounded(at_least=1, at_most=1024)
    data_dir: str | None
    trust: list[str]


def evaluate_config(values: Mapping[str, Any]) -> EvaluateConfig:
    """Build and check the configuration of `aif-evaluate`; `run` may be one folder or a list of them."""
    config = build(EvaluateConfig, values)
    if config.samples == 1:
        raise ConfigError(
            "samples=1: distances are of 2 samples at least; samples=0 leaves them out."
        )
    return config


def texts(path: str, value: Any) -> list[str]:
    """Return a list of texts, of which one may be given as it is and none as null.

    Raises:
        ConfigError: something in it is no text.
    """
    if value is None:
        return []
    entries = value if isinstance(value, list) else [value]
    return [typed(path, entry, str) for entry in entries]


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """Build and check the configuration of `aif-train`."""
    config = build(TrainConfig, values)
    if not isinstance(config.agent.get("name"), str):
        raise ConfigError("agent has no name: write agent=NAME, e.g. agent=hierarchical.")
    _check_engine(config.inference)
    if config.name in ("", ".", "..") or "/" in config.name or len(config.name) > 100:
        raise ConfigError(
            f"name={config.name!r} names a folder under runs/: expected at most 100 characters, none of them a slash."
        )
    return config


def _check_engine(inference: Settings) -> None:
    """Check the settings of the engine that every agent and image model has."""
    for key, (least, most) in ENGINE_LIMITS.items():
        if key in inference:
            value = typed(f"inference.{key}", inference[key], int)
            _check_range(f"inference.{key}", value, {"at_least": least, "at_most": most})
    if "update" in inference:
        typed("inference.update", inference["update"], str)


def rollout_config(values: Mapping[str, Any]) -> RolloutConfig:
    """Build and check the configuration of `aif-rollout`."""
    return build(RolloutConfig, values)


def build(schema: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the frozen dataclass `schema` from plain values.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or lies out of
            range.
    """
    declared = {entry.name: entry for entry in fields(schema)}  # type: ignore[arg-type]
    for key in values:
        if key not in declared:
            known = [f"{where}{name}" for name in declared]
            raise ConfigError(unknown_name("key", f"{where}{key}", known))
    hints = get_type_hints(schema)
    return schema(
        **{name: _entry(entry, hints[name], values, where) for name, entry in declared.items()}
    )


def _entry(entry: "Field[Any]", kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """Return one checked value."""
    path = f"{where}{entry.name}"
    if entry.name not in values:
        if entry.default is not MISSING:
            return entry.default
        if entry.default_factory is not MISSING:
            return entry.default_factory()
        raise ConfigError(f"the configuration has no value for {path!r}.")
    value = typed(path, values[entry.name], kind)
    _check_range(path, value, entry.metadata)
    return value


def typed(path: str, value: Any, kind: Any) -> Any:
    """Return `value` as `kind`, or refuse it.

    Whole floats pass as integers, integers as floats, and one text or null as a list of texts.
    """
    if kind == list[str]:
        return texts(path, value)
    if get_origin(kind) in (Union, types.UnionType):
        return None if value is None else typed(path, value, _without_none(kind))
    if is_dataclass(kind):
        return build(kind, typed(path, value, dict), f"{path}.")  # type: ignore[arg-type]
    target = get_origin(kind) or kind
    if type(value) is target:
        return value
    if _is_same_number(value, target):
        return target(value)
    raise ConfigError(f"{path} must be {_NAMES.get(target, target.__name__)}, not {value!r}.")


def _without_none(kind: Any) -> Any:
    """Return the type that may also be None."""
    return next(entry for entry in get_args(kind) if entry is not type(None))


def _is_same_number(value: Any, target: Any) -> bool:
    """Tell whether a number is the same in the type that is wanted; True and False are no numbers."""
    if type(value) is int:
        return target is float
    return type(value) is float and target is int and value.is_integer()


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "a group of keys",
}


def _check_range(path: str, value: Any, limits: Mapping[str, Any]) -> None:
    if value is None:
        return
    is_number = isinstance(value, (int, float))
    low = limits.get("at_least")
    high = limits.get("at_most") if is_number else None
    choices = limits.get("choices")
    if low is not None and not value >= low:
        raise ConfigError(f"{path} must be at least {low}, not {value!r}.")
    if high is not None and not value <= high:
        raise ConfigError(f"{path} must be at most {high}, not {value!r}.")
    if choices and value not in choices:
        raise ConfigError(unknown_name(path, value, choices))
