"""Discrete Langevin: integer sites of any size move by finite differences of their complete conditional.

The prediction error of an integer site is the vector of forward differences eps_d = log gamma(z + 1
in dimension d) - log gamma(z). Each dimension makes a jump process with rate exp(eps_d (j - i) / 2)
from state i to j within a neighbourhood, run for a time h; the jump is accepted or rejected per
particle, so the posterior is exact. On every second sweep the states are as many integers apart as
the warm-up found the site to be wide.

References: Sennesh, Wu, Salvatori (2024), arXiv 2408.05834, Appendix C; Zhang, Liu, Liu (2022),
arXiv 2206.09914; Sun et al. (2023), arXiv 2206.14897.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import SiteMove
from aif_dcpc.inference.moves.acceptance import accept
from aif_dcpc.inference.moves.adaptation import SiteAdaptation
from aif_dcpc.inference.moves.complete_conditional import log_conditionals
from aif_dcpc.inference.moves.layout import flatten_event, free_values, site_chunks

REACH = 3
STEPS = 16
LONGEST = 4.0  # mean holding times of the fastest state, at step 1
STEEPEST = 8.0
# keys of what the move learns: its step on even and on odd sweeps, and the distance of the states
# between which odd sweeps jump
PACES = (("jump", 1), ("jump", 2))
WIDTH = ("width", 1)


@dataclass(frozen=True)
class DiscreteLangevin(SiteMove):
    """Move the slices of one colour of an integer site, all dimensions of the event at once.

    Attributes:
        site: name of the site.
        phase: which colour.
    """

    needs: ClassVar[str] = "integer"
    phase: int = 0

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """Jump once; costs 2 (D + 1) evaluations of the factors around the site, D the size of its event."""
        site = state.conditioning.site(self.site)
        value = state.values[self.site]
        free = free_values(state, site, site_chunks(state, site, 1, self.phase))
        learned: SiteAdaptation = state.adaptation.get(self.site, SiteAdaptation()).settled()
        pace = PACES[state.sweeps % 2]
        time = learned.log_step(pace, state.log_weights).exp()
        unit = _unit(learned, state)

        now = flatten_event(site, value)
        log_gamma, rows = _jumps(state, site, now, time, unit)
        place = _choose(rows, generator)
        jump = ((place - REACH) * unit).to(now.dtype)
        moved = torch.where(free.unsqueeze(-1), now + jump, now)
        new_log_gamma, new_rows = _jumps(state, site, moved, time, unit)
        forward = _log_pick(rows, place)
        backward = _log_pick(new_rows, 2 * REACH - place)
        ratio = new_log_gamma - log_gamma + backward - forward

        state, mean = accept(state, site, free, moved.reshape(value.shape), ratio, generator)
        if adapt:
            learned = learned.stepped(pace, mean, state.log_weights)
            width = _width(state.values[self.site].flatten(0, 1))
            learned = replace(learned, log_steps={**learned.log_steps, WIDTH: width})
        return state.replace(adaptation={**state.adaptation, self.site: learned}), mean


def _unit(learned: SiteAdaptation, state: State) -> Tensor:
    """Distance of neighbouring states, a whole number: 1 on even sweeps, what was learned on odd ones."""
    one = torch.ones((), dtype=torch.int64, device=state.log_weights.device)
    return learned.log_steps.get(WIDTH, one) if state.sweeps % 2 else one


def _width(values: Tensor) -> Tensor:
    """Half a standard deviation of `(K * B, [T,] *event)` values, rounded to a whole number, at least 1."""
    if values.shape[0] < 2:
        return torch.ones((), dtype=torch.int64, device=values.device)
    return (values.to(torch.get_default_dtype()).std(0).mean() / 2).round().clamp_min(1).long()


def _jumps(
    state: State, site: Site, flat: Tensor, time: Tensor, unit: Tensor
) -> tuple[Tensor, Tensor]:
    """log gamma `(K, B, T or 1)` at `flat` `(K, B, T or 1, D)`, and jump probabilities `(K, B, T or 1, D, 2 r + 1)`."""
    size = flat.shape[-1]
    none = flat.new_zeros(1, size)
    one_each = torch.eye(size, dtype=flat.dtype, device=flat.device) * unit
    tries = flat.unsqueeze(0) + torch.cat([none, one_each])[:, None, None, None]
    low, high = state.conditioning.bounds[site.name]
    tries = tries.clamp(low, high).to(flat.dtype)
    log_gamma = log_conditionals(state, site, tries.reshape(-1, *state.values[site.name].shape))
    slope = (log_gamma[1:] - log_gamma[0]).movedim(0, -1)
    slope = torch.nan_to_num(slope, nan=0.0).clamp(-STEEPEST, STEEPEST)
    edge = flat + unit > high
    slope = torch.where(edge, torch.full_like(slope, -1.0), slope)
    reached = flat.unsqueeze(-1) + unit * _offsets(flat)
    inside = (reached >= low) & (reached <= high)
    return log_gamma[0], _transition(slope, inside, time)


def _offsets(like: Tensor) -> Tensor:
    """Steps from the present state to every state in reach, `(2 r + 1,)`."""
    return torch.arange(-REACH, REACH + 1, device=like.device)


def _transition(slope: Tensor, inside: Tensor, time: Tensor) -> Tensor:
    """Distribution after time h of the jump process started at offset 0, by steps to the neighbouring value."""
    allowed = inside.to(slope.dtype)
    rise = torch.exp(0.5 * slope).unsqueeze(-1)
    up = pad(rise * allowed[..., 1:], (0, 1))
    down = pad(allowed[..., :-1] / rise, (1, 0))
    fastest = (up + down).amax(-1, keepdim=True).clamp_min(1e-12)
    span = time * (LONGEST / STEPS)
    up = up * (span / fastest)
    down = down * (span / fastest)
    row = (_offsets(slope) == 0).to(slope.dtype).expand(up.shape)
    for _ in range(STEPS):
        rising = row * up
        falling = row * down
        row = row - rising - falling + pad(rising[..., :-1], (1, 0)) + pad(falling[..., 1:], (0, 1))
    return row.clamp_min(0)


def _choose(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw an index from each row of probabilities, in the shape of `rows` without its last axis."""
    uniform = torch.rand(rows.shape[:-1], dtype=rows.dtype, device=rows.device, generator=generator)
    cumulative = rows.cumsum(-1)
    passed = cumulative < uniform.unsqueeze(-1) * cumulative[..., -1:]
    return passed.sum(-1).clamp_max(rows.shape[-1] - 1)


def _log_pick(rows: Tensor, place: Tensor) -> Tensor:
    """Sum over dimensions of the log probability of each index, `(K, B, T or 1)`."""
    return rows.gather(-1, place.unsqueeze(-1)).squeeze(-1).log().sum(-1)
