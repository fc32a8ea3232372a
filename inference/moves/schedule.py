"""Choosing which moves a sweep makes: from the data upwards, the best sound move for each site."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from itertools import chain
from typing import Protocol

from aif_dcpc.inference.errors import ModelError, MoveError
from aif_dcpc.inference.model.conditioning import small_cloud
from aif_dcpc.inference.model.elements import element_at
from aif_dcpc.inference.model.factor_graph import FactorGraph
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import Move
from aif_dcpc.inference.moves.discrete import DiscreteLangevin
from aif_dcpc.inference.moves.elimination import JointDiscreteDraw, locked_groups
from aif_dcpc.inference.moves.ffbs import ForwardFilterBackwardSample
from aif_dcpc.inference.moves.forward_backward import is_chain, is_tabular
from aif_dcpc.inference.moves.gibbs import Gibbs
from aif_dcpc.inference.moves.independence import FromPrior
from aif_dcpc.inference.moves.interweaving import interweavings
from aif_dcpc.inference.moves.langevin import Langevin
from aif_dcpc.inference.moves.layout import longest_lag
from aif_dcpc.inference.moves.paper import Paper
from aif_dcpc.inference.moves.preconditioning import MAX_DENSE_BLOCK
from aif_dcpc.inference.moves.user_conditional import UserConditional, is_exact
from aif_dcpc.misspelt import unknown_name

Passes = tuple[tuple[Move, ...], ...]
PassBuilder = Callable[[State, str, "Options"], Passes]


@dataclass(frozen=True)
class Options:
    """Settings of moves that are the engine's, not the model's.

    Attributes:
        window: free slices per chunk of a windowed pass.
        step: step size of moves that do not adapt (the published one).
    """

    window: int = 16
    step: float = 0.1


@dataclass(frozen=True)
class Schedule:
    """The moves of each sweep, in order; after the last sweep comes the first again."""

    cycle: Passes

    def moves(self, sweep: int) -> tuple[Move, ...]:
        """Moves of the sweep with this number."""
        return self.cycle[sweep % len(self.cycle)]


@dataclass(frozen=True)
class MoveKind:
    """What the schedule knows of a kind of move.

    Attributes:
        build: the moves of one sweep after the other for one site, to be repeated.
        needs: "score" (a continuous site), "score without time" (one with a single value), "finite"
            (a finite support), "chain" (that and lag 1), "integer" (an ordered integer support) or
            "density" (any site). It also tells the contract test on which sites to try the kind.
        is_exact: whether the kind leaves the posterior invariant.
    """

    build: PassBuilder
    needs: str
    is_exact: bool = True


class MoveClass(Protocol):
    """A class of moves of one site, which is called with the site's name."""

    @property
    def needs(self) -> str:
        """What the site must have, as for `MoveKind`."""

    def __call__(self, site: str) -> Move:
        """Make the move of a site."""


# -- builders --------------------------------------------------------------------------------------


def langevin_moves(state: State, name: str, options: Options) -> Passes:
    """Windows and the slices between them on even sweeps, single slices on odd ones.

    Every slice moves in each sweep.
    """
    return _windowed(state, name, options.window, "ou", "mala")


def block_moves(state: State, name: str, options: Options) -> Passes:
    """The whole series in one proposal on even sweeps (or chunks as large as a full matrix may be), windows on odd ones.

    Where the chain is far from Gaussian the whole series is seldom accepted: windows, twice and
    overlapping, keep it moving.
    """
    if not _is_series(state, name):
        return _windowed(state, name, 1, "ou", "ou")
    window = options.window
    size = max(state.values[name][0, 0, 0].numel(), 1)
    lag = longest_lag(state, name)
    overlap = state.values[name].shape[2] > window and lag > 0
    phases = (0, (window + lag) // 2) if overlap else (0,)
    windows = tuple(Langevin(name, window, phase) for phase in phases)
    whole = _windowed(state, name, max(MAX_DENSE_BLOCK // size, 1), "ou", "ou")[::2]
    return whole[0], windows, whole[-1], windows


def slice_moves(noise: str) -> PassBuilder:
    """Make a builder of moves that propose single slices only, by one kind of noise."""

    def passes(state: State, name: str, options: Options) -> Passes:
        return _windowed(state, name, 1, noise, noise)

    return passes


def paper_moves(state: State, name: str, options: Options) -> Passes:
    """One published update per colour of a site's slices."""
    return (tuple(Paper(name, phase, options.step) for phase in range(_colours(state, name))),)


def series_moves(state: State, name: str, options: Options) -> Passes:
    """One exact joint draw of all slices of a discrete chain."""
    return ((ForwardFilterBackwardSample(name),),)


def per_colour(move: MoveClass) -> MoveKind:
    """Make a kind of move of a class of moves of one colour of a site's slices: every colour once in each sweep."""

    def passes(state: State, name: str, options: Options) -> Passes:
        return (_in_every_phase(move(name), _colours(state, name)),)

    return MoveKind(passes, move.needs)


def _windowed(state: State, name: str, window: int, noise: str, local: str) -> Passes:
    """Windows and the slices between them on even sweeps, single slices on odd ones.

    The slices between the windows of one even sweep lie in the middle of those of the next. `local`
    is the proposal of odd sweeps, `noise` that of the others.
    """
    if not _is_series(state, name):
        return (Langevin(name, noise=noise),), (Langevin(name, noise=local),)
    lag = longest_lag(state, name)
    narrow = tuple(Langevin(name, 1, phase, local) for phase in range(1 + lag))
    if window <= 1 or not lag:
        return tuple(Langevin(name, 1, phase, noise) for phase in range(1 + lag)), narrow
    if state.values[name].shape[2] <= window:
        return (Langevin(name, window, noise=noise),), narrow
    first = _windows(name, window, lag, 0, noise)
    second = _windows(name, window, lag, (window + lag) // 2, noise)
    return first, narrow, second, narrow


def _windows(name: str, window: int, lag: int, phase: int, noise: str) -> tuple[Move, ...]:
    """Windows, then the slices between them."""
    return Langevin(name, window, phase, noise), Langevin(name, lag, phase + lag, noise, gap=window)


def _colours(state: State, name: str) -> int:
    """Number of colours such that slices of one colour share no factor; 1 without time."""
    return 1 + longest_lag(state, name) if _is_series(state, name) else 1


def _is_series(state: State, name: str) -> bool:
    """Whether a site has more than one slice."""
    return state.conditioning.site(name).period is not None and state.values[name].shape[2] > 1


KINDS: dict[str, MoveKind] = {
    "langevin": MoveKind(langevin_moves, "score"),
    "block": MoveKind(block_moves, "score"),
    "mala": MoveKind(slice_moves("mala"), "score"),
    "barker": MoveKind(slice_moves("barker"), "score"),
    "paper": MoveKind(paper_moves, "score", is_exact=False),
    "gibbs": per_colour(Gibbs),
    "ffbs": MoveKind(series_moves, "chain"),
    "discrete_langevin": per_colour(DiscreteLangevin),
    "prior": per_colour(FromPrior),
}
UPDATES = ("exact", "paper")
DEFAULTS = Options()
MAX_CHAIN_VALUES = 32  # above this, tables of all pairs of values cost more than joint draws gain


# -- choices ---------------------------------------------------------------------------------------


def choose_schedule(
    state: State,
    *,
    overrides: Mapping[str, str | Move],
    update: str = "exact",
    options: Options = DEFAULTS,
) -> Schedule:
    """The engine's own choice, or the user's where it is sound.

    Args:
        state: what is latent, and how long series are.
        overrides: site -> name of a move, or a move.
        update: "exact", or "paper" for the published update of every continuous site.
        options: settings of moves.

    Raises:
        MoveError: for an unknown move, or one that cannot update its site.
    """
    cycles: list[Passes] = []
    blocks = _exact_blocks(state)
    apart = frozenset(overrides) | blocks.keys()
    locked = _locked_moves(state, apart) if update == "exact" else ()
    cycles += [((move,),) for move in locked]
    done = {site for move in locked for site in move.sites}
    for name in reversed(state.conditioning.latent):
        if name in done:
            continue
        if name in blocks and name not in overrides:
            block = blocks[name]
            done.update(site for site in block if site not in overrides)
            cycles.append(((UserConditional(block),),))
        else:
            kind = overrides.get(name) or _default(state, name, update)
            cycles.append(site_passes(state, name, kind, options))
    if update == "exact":
        cycles += [
            ((move,),) for move in interweavings(state, frozenset(overrides) | blocks.keys())
        ]
    return Schedule(_side_by_side(cycles))


def _locked_moves(state: State, apart: frozenset[str]) -> tuple[JointDiscreteDraw, ...]:
    """One draw for each group of discrete sites that hold each other."""
    others = [n for n in state.conditioning.latent if n not in apart]
    return tuple(JointDiscreteDraw(group) for group in locked_groups(state, others))


def _exact_blocks(state: State) -> dict[str, tuple[str, ...]]:
    """Site -> the block that the model draws exactly with it.

    Where there are several, the one declared last.
    """
    blocks = {}
    for block in state.conditioning.factor_graph.model.conditionals:
        if is_exact(state, block):
            blocks.update(dict.fromkeys(block, block))
    return blocks


def _side_by_side(cycles: Sequence[Passes]) -> Passes:
    """Join the cycles of all sites: a sweep makes the pass of every site whose turn it is."""
    length = math.lcm(*(len(cycle) for cycle in cycles))
    sweeps = []
    for sweep in range(length):
        passes = [cycle[sweep % len(cycle)] for cycle in cycles]
        sweeps.append(tuple(chain.from_iterable(passes)))
    return tuple(sweeps)


def _default(state: State, name: str, update: str) -> str:
    """The engine's own choice of a kind of move for one latent site."""
    conditioning = state.conditioning
    if name not in conditioning.discrete:
        return "paper" if update == "paper" else "langevin"
    if name in conditioning.supports:
        small = len(conditioning.supports[name]) <= MAX_CHAIN_VALUES
        return "ffbs" if small and is_chain(state, name) else "gibbs"
    if name not in conditioning.bounds:
        raise MoveError(
            f"site {name!r}: its support is neither finite nor ordered; give it a "
            "conditional=... of its own."
        )
    return "discrete_langevin"


def site_passes(state: State, name: str, kind: str | Move, options: Options) -> Passes:
    """The moves of one latent site.

    Args:
        state: what is latent.
        name: of the site.
        kind: name of a move, or a move.
        options: settings of moves.

    Raises:
        MoveError: the move is unknown, or cannot update the site.
    """
    if not isinstance(kind, str):
        if name not in kind.sites:
            raise MoveError(
                f"site {name!r}: the move given for it updates {', '.join(kind.sites)}."
            )
        _check_needs(state, name, type(kind).__name__, getattr(kind, "needs", "density"))
        return (_in_every_phase(kind, _colours(state, name)),)
    if kind not in KINDS:
        raise MoveError(f"site {name!r}: {unknown_name('move', kind, KINDS)}")
    _check_needs(state, name, kind, KINDS[kind].needs)
    return KINDS[kind].build(state, name, options)


def _check_needs(state: State, name: str, move: str, needs: str) -> None:
    """Refuse a move for a site that lacks what it needs."""
    has = _properties(state, name)
    if needs not in has:
        raise MoveError(f"site {name!r}: move {move!r}: {unknown_name('need', needs, has)}")
    if not has[needs]:
        sound = sorted(other for other, known in KINDS.items() if has[known.needs])
        raise MoveError(
            f"site {name!r}: move {move!r} needs a site with {needs}, which this is not. Sound "
            f"here: {', '.join(sound)}."
        )


def _in_every_phase(move: Move, colours: int) -> tuple[Move, ...]:
    """Repeat a move of one colour of a site's slices for the others, which would stand still; any other move is one."""
    if not is_dataclass(move) or not hasattr(move, "phase"):
        return (move,)
    return tuple(replace(move, phase=move.phase + shift) for shift in range(colours))


def _properties(state: State, name: str) -> dict[str, bool]:
    """Which of the needs of moves a latent site meets."""
    one_slice = state.length == 1 and is_tabular(state, name)
    has_score = name not in state.conditioning.discrete
    return {
        "score": has_score,
        "score without time": has_score and state.conditioning.site(name).period is None,
        "finite": name in state.conditioning.supports,
        "integer": name in state.conditioning.bounds,
        "density": True,
        "chain": is_chain(state, name) or one_slice,
    }


def check_overrides(
    factor_graph: FactorGraph, overrides: Mapping[str, str | Move], options: Options
) -> None:
    """Refuse overrides that cannot be: as far as a small cloud from the prior tells, which models with inputs lack.

    Raises:
        ModelError: for an unknown site.
        MoveError: for a move that is unknown or cannot update its site.
    """
    sites = factor_graph.model.sites
    for name, kind in overrides.items():
        if name not in sites:
            raise ModelError(unknown_name("site", name, sites))
        if (place := element_at(sites, name)) is not None:
            raise MoveError(
                f"site {name!r} is element {place.index} of {place.site!r}, whose elements move "
                f"together: moves={{{place.site!r}: ...}}."
            )
        if sites[name].kind != "stochastic":
            raise MoveError(
                f"site {name!r} is {sites[name].kind}: only stochastic sites are moved."
            )
        if isinstance(kind, str) and kind not in KINDS:
            raise MoveError(f"site {name!r}: {unknown_name('move', kind, KINDS)}")
    state = small_cloud(factor_graph) if overrides else None
    if state is not None:
        for name, kind in overrides.items():
            site_passes(state, name, kind, options)
