"""What is preferred in known worlds: log preferences of the next state and the action, in nats a step.

Each is a function of states `(..., D)` and actions `(..., A)` (discrete ones one-hot), `(...)`, and 0
where nothing is left to wish, which bounds what knowledge is worth (see `attained`). Their names are
known without torch being imported. Another one is named as `module:function`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.misspelt import unknown_name
from aif_dcpc.named_code import NotThere, import_named

if TYPE_CHECKING:
    from torch import Tensor

Wish = Callable[["Tensor", "Tensor"], "Tensor"]


def pendulum(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer to stand upright and still, with little torque: minus the cost of Pendulum."""
    angle = state[..., 1].atan2(state[..., 0])
    effort = 0.001 * action[..., 0].square()
    return -(angle.square() + 0.1 * state[..., 2].square() + effort)


def cart_pole(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer the pole upright (sd .1 rad) and the cart in the middle (sd 1)."""
    return -0.5 * ((state[..., 2] / 0.1).square() + state[..., 0].square())


def mountain_car(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer positions at the flag or beyond: a nat less for each unit below it, as of a Laplace law."""
    return -(0.5 - state[..., 0]).clamp(min=0)


def mountain_car_continuous(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer positions at the flag or beyond four times as much, with little force."""
    return 4.0 * mountain_car(state, action) - 0.1 * action[..., 0].square()


def acrobot(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer the free end above the line (sd .5 below it)."""
    first = state[..., 0]
    both = state[..., 0] * state[..., 2] - state[..., 1] * state[..., 3]
    below = (1 + first + both).clamp(min=0)
    return -0.5 * (below / 0.5).square()


def pendulum_positions(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer what `pendulum` does, of cosine, sine and what both gain in a step of a twentieth second."""
    speed = 20 * (state[..., 0] * state[..., 3] - state[..., 1] * state[..., 2])
    angle = state[..., 1].atan2(state[..., 0])
    return -(angle.square() + 0.1 * speed.square() + 0.001 * action[..., 0].square())


def cart_pole_positions(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer what `cart_pole` does, of the places of cart and pole, then what they gain in a step."""
    return -0.5 * ((state[..., 1] / 0.1).square() + state[..., 0].square())


def allostasis(state: "Tensor", action: "Tensor") -> "Tensor":
    """Prefer energy and temperature (of clock, energy, skin, stomach, temperature) well within -1 .. 1."""
    body = state[..., [2, 5]]
    return -4 * (body.abs() - 0.4).clamp(min=0).square().sum(-1)


WISHES = {
    wish.__name__: wish
    for wish in (
        pendulum,
        cart_pole,
        mountain_car,
        mountain_car_continuous,
        acrobot,
        allostasis,
        pendulum_positions,
        cart_pole_positions,
    )
}


def find_wish(name: str) -> Wish:
    """Find a preference by its name here, or by `module:function`.

    Raises:
        AgentError: there is none of that name.
    """
    if name in WISHES:
        return WISHES[name]
    if ":" not in name:
        raise AgentError(unknown_name("preference", name, WISHES))
    try:
        found = import_named(name)
    except NotThere as error:
        raise AgentError(f"preference {name!r}: {error}") from error
    if not callable(found):
        raise AgentError(f"preference {name!r}: expected a function of states and actions.")
    wish: Wish = found
    return wish
