"""Choosing which moves a sweep makes: from the data upwards, the best sound move for each site."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aif_dcpc.inference.errors import MoveError, unknown_name
from aif_dcpc.inference.moves import Move
from aif_dcpc.inference.moves.gibbs import Gibbs
from aif_dcpc.inference.moves.langevin import Langevin
from aif_dcpc.inference.moves.layout import longest_lag
from aif_dcpc.inference.moves.paper import Paper
from aif_dcpc.inference.moves.supplied import Supplied
from aif_dcpc.inference.state import State

Passes = tuple[tuple[Move, ...], tuple[Move, ...]]
Builder = Callable[[State, str, "Options"], Passes]


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
    """Moves of even and of odd sweeps, in order."""

    even: tuple[Move, ...]
    odd: tuple[Move, ...]

    def moves(self, sweep: int) -> tuple[Move, ...]:
        """Moves of the sweep with this number."""
        return self.odd if sweep % 2 else self.even


@dataclass(frozen=True)
class MoveKind:
    """What the schedule knows of a kind of move.

    Attributes:
        build: the moves of even and of odd sweeps for one site.
        needs: "score" (a continuous site) or "finite" (a finite support).
    """

    build: Builder
    needs: str


def langevin_moves(state: State, name: str, window: int, noise: str = "ou") -> Passes:
    """Windowed passes on even sweeps, single slices on odd ones; every latent is visited in each."""
    site = state.problem.site(name)
    if site.period is None:
        return ((Langevin(name, noise=noise),),) * 2
    lag = max(longest_lag(state, name), 1)
    narrow = tuple(Langevin(name, 1, phase, noise) for phase in range(1 + lag))
    if window <= 1:
        return narrow, narrow
    stride = window + lag
    short = state.values[name].shape[2] <= window
    wide = tuple(Langevin(name, window, p, noise) for p in ((0,) if short else (0, stride // 2)))
    return wide, narrow


def gibbs_moves(state: State, name: str) -> Passes:
    """Every colour of a site with finite support."""
    if state.problem.site(name).period is None or state.values[name].shape[2] == 1:
        return ((Gibbs(name),),) * 2  # type: ignore[return-value]
    passes = tuple(Gibbs(name, phase) for phase in range(1 + longest_lag(state, name)))
    return passes, passes


def paper_moves(state: State, name: str, step: float) -> Passes:
    """Algorithm 1 on every colour of a site."""
    timed = state.problem.site(name).period is not None and state.values[name].shape[2] > 1
    passes = tuple(Paper(name, phase, step) for phase in range(1 + longest_lag(state, name) if timed else 1))
    return passes, passes


KINDS: dict[str, MoveKind] = {
    "langevin": MoveKind(lambda state, name, options: langevin_moves(state, name, options.window), "score"),
    "mala": MoveKind(lambda state, name, _: langevin_moves(state, name, 1, "mala"), "score"),
    "barker": MoveKind(lambda state, name, _: langevin_moves(state, name, 1, "barker"), "score"),
    "paper": MoveKind(lambda state, name, options: paper_moves(state, name, options.step), "score"),
    "gibbs": MoveKind(lambda state, name, _: gibbs_moves(state, name), "finite"),
}
UPDATES = ("exact", "paper")
DEFAULTS = Options()


def choose_schedule(
    state: State, *, overrides: Mapping[str, str], update: str = "exact", options: Options = DEFAULTS
) -> Schedule:
    """The engine's own choice, or the user's where it is sound.

    Args:
        state: what is latent, and how long series are.
        overrides: site -> name of a move.
        update: "exact", or "paper" for the published update of every continuous site.
        options: settings of moves.

    Raises:
        MoveError: for an unknown move, or one that cannot update its site.
    """
    even: list[Move] = []
    odd: list[Move] = []
    blocks = {name: block for block in state.problem.lowered.model.conditionals for name in block}
    done: set[str] = set()
    for name in reversed(state.problem.latent):
        if name in done:
            continue
        if name in blocks and name not in overrides:
            block = blocks[name]
            done |= set(block)
            pair: Passes = ((Supplied(block),),) * 2  # type: ignore[assignment]
        else:
            pair = _build(state, name, overrides.get(name) or _default(state, name, update), options)
        even += pair[0]
        odd += pair[1]
    return Schedule(tuple(even), tuple(odd))


def _default(state: State, name: str, update: str) -> str:
    if name not in state.problem.discrete:
        return "paper" if update == "paper" else "langevin"
    if name not in state.problem.supports:
        raise MoveError(f"site {name!r}: its support is not finite; give the site a conditional=... of its own.")
    return "gibbs"


def _build(state: State, name: str, kind: str, options: Options) -> Passes:
    if kind not in KINDS:
        raise MoveError(f"site {name!r}: {unknown_name('move', kind, KINDS)}")
    needs = KINDS[kind].needs
    has = {
        "score": name not in state.problem.discrete,
        "finite": name in state.problem.supports,
    }
    if not has[needs]:
        sound = sorted(k for k, v in KINDS.items() if has[v.needs])
        raise MoveError(
            f"site {name!r}: move {kind!r} needs a site with {needs}, which this is not. Sound here: "
            f"{', '.join(sound)}."
        )
    return KINDS[kind].build(state, name, options)
