"""Sweep after sweep: what `DCPC.run` does, with what it records and how often moves were accepted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import Info, State
from aif_dcpc.inference.moves import Move
from aif_dcpc.inference.queries.diagnostics import low_acceptance
from aif_dcpc.inference.queries.edges import cut_off
from aif_dcpc.inference.queries.impossible import refuse_impossible
from aif_dcpc.inference.queries.looks import LEAST_SWEEPS, Looks
from aif_dcpc.inference.sampler import Readout
from aif_dcpc.inference.settings import check_integer
from aif_dcpc.inference.smc.recent import recent_slices
from aif_dcpc.misspelt import unknown_name


@dataclass
class Record:
    """What is kept of the sweeps of one run.

    Attributes:
        read: what to keep of the cloud after every sweep.
        values: name -> that, sweep by sweep.
        rates: site -> mean acceptance probability (0-dim), sweep by sweep.
    """

    read: Readout
    values: dict[str, list[Tensor]] = field(default_factory=dict)
    rates: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, state: State, info: Info) -> None:
        """Keep what one sweep has led to."""
        for name, value in self.read(state).items():
            self.values.setdefault(name, []).append(value)
        for name, rate in info.acceptance.items():
            self.rates.setdefault(name, []).append(rate)

    @property
    def trace(self) -> dict[str, Tensor]:
        """What was read, stacked along a new first axis."""
        return {name: torch.stack(values) for name, values in self.values.items()}

    @property
    def acceptance(self) -> dict[str, Tensor]:
        """Mean acceptance probability over the sweeps that count, 0-dim."""
        return {name: torch.stack(rates).mean() for name, rates in self.rates.items()}


@dataclass(frozen=True)
class Swept:
    """What the sweeps of a run have led to.

    Attributes:
        state: the cloud.
        info: diagnostics.
        num_sweeps: how many were made.
        doubts: what stands against the cloud, one sentence each.
        is_no_sample: whether its particles do not move, stay apart or are left behind.
    """

    state: State
    info: Info
    num_sweeps: int
    doubts: Sequence[str] = ()
    is_no_sample: bool = False


def judged(made: Swept, seen: Looks, *, warmup: int, learned: bool) -> Swept:
    """Say what of a run is no sample (reads from the device).

    Args:
        made: what its sweeps have led to.
        seen: looks at the cloud while it was swept.
        warmup: sweeps during which moves adapt.
        learned: whether they did at its beginning.

    Raises:
        ClampError: for data of probability zero.
    """
    state = made.state
    if made.num_sweeps and learned:
        refuse_impossible(state)
    if state.sweeps <= state.opened + warmup:
        return made
    still = low_acceptance(made.info)
    apart = seen.doubts(state)
    told = apart if seen.sweeps >= LEAST_SWEEPS else []  # a shorter run is mostly somebody's pilot
    doubts = still or list(cut_off(state, state.values)) or told
    return replace(made, doubts=doubts, is_no_sample=bool(still or apart))


def make_moves(
    moves: tuple[Move, ...], state: State, generator: torch.Generator | None, *, adapt: bool
) -> tuple[State, dict[str, Tensor]]:
    """Make moves one after the other.

    Returns:
        the new state, and site -> mean acceptance probability (0-dim).
    """
    passes: dict[str, list[Tensor]] = {}
    with no_validation(), torch.no_grad():
        for move in moves:
            state, accepted = move(state, generator, adapt=adapt)
            for name in move.sites:
                passes.setdefault(name, []).append(accepted)
    return state.replace(sweeps=state.sweeps + 1), mean_acceptance(passes)


def mean_acceptance(passes: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Average the acceptance probabilities (0-dim) of the passes of each site."""
    return {
        name: torch.stack(list(found)).mean() if len(found) > 1 else found[0]
        for name, found in passes.items()
    }


def readout(state: State, record: Sequence[str] | Readout) -> Readout:
    """Turn the names of sites into a function that reads their values.

    Raises:
        ModelError: for an unknown name.
    """
    if callable(record):
        return record
    sites = state.conditioning.factor_graph.model.sites
    for name in record:
        if name not in sites:
            raise ModelError(unknown_name("site", name, sites))
    return lambda state: {name: state.value(name) for name in record}


def part_to_sweep(state: State, recent: int | None) -> State:
    """Choose what to sweep: the last slices, or everything where `recent` is None.

    Latents without time need the whole series. Where there are any, it is swept as well in the
    first call after `State.followed` has found that it has grown enough: in the long run that costs
    the same for every slice.
    """
    if recent is None:
        return state
    check_integer("recent", recent, 1)
    if state.has_timeless_latents and state.sweeps == state.opened:
        return state
    return recent_slices(state, recent)
