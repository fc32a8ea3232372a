"""Solutions of two differential equations by unrolled Runge-Kutta steps of fourth order."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from aif_dcpc.experiments.posteriordb.steps import FIRST_STEPS, LATER_STEPS, STEPS

LARGEST_LOG = 20.0  # of a population: keeps the steps of absurd parameters finite


def step(slope: Callable[[int, Tensor], Tensor], state: Tensor, size: float) -> Tensor:
    """One step of fourth order; `slope(stage, state)`, stages 0 to 3."""
    first = slope(0, state)
    second = slope(1, state.add(first, alpha=size / 2))
    third = slope(2, state.add(second, alpha=size / 2))
    fourth = slope(3, state.add(third, alpha=size))
    outer, inner = first + fourth, second + third
    return state.add(outer.add(inner, alpha=2.0), alpha=size / 6)


def log_populations(theta: Tensor, start: Tensor, times: Sequence[float]) -> Tensor:
    """Logarithms of hares and lynxes at `times`, `(..., times, 2)`, by the Lotka-Volterra equations.

    With u = ln z: du1/dt = theta1 - theta2 exp(u2), du2/dt = -theta3 + theta4 exp(u1).

    Args:
        theta: `(..., 4)`.
        start: populations at time 0, `(..., 2)`.
        times: increasing, positive.
    """
    signs = torch.tensor([1.0, -1.0])
    own, other = theta[..., [0, 2]] * signs, -theta[..., [1, 3]] * signs

    def slope(_: int, logs: Tensor) -> Tensor:
        return own.addcmul(other, logs.flip(-1).clamp(max=LARGEST_LOG).exp())

    state, found = start.log(), []
    for before, now in zip([0.0, *times[:-1]], times, strict=True):
        for _ in range(STEPS):
            state = step(slope, state, (now - before) / STEPS)
        found.append(state)
    return torch.stack(found, -2)


def concentrations(
    rates: tuple[Tensor, Tensor, Tensor], dose: float, volume: float, times: Sequence[float]
) -> Tensor:
    """Concentration of a drug that enters at a first-order rate and leaves by Michaelis-Menten kinetics.

    dC/dt = exp(-k_a t) dose k_a / volume - (V_m / volume) C / (K_m + C), C = 0 at the first time.

    Args:
        rates: k_a, K_m, V_m, `(...)` each.
        dose, volume: constants.
        times: the start and the times of measurement.

    Returns:
        `(..., times - 1)`.
    """
    absorption, half, fastest = (rate.unsqueeze(-1) for rate in rates)
    grid, ends = graded(times)
    stages = torch.tensor(grid[:1] + [t for a, b in pairwise(grid) for t in ((a + b) / 2, b)])
    entering = torch.exp(-absorption * stages) * absorption * (dose / volume)
    given = entering.split(1, -1)
    leaving = fastest / volume

    def solve(amount: Tensor, index: int) -> Tensor:
        inflow = [given[2 * index + k] for k in (0, 1, 1, 2)]

        def slope(stage: int, amount: Tensor) -> Tensor:
            amount = amount.clamp_min(0.0)
            return inflow[stage] - leaving * (amount / (half + amount))

        return step(slope, amount, grid[index + 1] - grid[index])

    amounts = [torch.zeros_like(half)]
    for index in range(len(grid) - 1):
        amounts.append(solve(amounts[-1], index))
    return torch.cat([amounts[end] for end in ends], -1)


def graded(times: Sequence[float]) -> tuple[list[float], list[int]]:
    """Times of steps that are short at first, where elimination is stiff; the places of `times[1:]`."""
    start, first = times[0], times[1] - times[0]
    grid = [start + first * (i / FIRST_STEPS) ** 2 for i in range(FIRST_STEPS + 1)]
    ends = [FIRST_STEPS]
    for before, now in pairwise(times[1:]):
        grid += [before + (now - before) * i / LATER_STEPS for i in range(1, LATER_STEPS + 1)]
        ends.append(len(grid) - 1)
    return grid, ends
