"""Making environments: those of the package by name, any other by `module:name`.

A new environment of the package is a class anywhere in it, and a line in `ADAPTERS`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from aif_dcpc.envs.errors import (
    BadSetting,
    EnvironmentError_,
    UnknownEnvironment,
    UnsupportedEnvironment,
)
from aif_dcpc.envs.gymnasium_adapter import Streams
from aif_dcpc.envs.noise import Permute, Slip
from aif_dcpc.envs.repeat import Repeat
from aif_dcpc.misspelt import closest
from aif_dcpc.named_code import NotThere, import_named, import_named_module

Env = gym.Env[Any, Any]
Settings = dict[str, Any]
GRID_IDS = ("MiniGrid-", "BabyAI-")
DEFAULT_MINIGRID = "MiniGrid-DoorKey-5x5-v0"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of an environment, but for what wrappers add; see `make`."""

    id: str | None
    misread: float
    max_steps: int | None
    render: bool
    options: Settings

    @property
    def drawing(self) -> Settings:
        """The keyword that makes a Gymnasium environment return pictures; none where none are wanted."""
        return {"render_mode": "rgb_array"} if self.render else {}


@dataclass(frozen=True)
class Adapter:
    """An environment of the package.

    Attributes:
        make: makes it as requested.
        smallest: settings of its smallest instance, on which every agent is tried.
        symbolic: whether its observations are an egocentric view of tokens, which can be misread
            and renamed.
    """

    make: Callable[[Request], Env]
    smallest: Mapping[str, Any] = field(default_factory=dict)
    symbolic: bool = False


def make(
    name: str,
    *,
    id: str | None = None,
    slip: float = 0.0,
    misread: float = 0.0,
    permute_seed: int | None = None,
    max_steps: int | None = None,
    action_repeat: int = 1,
    render: bool = False,
    **options: Any,
) -> Env:
    """Make an environment whose observations are a dictionary of streams.

    Args:
        name: one of `NAMES`, or `module:name` of a Gymnasium environment class, or of a function
            that makes an environment, anywhere; the options are its keywords.
        id: registered id, for MiniGrid (BabyAI included) and Gymnasium; as Gymnasium has it,
            `module:id` imports the module, which registers the id.
        slip: probability (0 to 1) that a uniformly drawn action replaces the chosen one.
        misread: probability (0 to 1) that a seen cell is misread; MiniGrid only.
        permute_seed: renames tokens and actions by this seed; MiniGrid only.
        max_steps: steps until truncation, at least 1; the environment's own by default, and counted
            by the environment itself where that takes such a keyword.
        action_repeat: steps of the environment for which an action is held, at least 1; steps are
            counted by the environment everywhere.
        render: make `env.render()` return pictures.
        **options: the environment's own.

    Raises:
        EnvironmentError_: for unknown names or ids, and settings out of range.
    """
    _check_ranges(slip, misread, max_steps, action_repeat)
    adapter = _adapter(name)
    if not adapter.symbolic and (misread or permute_seed is not None):
        raise BadSetting(
            f"env={name}: misread and permute_seed are for env=MiniGrid; leave them out."
        )
    env = adapter.make(
        Request(id=id, misread=misread, max_steps=max_steps, render=render, options=options)
    )
    env = Slip(env, slip) if slip else env
    env = Permute(env, permute_seed) if permute_seed is not None else env
    return Repeat(env, action_repeat) if action_repeat > 1 else env


def make_vector(num_envs: int, name: str, **settings: Any) -> gym.vector.SyncVectorEnv:
    """Several environments side by side, reset in the step that ends an episode (no junk transitions)."""
    builders = [partial(make, name, **settings) for _ in range(num_envs)]
    return gym.vector.SyncVectorEnv(builders, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)


def _check_ranges(slip: float, misread: float, max_steps: int | None, action_repeat: int) -> None:
    for key, value in (("slip", slip), ("misread", misread)):
        if not 0 <= value <= 1:
            raise BadSetting(f"env.{key}={value}: expected a probability from 0 to 1.")
    if max_steps is not None and max_steps < 1:
        raise BadSetting(f"env.max_steps={max_steps}: expected at least 1.")
    if action_repeat < 1:
        raise BadSetting(f"env.action_repeat={action_repeat}: expected at least 1.")


def _adapter(name: str) -> Adapter:
    if name in ADAPTERS:
        return ADAPTERS[name]
    if ":" in name:
        return Adapter(by_path(name))
    raise UnknownEnvironment(
        f"env={name}: no such environment.{closest(name, NAMES)} Known: {', '.join(NAMES)}."
    )


# -- environments by module:name -------------------------------------------------------------------


def by_path(path: str) -> Callable[[Request], Env]:
    """Make what stands at `module:name`: an environment class, or a function that makes an environment."""
    return partial(_made_by, path)


def _made_by(path: str, request: Request) -> Env:
    """Make the environment whose class, or the function that makes it, stands at `module:name`."""
    if request.id is not None:
        raise BadSetting(f"env.id={request.id}: env={path} has no ids; leave env.id out.")
    make = _told(f"env={path}", import_named, path)
    if not callable(make):
        raise UnknownEnvironment(
            f"env={path}: expected an environment class or a function that makes one, not {make!r}."
        )
    drawing = request.drawing if _can_draw(make) else {}
    counts_itself = request.max_steps is not None and _takes(make, "max_steps")
    limit = {"max_steps": request.max_steps} if counts_itself else {}
    env = _made(f"env={path}", make, {**drawing, **limit, **request.options})
    if not isinstance(env, gym.Env):
        raise UnsupportedEnvironment(
            f"env={path}: expected a Gymnasium environment, found {type(env).__name__}."
        )
    if request.max_steps is not None and not counts_itself:
        env = gym.wrappers.TimeLimit(env, request.max_steps)
    return Streams(env)


def _imported(id: str) -> str:
    """Import the module of a `module:id`, which registers the id; return the id."""
    module, colon, registered = id.rpartition(":")
    if colon:
        _told(f"env.id={id}", import_named_module, module)
    return registered


def _told(setting: str, find: Callable[[str], Any], name: str) -> Any:
    """Find code by its name; where it is not there, say so of the setting that names it."""
    try:
        return find(name)
    except NotThere as error:
        raise UnknownEnvironment(f"{setting}: {error}") from error


def _made(setting: str, make: Callable[..., Env], options: Settings) -> Env:
    """Make an environment; whatever it has against its options, by any error, is told of the setting."""
    try:
        return make(**options)
    except (gym.error.Error, EnvironmentError_):
        raise
    except ImportError as error:
        raise _missing(setting, error) from error
    except Exception as error:
        if not options:
            raise
        reason = str(error).strip() or "it asserts otherwise"
        raise BadSetting(
            f"{setting} cannot be made with {options}: {type(error).__name__}: {reason}; "
            "change these options, or leave them out."
        ) from error


def _missing(setting: str, error: ImportError) -> UnknownEnvironment:
    """What is told of the setting whose environment stands on a package that is not installed."""
    return UnknownEnvironment(
        f"{setting}: it needs what is not installed: {error}; install that, or choose another."
    )


def _check_registered(id: str, kind: str, known: Iterable[str]) -> None:
    if id not in known:
        raise UnknownEnvironment(f"env.id={id}: not a registered {kind}.{closest(id, known)}")


def _creator(id: str) -> Any:
    """What makes the environment that is registered under an id."""
    creator = gym.spec(id).entry_point
    try:
        return load_env_creator(creator) if isinstance(creator, str) else creator
    except ImportError as error:
        raise _missing(f"env.id={id}", error) from error


def _can_draw(make: Any) -> bool:
    """Whether what `make` makes can return pictures: it says so, or takes the keyword."""
    metadata = getattr(make, "metadata", None)
    if metadata is not None:
        return "rgb_array" in metadata.get("render_modes", ())
    parameters = inspect.signature(make).parameters.values()
    return _takes(make, "render_mode") or any(p.kind is p.VAR_KEYWORD for p in parameters)


def _takes(make: Any, keyword: str) -> bool:
    """Whether what `make` makes takes a setting of that name."""
    return keyword in inspect.signature(make).parameters


# -- the environments of the package ---------------------------------------------------------------


def _minigrid(request: Request) -> Env:
    import minigrid

    from aif_dcpc.envs.minigrid import MiniGridStreams

    if "MiniGrid-Empty-5x5-v0" not in gym.registry:
        minigrid.register_minigrid_envs()  # type: ignore[no-untyped-call]
    id = _grid_id(request.id or DEFAULT_MINIGRID)
    limit = {} if request.max_steps is None else {"max_steps": request.max_steps}
    settings: Settings = {**request.drawing, **request.options, **limit}
    try:
        env = gym.make(id, disable_env_checker=True, **settings)
    except ImportError as error:
        raise _missing(f"env.id={id}", error) from error
    except gym.error.DependencyNotInstalled as error:
        raise UnsupportedEnvironment(f"env.id={id}: {error}.") from error
    except (AssertionError, TypeError, ValueError, LookupError) as error:
        raise BadSetting(
            f"env.id={id} cannot be made with {settings}: {error or 'MiniGrid asserts otherwise'} "
            "(agent_view_size must be odd and at least 3; leave out keywords that it does not know)."
        ) from error
    return MiniGridStreams(env, misread=request.misread)


def _grid_id(given: str) -> str:
    """The id of a registered grid world; `module:id` may lead to any."""
    id = _imported(given)
    own = [name for name in gym.registry if name.startswith(GRID_IDS)]
    known = gym.registry if id != given or _is_grid(id) else own
    _check_registered(id, "MiniGrid environment", known)
    return id


def _is_grid(id: str) -> bool:
    """Whether a grid world is registered under an id, whatever its name; a function may make anything."""
    from minigrid.minigrid_env import MiniGridEnv

    if id not in gym.registry:
        return False
    creator = _creator(id)
    return not isinstance(creator, type) or issubclass(creator, MiniGridEnv)


def _gymnasium(request: Request) -> Env:
    return Streams(_registered(request))


def _registered(request: Request) -> Env:
    """The environment that is registered under an id, as Gymnasium makes it."""
    if request.id is None:
        raise BadSetting(
            "env=Gymnasium: say which with env.id=..., for example env.id=CartPole-v1."
        )
    id = _imported(request.id)
    if id.startswith(GRID_IDS):
        raise BadSetting(
            f"env.id={id} is a grid world, which env=MiniGrid lays out: write env=MiniGrid env.id={id}."
        )
    _check_registered(id, "environment", gym.registry)
    limit = {} if request.max_steps is None else {"max_episode_steps": request.max_steps}
    drawing = request.drawing if _can_draw(_creator(id)) else {}
    settings: Settings = {**drawing, **limit, **request.options}
    return _made(f"env.id={id}", partial(gym.make, id), settings)


def _positions_only(request: Request) -> Env:
    from aif_dcpc.envs.positions_only import PositionsOnly

    options = dict(request.options)
    noise = options.pop("noise", 0.0)
    id = request.id or "CartPole-v1"
    return Streams(
        PositionsOnly(_registered(replace(request, id=id, options=options)), noise=noise)
    )


ADAPTERS = {
    "MiniGrid": Adapter(_minigrid, {"id": "MiniGrid-Empty-5x5-v0"}, symbolic=True),
    "TMaze": Adapter(by_path("aif_dcpc.envs.tmaze:TMaze")),
    "CueChaining": Adapter(by_path("aif_dcpc.envs.cue_chaining:CueChaining")),
    "Allostasis": Adapter(by_path("aif_dcpc.envs.allostasis:Allostasis")),
    "PositionsOnly": Adapter(_positions_only),
    "Gymnasium": Adapter(_gymnasium, {"id": "FrozenLake-v1"}),
}
NAMES = tuple(ADAPTERS)
