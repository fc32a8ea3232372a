"""One sweep as a flat graph of tensor operations, replayed without the Python of moves and kernels.

What a sweep reads becomes an argument of the graph: the cloud's tensors (values, masks, cached factors,
what moves have learned), every tensor that kernels hold (parameters, data that they close over), and
the random numbers, which a replay draws from the given generator by the same calls in the same order.
So a replay gives the numbers that the sweep itself would have given, but for rounding, also after
parameters have changed in place. Numbers that kernels take from Python stay as they were recorded:
a cloud's snapshot tells when they have changed.

`recording.record` keeps what follows from no argument as a constant and refuses writing through views,
which suits densities; sweeps add in place to slices of sums, so they are recorded by `make_fx`, which
notes every operation as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.overrides import TorchFunctionMode

from aif_dcpc.inference.model.parts import Counts, Parts, with_counts, without_counts
from aif_dcpc.inference.model.recording import LEAVES, CannotRecord
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves import Move
from aif_dcpc.inference.sweeping import make_moves

aten = torch.ops.aten


# -- recordings ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """A call that draws random numbers of a fixed law from a generator."""

    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def __call__(self, generator: torch.Generator | None) -> Tensor:
        """Make the call with another generator."""
        found: Tensor = self.function(*self.arguments, **self.options, generator=generator)
        return found


@dataclass(frozen=True)
class Recording:
    """A sweep as a graph, with what its arguments and outputs are.

    Attributes:
        graph: from the cloud's tensors in `used`, the `draws` and what kernels hold, to what has
            changed.
        used: places of the cloud's tensors that are arguments.
        draws: the random numbers, in order.
        held: tensors of kernels, as they are at each replay.
        after: the cloud after the sweep, taken apart.
        sources: for each of its tensors, its place in the cloud before, or in the outputs (a place
            p as -1 - p).
        counted: how much each count has grown; or, where it was not there before, to what.
        sites: of the moves, with acceptance probabilities: the last outputs.
    """

    graph: fx.GraphModule
    used: tuple[int, ...]
    draws: tuple[Draw, ...]
    held: tuple[Tensor, ...]
    after: Parts
    sources: tuple[int, ...]
    counted: Counts
    sites: tuple[str, ...]

    def arguments(self, before: Parts, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        """What the graph is called with; draws random numbers."""
        leaves = (*before.leaves, *_as_tensors(before))
        noise = [draw(generator) for draw in self.draws]
        return (*(leaves[place] for place in self.used), *noise, *self.held)

    def result(
        self, state: State, before: Parts, outputs: tuple[Tensor, ...]
    ) -> tuple[State, Parts, dict[str, Tensor]]:
        """The cloud after the sweep, also taken apart, and acceptance probabilities by site."""
        leaves = tuple(before.leaves[s] if s >= 0 else outputs[-1 - s] for s in self.sources)
        counts = {key: before.counts.get(key, 0) + more for key, more in self.counted.items()}
        moved = self.after.cloud(state, iter(leaves), counts).replace(sweeps=state.sweeps + 1)
        rates = outputs[len(outputs) - len(self.sites) :]
        parts = replace(self.after, leaves=leaves, counts=counts)
        return moved, parts, dict(zip(self.sites, rates, strict=True))


def _as_tensors(parts: Parts) -> list[Tensor]:
    like = next((x for x in parts.leaves if x.is_floating_point()), torch.zeros(()))
    return [like.new_full((), float(count)) for count in parts.counts.values()]


def record_sweep(
    moves: tuple[Move, ...],
    state: State,
    generator: torch.Generator | None,
    *,
    adapt: bool,
) -> tuple[Recording, State, dict[str, Tensor]]:
    """Make the moves of a sweep once, and write down what they do.

    Returns:
        the recording, and what `make_moves` returns.

    Raises:
        CannotRecord: for moves or kernels that read numbers, or draw from another generator.
    """
    if any(getattr(move, "keeps_tables", False) for move in moves):
        raise CannotRecord("a move keeps tables from sweep to sweep.")
    before = Parts.of(state)
    places = [x.detach() for x in before.leaves]  # so that no two are the same
    numbers = _as_tensors(before)
    kept: dict[str, Any] = {}

    def sweep(*given: Tensor) -> tuple[Tensor, ...]:
        counts = dict(zip(before.counts, given[len(places) :], strict=True))
        here = before.cloud(state, iter(given[: len(places)]), counts)
        moved, acceptance = make_moves(moves, here, generator, adapt=adapt)
        after = Parts.of(moved)
        known = {id(x): place for place, x in enumerate(given)}
        kept["sources"], changed = _sources(after.leaves, known)
        kept.update(moved=moved, after=after, acceptance=acceptance)
        return (*changed, *acceptance.values())

    versions = [x._version for x in places]
    with Outside(generator) as outside:
        graph = traced(sweep, [*places, *numbers])
    if versions != [x._version for x in places]:
        raise CannotRecord("a move writes into the cloud that it is given.")
    after = kept["after"]
    used, draws, held = with_arguments(graph, outside)
    recording = Recording(
        graph,
        used,
        draws,
        held,
        after.without_tensors(),
        kept["sources"],
        _growth(before.counts, after.counts),
        tuple(kept["acceptance"]),
    )
    counts = {key: before.counts.get(key, 0) + more for key, more in recording.counted.items()}
    moved = kept["moved"]
    moved = moved.replace(adaptation=with_counts(without_counts(moved.adaptation)[0], counts))
    return recording, moved, kept["acceptance"]


def _sources(
    leaves: tuple[Tensor, ...], known: Mapping[int, int]
) -> tuple[tuple[int, ...], list[Tensor]]:
    """Where tensors come from: places before the sweep, or among what has changed."""
    changed: list[Tensor] = []
    sources = []
    for leaf in leaves:
        if id(leaf) not in known:
            changed.append(leaf)
        sources.append(known.get(id(leaf), -len(changed)))
    return tuple(sources), changed


def _growth(before: Counts, after: Counts) -> Counts:
    return {key: round(float(count)) - before.get(key, 0) for key, count in after.items()}


def traced(function: Any, places: list[Tensor]) -> fx.GraphModule:
    """Call a function of tensors once and return what it did as a graph.

    Raises:
        CannotRecord: it reads numbers.
    """
    try:
        found: fx.GraphModule = make_fx(function)(*places)
    except CannotRecord:
        raise
    except RuntimeError as error:
        if "tracing tensor" in str(error) or "data-dependent" in str(error):
            raise CannotRecord("a move or a kernel reads numbers.") from error
        raise
    return found


class Outside(TorchFunctionMode):
    """Keeps what is no operation on tensors out of a recording: random draws, and numbers for Python.

    Args:
        generator: of the sweep.

    Attributes:
        drawn: what was drawn from it, with the calls.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self.generator = generator
        self.drawn: list[tuple[Tensor, Draw]] = []

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch; draws are made unseen, and enter the recording as arguments.

        Raises:
            CannotRecord: where numbers would leave it, or a draw depends on them.
        """
        options = dict(kwargs or {})
        if func in LEAVES:
            raise CannotRecord(f"a move or a kernel reads numbers ({func.__name__}).")
        if self.generator is None or options.get("generator") is not self.generator:
            return func(*args, **options)
        if any(isinstance(x, Tensor) for x in (*args, *options.values())):
            raise CannotRecord(f"the law of a draw ({func.__name__}) depends on values.")
        del options["generator"]
        draw = Draw(func, args, options)
        with disable_proxy_modes_tracing():
            drawn = draw(self.generator)
        self.drawn.append((drawn, draw))
        return drawn.clone()  # noted: moves may write into it


# -- arguments -------------------------------------------------------------------------------------


def with_arguments(
    module: fx.GraphModule, outside: Outside
) -> tuple[tuple[int, ...], tuple[Draw, ...], tuple[Tensor, ...]]:
    """Make arguments of what was drawn and of what kernels hold, and leave out those that are not used.

    Returns:
        places of the arguments that are left, the draws, the held tensors.

    Raises:
        CannotRecord: for draws from elsewhere.
    """
    graph = module.graph
    given = [node for node in graph.nodes if node.op == "placeholder"]
    other = next((node for node in graph.nodes if _is_random(node)), None)
    if other is not None:
        raise CannotRecord(f"a draw ({other.target}) is not from the generator of the sweep.")
    by_value: dict[int, list[fx.Node]] = {}
    values: dict[int, Tensor] = {}
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        if not all(user.target is aten.lift_fresh_copy.default for user in node.users):
            value = getattr(module, str(node.target))
            by_value.setdefault(id(value), []).append(node)
            values[id(value)] = value
    last = given[-1]
    for number, (drawn, _) in enumerate(outside.drawn):
        last = _replaced(graph, by_value.pop(id(drawn), []), last, f"noise_{number}")
    for number, nodes in enumerate(by_value.values()):
        last = _replaced(graph, nodes, last, f"held_{number}")
    used = tuple(place for place, node in enumerate(given) if node.users)
    for node in given:
        if not node.users:
            graph.erase_node(node)
    module.recompile()
    draws = tuple(draw for _, draw in outside.drawn)
    return used, draws, tuple(values[key] for key in by_value)


def _replaced(graph: fx.Graph, nodes: list[fx.Node], last: fx.Node, name: str) -> fx.Node:
    """Put one argument, after the last, in the place of nodes."""
    with graph.inserting_after(last):
        put = graph.placeholder(name)
    for node in nodes:
        node.replace_all_uses_with(put)
        graph.erase_node(node)
    return put


def _is_random(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return node.op == "call_function" and torch.Tag.nondeterministic_seeded in tags
