"""One evaluation of the log joint that gives densities, scores, and the parameters' gradient at once.

A learning step that takes the parameters' gradient at the particles as they came needs no other
evaluation: its sweep sets out from the same densities and scores. Where sweeps are compiled, so is this
(see `recorded_sweeps`): recorded at its second call, compared, and from then on one call of a graph.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import CompileWarning, NonFiniteError, cause
from aif_dcpc.inference.model.densities import (
    active_factors,
    aligned_inputs,
    factor_slices,
    is_continuous,
    log_density,
)
from aif_dcpc.inference.model.factor_graph import Argument
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.parts import put_together, take_apart
from aif_dcpc.inference.model.recording import CannotRecord
from aif_dcpc.inference.model.state import Conditioning, FactorValue, State

Terms = dict[str, Tensor]
Places = dict[str, dict[Argument, Tensor]]
Evaluate = Callable[[State], State]


def evaluated(state: State) -> State:
    """Cache all factors and their scores; the parameters' gradients are left in `.grad`.

    Raises:
        NonFiniteError: the objective is not finite; no gradient is left.
    """
    terms, places = _differentiable(state)
    loss = _loss(state, terms)
    check_objective(state, loss, terms)
    loss.backward()
    scores = {
        key: {argument: _score(x, x.grad, state) for argument, x in given.items()}
        for key, given in places.items()
    }
    return _with_cache(state, terms, scores)


def check_objective(state: State, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
    """Raise if the objective is not finite, with the name of a site that is to blame.

    Raises:
        NonFiniteError: it is not.
    """
    if bool(torch.isfinite(loss)):
        return
    bad = next(
        (key for key, term in terms.items() if not bool(torch.isfinite(term).all())), "(weights)"
    )
    raise NonFiniteError(
        f"site {bad.split('@')[0]!r}, sweep {state.sweeps}: the learning objective is not finite, so the parameters "
        "were left as they are; try a lower learning rate, above all for covariances."
    )


def _differentiable(state: State) -> tuple[Terms, Places]:
    """The log densities of all factors, and the arguments towards which they have scores."""
    terms: Terms = {}
    places: Places = {}
    with no_validation():
        for factor in active_factors(state):
            given = {
                argument: value.detach()
                for argument, value in aligned_inputs(state, factor).items()
            }
            places[factor.key] = {
                argument: value.requires_grad_()
                for argument, value in given.items()
                if is_continuous(state.conditioning, argument.site)
            }
            terms[factor.key] = log_density(state, factor, given, *factor_slices(state, factor))
    return terms, places


def _loss(state: State, terms: Mapping[str, Tensor]) -> Tensor:
    """Minus the log joint, averaged over particles and summed over data; a term may be alike for all."""
    number = state.num_particles
    totals = [term.sum() * (number / len(term)) for term in terms.values()]
    return -1 / number * torch.stack(totals).sum()


def _score(place: Tensor, gradient: Tensor | None, state: State) -> Tensor:
    share = 1 / state.num_particles
    return torch.zeros_like(place) if gradient is None else gradient / -share


def _with_cache(
    state: State, terms: Mapping[str, Tensor], scores: Mapping[str, Mapping[Argument, Tensor]]
) -> State:
    return state.replace(
        cache={key: FactorValue(term.detach(), dict(scores[key])) for key, term in terms.items()}
    )


# -- compiled --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """The evaluation of clouds of one layout as a function of tensors.

    Attributes:
        layout: of the clouds.
        function: from the clouds' tensors in `used` and those that kernels hold.
        used: places of the clouds' tensors that are arguments.
        held: tensors of kernels, the parameters among them, as they are at each call.
        terms: keys of the factors, whose densities come first.
        places: factors and arguments of the scores that follow.
        learned: the parameters of the gradients that follow; the objective is the last.
    """

    layout: Any
    function: Callable[..., tuple[Tensor, ...]]
    used: tuple[int, ...]
    held: tuple[Tensor, ...]
    terms: tuple[str, ...]
    places: tuple[tuple[str, Argument], ...]
    learned: tuple[Tensor, ...]

    def __call__(self, state: State, leaves: Sequence[Tensor]) -> State:
        """Do what `evaluated` does."""
        found = self.function(*(leaves[place] for place in self.used), *self.held)
        densities, rest = found[: len(self.terms)], found[len(self.terms) :]
        terms = dict(zip(self.terms, densities, strict=True))
        check_objective(state, rest[-1], terms)
        scores: dict[str, dict[Argument, Tensor]] = {key: {} for key in self.terms}
        for (key, argument), score in zip(self.places, rest, strict=False):
            scores[key][argument] = score
        for parameter, gradient in zip(self.learned, rest[len(self.places) :], strict=False):
            parameter.grad = gradient
        return _with_cache(state, terms, scores)


class CompiledEvaluation:
    """Does what `evaluated` does, by a graph from the third call with clouds of one layout on.

    Gradients are not added to those that parameters have, and hooks on parameters are not called.
    """

    def __init__(self) -> None:
        self.met: Any = None
        self.conditioning: Conditioning | None = None  # held, since layouts know it by its address
        self.graph: Graph | None = None
        self.refused = False

    def __call__(self, state: State) -> State:
        """Evaluate a cloud at its values.

        Raises:
            NonFiniteError: as `evaluated`.

        Warns:
            CompileWarning: where it cannot be compiled, once, with the cause.
        """
        if self.refused:
            return evaluated(state)
        leaves, layout = _taken_apart(state)
        if self.graph is not None and self.graph.layout == layout:
            return self.graph(state, leaves)
        if self.met != layout:  # what kernels prepare at their first call is not to be recorded
            self.met = layout
            self.conditioning = state.conditioning
            return evaluated(state)
        expected = evaluated(state)
        try:
            self.graph = compiled_evaluation(state, leaves, layout)
        except Exception as error:  # kernels and compilers may raise anything
            self.refused = True
            said = f"the gradients of learning are evaluated without a compiler: {cause(error)}"
            warnings.warn(said, CompileWarning, stacklevel=4)
        return expected


def _taken_apart(state: State) -> tuple[list[Tensor], Any]:
    leaves: list[Tensor] = []
    rest = take_apart((state.values, state.masks, state.log_weights), leaves)
    return leaves, (id(state.conditioning), rest)


def compiled_evaluation(state: State, leaves: Sequence[Tensor], layout: Any) -> Graph:
    """Record the evaluation at one cloud, whose gradients have been evaluated, and compile it.

    Raises:
        CannotRecord: for kernels that read numbers or draw some.
        Exception: whatever compiling raises.
    """
    from aif_dcpc.inference.model.compiling import compiled_or_raise
    from aif_dcpc.inference.recorded_sweeps import Outside, traced, with_arguments

    like = (state.values, state.masks, state.log_weights)
    parameters = state.conditioning.factor_graph.model.parameters()
    learned = tuple(p for p in parameters if p.grad is not None)
    names: dict[str, Any] = {}

    def evaluate(*given: Tensor) -> tuple[Tensor, ...]:
        values, masks, log_weights = put_together(like, iter(given))
        here = state.replace(values=values, masks=masks, log_weights=log_weights, cache={})
        with torch.enable_grad():
            terms, places = _differentiable(here)
            loss = _loss(here, terms)
            pairs = [(key, argument) for key, own in places.items() for argument in own]
            inputs = [places[key][argument] for key, argument in pairs]
            found = torch.autograd.grad(loss, [*inputs, *learned], allow_unused=True)
        names.update(terms=tuple(terms), places=tuple(pairs))
        if any(gradient is None for gradient in found[len(inputs) :]):
            raise CannotRecord("a parameter has a gradient from elsewhere.")
        scores = [_score(x, gradient, here) for x, gradient in zip(inputs, found, strict=False)]
        gradients = [g for g in found[len(inputs) :] if g is not None]
        return tuple(x.detach() for x in (*terms.values(), *scores, *gradients, loss))

    bare = [x.detach() for x in leaves]
    with Outside(None) as outside:
        graph = traced(evaluate, bare)
    used, _, kept = with_arguments(graph, outside)
    held = tuple(x.detach() for x in kept)
    function = compiled_or_raise(graph, *(bare[place] for place in used), *held)
    return Graph(layout, function, used, held, names["terms"], names["places"], learned)
