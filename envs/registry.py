"""Making environments by name."""

import difflib
from functools import partial
from typing import Any

import gymnasium as gym

from aif_dcpc.envs.errors import BadSetting, UnknownEnvironment
from aif_dcpc.envs.gymnasium_adapter import Streams
from aif_dcpc.envs.noise import Permute, Slip
from aif_dcpc.envs.tmaze import TMaze

NAMES = ("MiniGrid", "TMaze", "Gymnasium")
DEFAULT_MINIGRID = "MiniGrid-DoorKey-5x5-v0"


def make(
    name: str,
    *,
    id: str | None = None,
    slip: float = 0.0,
    misread: float = 0.0,
    permute_seed: int | None = None,
    max_steps: int | None = None,
    render: bool = False,
    **options: Any,
) -> gym.Env[Any, Any]:
    """Make an environment whose observations are a dictionary of streams.

    Args:
        name: one of `NAMES`.
        id: registered id, for MiniGrid and Gymnasium.
        slip: probability (0 to 1) that a uniformly drawn action replaces the chosen one.
        misread: probability (0 to 1) that a seen cell is misread; MiniGrid only.
        permute_seed: renames tokens and actions by this seed; MiniGrid only.
        max_steps: steps until truncation, at least 1; the environment's own by default.
        render: make `env.render()` return pictures.
        **options: the environment's own.

    Raises:
        EnvironmentError_: for unknown names or ids, and settings out of range.
    """
    for key, value in (("slip", slip), ("misread", misread)):
        if not 0 <= value <= 1:
            raise BadSetting(f"env.{key}={value}: expected a probability from 0 to 1.")
    if max_steps is not None and max_steps < 1:
        raise BadSetting(f"env.max_steps={max_steps}: expected at least 1.")
    if name not in NAMES:
        raise UnknownEnvironment(
            f"env={name}: no such environment.{_closest(name, NAMES)} Known: {', '.join(NAMES)}."
        )
    if name != "MiniGrid" and (misread or permute_seed is not None):
        raise BadSetting(
            f"env={name}: misread and permute_seed are for env=MiniGrid; leave them out."
        )
    if name == "TMaze":
        env: gym.Env[Any, Any] = TMaze(
            **options, **({} if max_steps is None else {"max_steps": max_steps})
        )
    elif name == "MiniGrid":
        env = _minigrid(id or DEFAULT_MINIGRID, misread, max_steps, render, options)
    else:
        env = Streams(_registered(id, max_steps, render, options))
    env = Slip(env, slip) if slip else env
    return Permute(env, permute_seed) if permute_seed is not None else env


def _minigrid(
    id: str, misread: float, max_steps: int | None, render: bool, options: dict[str, Any]
) -> gym.Env[Any, Any]:
    import minigrid

    from aif_dcpc.envs.minigrid import MiniGridStreams

    if "MiniGrid-Empty-5x5-v0" not in gym.registry:
        minigrid.register_minigrid_envs()  # type: ignore[no-untyped-call]
    known = [name for name in gym.registry if name.startswith("MiniGrid-")]
    if id not in known:
        raise UnknownEnvironment(
            f"env.id={id}: not a registered MiniGrid environment.{_closest(id, known)}"
        )
    if max_steps is not None:
        options = {**options, "max_steps": max_steps}
    env = gym.make(
        id, render_mode="rgb_array" if render else None, disable_env_checker=True, **options
    )
    return MiniGridStreams(env, misread=misread)


def _registered(
    id: str | None, max_steps: int | None, render: bool, options: dict[str, Any]
) -> gym.Env[Any, Any]:
    if id is None:
        raise BadSetting(
            "env=Gymnasium: say which with env.id=..., for example env.id=CartPole-v1."
        )
    if id not in gym.registry:
        raise UnknownEnvironment(
            f"env.id={id}: not a registered environment.{_closest(id, list(gym.registry))}"
        )
    limit: dict[str, Any] = {} if max_steps is None else {"max_episode_steps": max_steps}
    return gym.make(id, render_mode="rgb_array" if render else None, **limit, **options)


def _closest(name: str, known: "list[str] | tuple[str, ...]") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f" Did you mean {close[0]}?" if close else ""


def make_vector(num_envs: int, name: str, **settings: Any) -> gym.vector.SyncVectorEnv:
    """Several environments side by side, reset in the step that ends an episode (no junk transitions)."""
    builders = [partial(make, name, **settings) for _ in range(num_envs)]
    return gym.vector.SyncVectorEnv(builders, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
