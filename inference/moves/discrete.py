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

import torch
from torch import Tensor
from torch.nn.functional import pad

from aif_dcpc.inference.model.densities import accumulate, evaluate, factors_of
from aif_dcpc.inference.model.factor_graph import Argument
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.adaptation import SiteAdaptation
from aif_dcpc.inference.moves.layout import flatten_event, free_values, site_chunks

REACH = 3
STEPS = 16
LONGEST = 4.0  # mean holding times of the fastest state, at step 1
STEEPEST = 8.0
PACES = (
    ("jump", 1),
    ("jump", 2),
)  # keys of what the move learns: its step on even and on odd sweeps,
WIDTH = ("width", 1)  # and the distance of the states between which odd sweeps jump


@dataclass(frozen=True)
class DiscreteLangevin:
    """Move the slices of one colour of an integer site, all dimensions of the event at once.

    Attributes:
        site: name of the site.
        phase: which colour.
    """

    site: str
    phase: int = 0

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that the move changes."""
        return (self.site,)

    def __call__(
        self, state: State, generator: torch.Generator | None, *, adapt: bool
    ) -> tuple[State, Tensor]:
        """One pass: 2 (D + 1) evaluations of the factors around the site, D the size of its event."""
        site, z = state.conditioning.site(self.site), state.values[self.site]
        chunks = site_chunks(state, site, 1, self.phase)
        free = free_values(state, site, chunks)
        learned: SiteAdaptation = state.adaptation.get(self.site, SiteAdaptation())
        pace = PACES[state.sweeps % 2]
        time, unit = learned.log_step(pace, state.log_weights).exp(), _unit(learned, state)
        now = flatten_event(site, z)
        log_gamma, rows = _jumps(state, site, now, time, unit)
        place = _choose(rows, generator)
        moved = torch.where(free.unsqueeze(-1), now + ((place - REACH) * unit).to(now.dtype), now)
        new_log_gamma, new_rows = _jumps(state, site, moved, time, unit)
        forward = _log_pick(rows, place)
        backward = _log_pick(new_rows, 2 * REACH - place)
        ratio = new_log_gamma - log_gamma + backward - forward
        uniform = torch.rand(
            ratio.shape, dtype=ratio.dtype, device=ratio.device, generator=generator
        )
        accepted = (uniform.log() < ratio) & free
        values = torch.where(accepted.unsqueeze(-1), moved, now).reshape(z.shape)
        probability = torch.where(
            free, torch.nan_to_num(ratio.clamp(max=0).exp(), nan=0.0), torch.zeros_like(ratio)
        )
        mean = probability.sum() / free.expand_as(ratio).sum().clamp_min(1)
        state = state.with_values({self.site: values})
        if adapt:
            learned = learned.stepped(pace, mean, state.log_weights)
            learned = replace(
                learned, log_steps={**learned.log_steps, WIDTH: _width(values.flatten(0, 1))}
            )
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
    steps = torch.cat(
        [flat.new_zeros(1, size), torch.eye(size, dtype=flat.dtype, device=flat.device) * unit]
    )
    tries = flat.unsqueeze(0) + steps[:, None, None, None]
    low, high = state.conditioning.bounds[site.name]
    log_gamma = _log_gamma(state, site, tries.clamp(low, high).to(flat.dtype))
    slope = (log_gamma[1:] - log_gamma[0]).movedim(0, -1)
    slope = torch.nan_to_num(slope, nan=0.0).clamp(-STEEPEST, STEEPEST)
    edge = flat + unit > high
    slope = torch.where(edge, torch.full_like(slope, -1.0), slope)
    reached = flat.unsqueeze(-1) + unit * _offsets(flat)
    inside = (reached >= low) & (reached <= high)
    return log_gamma[0], _transition(slope, inside, time)


def _offsets(like: Tensor) -> Tensor:
    return torch.arange(-REACH, REACH + 1, device=like.device)


def _transition(slope: Tensor, inside: Tensor, time: Tensor) -> Tensor:
    """Distribution after time h of the jump process started at offset 0, by steps to the neighbouring value."""
    allowed = inside.to(slope.dtype)
    rise = torch.exp(0.5 * slope).unsqueeze(-1)
    up = pad(rise * allowed[..., 1:], (0, 1))
    down = pad(allowed[..., :-1] / rise, (1, 0))
    fastest = (up + down).amax(-1, keepdim=True).clamp_min(1e-12)
    span = time * (LONGEST / STEPS)
    up, down = up * (span / fastest), down * (span / fastest)
    row = (_offsets(slope) == 0).to(slope.dtype).expand(up.shape)
    for _ in range(STEPS):
        rising, falling = row * up, row * down
        row = row - rising - falling + pad(rising[..., :-1], (1, 0)) + pad(falling[..., 1:], (0, 1))
    return row.clamp_min(0)


def _choose(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    """Index drawn from each row, shape without the last axis."""
    noise = torch.rand(rows.shape[:-1], dtype=rows.dtype, device=rows.device, generator=generator)
    cumulative = rows.cumsum(-1)
    return (
        (cumulative < noise.unsqueeze(-1) * cumulative[..., -1:])
        .sum(-1)
        .clamp_max(rows.shape[-1] - 1)
    )


def _log_pick(rows: Tensor, place: Tensor) -> Tensor:
    """Sum over dimensions of the log probability of each index, `(K, B, T or 1)`."""
    return rows.gather(-1, place.unsqueeze(-1)).squeeze(-1).log().sum(-1)


def _log_gamma(state: State, site: Site, tries: Tensor) -> Tensor:
    """Unnormalised log complete conditional of several values: `(M, K, B, T or 1, D)` to `(M, K, B, T or 1)`."""
    count = tries.shape[0]
    shape = state.values[site.name].shape
    batched = tries.flatten(0, 1).reshape(count * shape[0], *shape[1:])
    values = {
        n: v.repeat(count, *([1] * (v.ndim - 1))) if n in state.conditioning.latent else v
        for n, v in state.values.items()
    }
    repeated = state.replace(values=values)
    total = state.log_weights.new_zeros(*batched.shape[:2], tries.shape[3])
    for factor in factors_of(state, site.name):
        log_prob = evaluate(repeated, factor, {site.name: batched}, scores=False).log_prob
        for lag in factor.lags(site.name):
            accumulate(total, state, site, factor, Argument(site.name, lag), log_prob)
    return total.unflatten(0, (count, -1))
