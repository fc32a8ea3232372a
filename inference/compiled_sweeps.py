"""Sweeps that are compiled where this pays: recorded as a flat graph, compared, then run by inductor.

A sweep depends on the cloud's tensors, and beside these on what is latent, which moves are made, and
the shapes. Sweeps that agree in all of that are of one *kind*: a cycle of a schedule has a few, which
come again and again, whatever the data, in windows of constant length and in learning steps too. A
kind is made as it stands when it is met for the first time, recorded the second time, compared with
its recording and compiled the third time, and from then on the compiled graph is called. On a GPU it is
not compiled but launched whole, which takes no time to speak of (see `model.captured`).

A compiled sweep draws the random numbers that the sweep would have drawn, so that it differs by
rounding alone. What cannot be recorded or compiled is made as it stands, and said once, with the cause.
"""

import math
import pickle
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from aif_dcpc.inference.errors import CompileWarning, ModelError, cause
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.inference.model.parts import SWEPT, Parts
from aif_dcpc.inference.model.recording import CannotRecord
from aif_dcpc.inference.model.state import Conditioning, State
from aif_dcpc.inference.moves import Move
from aif_dcpc.inference.sweeping import make_moves, mean_acceptance

if TYPE_CHECKING:
    from aif_dcpc.inference.recorded_sweeps import Recording

Setting = bool | Literal["auto"]
Swept = tuple[State, dict[str, Tensor]]

COST = 20.0  # seconds to compile a sweep, before any was: 4 to 46 were seen
COST_ON_A_GPU = 2.0  # to record one
SAVED = 0.5  # of the time of a sweep, at least
KEPT = 32  # kinds that are remembered


@dataclass
class Kind:
    """What is known of sweeps of one kind.

    Attributes:
        holds: whatever its key knows by identity.
        met: how many were made as they stand.
        seconds: the least time that one took.
        recording: what they do, once recorded.
        function: the compiled graph, once compared.
        refused: whether it stays as it is.
        apart: whether its moves are kinds of their own, since not all of them can be recorded.
    """

    holds: tuple[Any, ...]
    met: int = 0
    seconds: float = float("inf")
    recording: "Recording | None" = None
    function: Callable[..., tuple[Tensor, ...]] | None = None
    refused: bool = False
    apart: bool = False


class CompiledSweeps:
    """Makes sweeps, compiled ones where they are to be had.

    Args:
        setting: True compiles every kind of sweep that comes again; "auto" those for which the sweeps
            ahead (or, where nobody tells, as many as have been made) take longer than compiling.
        warmup: sweeps in which moves learn before they stand. Those that learn are compiled when they
            have come more often than that, as in learning steps, whose moves learn for ever.

    Attributes:
        ahead: how many sweeps are to come, as far as is known.
        causes: why sweeps are made as they stand.

    Raises:
        ModelError: for another setting.
    """

    def __init__(self, setting: Setting, warmup: int) -> None:
        if setting not in (True, "auto"):
            raise ModelError(f"compile: expected False, True or 'auto', found {setting!r}.")
        self.always = setting is True
        self.warmup = warmup
        self.ahead = 0
        self.causes: list[str] = []
        self._kinds: dict[Any, Kind] = {}
        self._cost = COST
        self._digests: dict[tuple[int, ...], tuple[Any, Any]] = {}
        self._rests: dict[Any, int] = {}
        self._last: tuple[State, Parts, int] | None = None

    def __call__(
        self,
        moves: tuple[Move, ...],
        period: int,
        state: State,
        generator: torch.Generator | None,
        *,
        adapt: bool,
    ) -> Swept:
        """Make the moves of one sweep.

        Args:
            moves: in order.
            period: sweeps after which the same moves come again.
            state: the cloud, its snapshot of parameters taken.
            generator: source of randomness.
            adapt: whether moves learn.

        Returns:
            the new cloud, and site -> mean acceptance probability (0-dim).

        Warns:
            CompileWarning: where a kind of sweep stays as it is, the first time for each cause.
        """
        self.ahead = max(self.ahead - 1, 0)
        if not self._kinds and state.log_weights.is_cuda:
            self._cost = COST_ON_A_GPU
        return self._swept(Call(moves, period, state, generator, adapt))

    def _swept(self, call: "Call") -> Swept:
        parts, shape = self._taken_apart(call.state)
        kind = self._kind(call, shape)
        if kind.function is not None and kind.recording is not None:
            outputs = kind.function(*kind.recording.arguments(parts, call.generator))
            state, parts, acceptance = kind.recording.result(call.state, parts, outputs)
            self._last = (state, parts, self._number(parts.rest))
            return state, acceptance
        if kind.apart:
            return self._one_by_one(call)
        if kind.refused or not kind.met or not self._pays(kind, call.period, call.adapt):
            return call.as_it_stands(kind)
        drawn = call.drawn
        try:
            if kind.recording is None:
                return self._record(kind, call)
            return self._compile(kind, call, parts)
        except Exception as error:  # kernels and compilers may raise anything
            self._refuse(kind, error, apart=len(call.moves) > 1)
        call.draw_again(drawn)
        return call.as_it_stands(kind)

    def _one_by_one(self, call: "Call") -> Swept:
        """Make a sweep of moves of which each is a kind of its own."""
        state = call.state
        rates: dict[str, list[Tensor]] = {}
        for move in call.moves:
            state, acceptance = self._swept(replace(call, moves=(move,), state=state))
            state = state.replace(sweeps=call.state.sweeps)
            for name, rate in acceptance.items():
                rates.setdefault(name, []).append(rate)
        return state.replace(sweeps=call.state.sweeps + 1), mean_acceptance(rates)

    # -- kinds -------------------------------------------------------------------------------------

    def _kind(self, call: "Call", shape: int) -> Kind:
        state = call.state
        conditioning = state.conditioning
        snapshot = state.snapshot or Snapshot((), ())
        key = (
            call.moves,
            state.sweeps
            % math.lcm(call.period, 2),  # moves on integers alternate between two paces
            self._digest(conditioning),
            state.length,
            shape,
            call.adapt,
            tuple(map(id, snapshot.tensors)),
            snapshot.numbers,
        )
        kind = self._kinds.pop(key, None) or Kind((conditioning.factor_graph, snapshot))
        self._kinds[key] = kind  # the last in use is forgotten last
        if len(self._kinds) > KEPT:
            del self._kinds[next(iter(self._kinds))]
        return kind

    def _digest(self, conditioning: Conditioning) -> Any:
        """What tells one conditioning from another, by content: every `init` makes a new one."""
        parts = (conditioning.bijections, conditioning.supports, conditioning.bounds)
        known = self._digests.get(tuple(map(id, parts)))
        if known is None:
            try:
                content: Any = pickle.dumps(parts)
            except Exception:  # whatever a transform holds
                content = tuple(map(id, parts))
            known = (parts, content)
            self._digests[tuple(map(id, parts))] = known
        names = (conditioning.latent, conditioning.intervened, conditioning.partly_intervened)
        return id(conditioning.factor_graph), names, conditioning.discrete, known[1]

    def _taken_apart(self, state: State) -> tuple[Parts, int]:
        """The cloud's parts, and a number for what is left of it; known where it was made here."""
        if self._last is not None and all(
            getattr(self._last[0], name) is getattr(state, name) for name in SWEPT
        ):
            return self._last[1], self._last[2]
        parts = Parts.of(state)
        return parts, self._number(parts.rest)

    def _number(self, rest: Any) -> int:
        return self._rests.setdefault(rest, len(self._rests))

    def _pays(self, kind: Kind, period: int, adapt: bool) -> bool:
        """Whether sweeps of a kind are likely to take longer from now on than compiling them.

        Where nobody tells how many are ahead, it is as many as were made.
        """
        if adapt and kind.met * period <= self.warmup:
            return False
        ahead = max(self.ahead / period, kind.met)
        return self.always or SAVED * ahead * kind.seconds > self._cost

    # -- steps -------------------------------------------------------------------------------------

    def _record(self, kind: Kind, call: "Call") -> Swept:
        from aif_dcpc.inference.model.compiling import check_compiler  # two seconds: where needed
        from aif_dcpc.inference.recorded_sweeps import record_sweep

        check_compiler(call.state.log_weights.device)
        kind.recording, state, acceptance = record_sweep(
            call.moves, call.state, call.generator, adapt=call.adapt
        )
        return state, acceptance

    def _compile(self, kind: Kind, call: "Call", parts: Parts) -> Swept:
        """Make a sweep as it stands and by its graph, with the same numbers; compile if they agree."""
        from aif_dcpc.inference.model.compiling import agree, compiled_or_raise

        assert kind.recording is not None
        drawn = call.drawn
        expected = call.as_it_stands(kind)
        call.draw_again(drawn)
        arguments = kind.recording.arguments(parts, call.generator)
        with torch.no_grad():
            outputs = kind.recording.graph(*arguments)
        _, found, _ = kind.recording.result(call.state, parts, outputs)
        wanted = Parts.of(expected[0])
        if wanted.rest != found.rest or not agree(wanted.leaves, found.leaves):
            raise CannotRecord("its operations differ from sweep to sweep.")
        start = time.perf_counter()
        function = compiled_or_raise(kind.recording.graph, *arguments)
        self._cost = 0.5 * (self._cost + time.perf_counter() - start)
        if not self.always and least_seconds(function, arguments) > kind.seconds:
            raise CannotRecord("compiled it takes longer.")
        kind.function = function
        return expected

    def _refuse(self, kind: Kind, error: Exception, *, apart: bool) -> None:
        """Leave a kind as it is, or try its moves one by one; say why, where this is new."""
        kind.apart = apart and isinstance(error, CannotRecord)
        kind.refused = not kind.apart
        why = cause(error)
        if kind.refused and why not in self.causes:
            self.causes.append(why)
            warnings.warn(
                f"sweeps, or some of their moves, are made without a compiler: {why}",
                CompileWarning,
                stacklevel=6,
            )


@dataclass(frozen=True)
class Call:
    """One sweep that is to be made.

    Attributes:
        moves: in order.
        period: sweeps after which the same moves come again.
        state: the cloud.
        generator: source of randomness.
        adapt: whether moves learn.
    """

    moves: tuple[Move, ...]
    period: int
    state: State
    generator: torch.Generator | None
    adapt: bool

    @property
    def drawn(self) -> Tensor | None:
        """How far the generator has been drawn from."""
        return None if self.generator is None else self.generator.get_state()

    def draw_again(self, drawn: Tensor | None) -> None:
        """Let the generator give once more what followed."""
        if self.generator is not None and drawn is not None:
            self.generator.set_state(drawn)

    def as_it_stands(self, kind: Kind) -> Swept:
        """Make it by its moves, timed."""
        start = time.perf_counter()
        swept = make_moves(self.moves, self.state, self.generator, adapt=self.adapt)
        kind.seconds = min(kind.seconds, time.perf_counter() - start)
        kind.met += 1
        return swept


def least_seconds(function: Callable[..., object], arguments: tuple[Tensor, ...]) -> float:
    """The least time that one of three calls takes."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)
