"""Finding the loops of a program: statements that do the same operations become one site.

A loop of statements z_0, z_1, ... is the site "z_*", whose elements are the statements in order; each
statement's own name leads to its element, as a deterministic site, so that it can be recorded.
Statements stay apart where there are few of them, where their graphs differ, or where a site of
theirs would be its own ancestor through others.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from aif_dcpc.inference.frontends.loop_kernels import OWN, Element, LoopKernel, Role
from aif_dcpc.inference.frontends.pyro_import import TracedKernel
from aif_dcpc.inference.model.supports import base_law

LEAST_STATEMENTS = 8  # fewer are kept as they are
Message = Any  # Pyro's record of one statement, by key
Kernels = Mapping[str, tuple[TracedKernel, tuple[str, ...]]]


@dataclass(frozen=True)
class Loop:
    """Statements that are one site: its name, and theirs in order."""

    name: str
    members: tuple[str, ...]


def find_loops(kernels: Kernels, sites: Mapping[str, Message]) -> tuple[Loop, ...]:
    """Find the statements that can be one site each."""
    alike: dict[Any, list[str]] = defaultdict(list)
    for name, (kernel, _) in kernels.items():
        alike[_signature(name, kernel, sites[name])].append(name)
    taken = set(kernels)
    loops: list[Loop] = []
    for members in alike.values():
        if len(members) < LEAST_STATEMENTS:
            continue
        loop = Loop(_stem(members, taken), tuple(members))
        fits = not is_drawn(sites[members[0]]) or _can_be_drawn(members, kernels, sites)
        if fits and _is_acyclic([*loops, loop], kernels):
            loops.append(loop)
            taken.add(loop.name)
    return tuple(loops)


def _stem(members: Sequence[str], taken: set[str]) -> str:
    stem = re.sub(r"\d+", "*", members[0])
    while stem in taken:
        stem += "*"
    return stem


# -- which statements are alike --------------------------------------------------------------------


def _signature(name: str, kernel: TracedKernel, site: Message) -> Any:
    """What the statements of one loop have in common; no other statement has it."""
    graph: Any = kernel.density.graph
    own = tuple(place < 0 for place in kernel.places)
    value = site["value"]
    frames = tuple(sorted(f.dim for f in site["cond_indep_stack"] if f.vectorized))
    shape = (kernel.plates, kernel.event, value.dtype, frames)
    return site["is_observed"], shape, own, _support(site), tuple(map(str, _operations(graph)))


def _support(site: Message) -> Any:
    """Name a latent's support with its bounds."""
    if site["is_observed"]:
        return None
    support = site["fn"].support
    bounds = tuple((k, _plain(v)) for k, v in sorted(vars(support).items()))
    return type(support).__name__, bounds


def _plain(value: Any) -> str:
    return str(value.tolist() if isinstance(value, Tensor) else value)


def _operations(module: fx.GraphModule) -> list[Any]:
    """What a graph does, its constants left out."""
    places = {node: f"%{i}" for i, node in enumerate(module.graph.nodes)}

    def named(argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda n: _Name(places[n]))

    found: list[Any] = []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            found.append("argument")
        elif node.op == "get_attr":
            found.append(_held(getattr(module, node.target)))
        else:
            found.append((node.op, str(node.target), named(node.args), named(dict(node.kwargs))))
    return found


class _Name(str):
    """A node by its place."""

    __slots__ = ()


def _held(value: Any) -> Any:
    """A constant by its shape, a parameter by itself."""
    is_constant = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    return (tuple(value.shape), value.dtype) if is_constant else id(value)


def _is_acyclic(loops: Sequence[Loop], kernels: Kernels) -> bool:
    """Whether no site would be its own ancestor, other than a loop whose statements read earlier ones."""
    return len(ordered(loops, kernels)) == len(_sites(loops, kernels))


def _sites(loops: Sequence[Loop], kernels: Kernels) -> dict[str, tuple[str, ...]]:
    """Name the sites of the model: loops with their statements, and statements that are in none."""
    site_of = {member: loop.name for loop in loops for member in loop.members}
    found: dict[str, tuple[str, ...]] = {}
    for name in kernels:
        site = site_of.get(name, name)
        found[site] = (*found.get(site, ()), name)
    return found


def parents_of(loops: Sequence[Loop], kernels: Kernels) -> dict[str, tuple[str, ...]]:
    """Site -> the sites that its statements read, itself left out."""
    site_of = {member: loop.name for loop in loops for member in loop.members}
    return {
        site: tuple(
            dict.fromkeys(
                parent
                for member in members
                for name in kernels[member][1]
                if (parent := site_of.get(name, name)) != site
            )
        )
        for site, members in _sites(loops, kernels).items()
    }


def ordered(loops: Sequence[Loop], kernels: Kernels) -> tuple[str, ...]:
    """Name sites, parents first, else as in the program; those of a cycle are left out."""
    waiting = parents_of(loops, kernels)
    done: dict[str, None] = {}
    before = -1
    while len(done) > before:
        before = len(done)
        for site, parents in list(waiting.items()):
            if set(parents) <= done.keys():
                done[site] = None
                del waiting[site]
    return tuple(done)


# -- discrete loops --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A site that reads a loop: for each of its statements, which element it reads, if any."""

    site: str
    elements: tuple[int | None, ...]
    is_loop: bool


def is_drawn(site: Message) -> bool:
    """Whether a statement is a latent of finite support, which its loop draws at once."""
    return not site["is_observed"] and bool(base_law(site["fn"]).has_enumerate_support)


def _can_be_drawn(members: Sequence[str], kernels: Kernels, sites: Mapping[str, Message]) -> bool:
    """Whether discrete statements are independent, or a chain, given all others."""
    return (
        not sites[members[0]]["fn"].event_shape
        and readers_of(members, (), kernels) is not None
        and starts_of(members, kernels) is not None
        and all(_in_plates(name, kernels, sites) for name in members)
    )


def readers_of(
    members: Sequence[str], loops: Sequence[Loop], kernels: Kernels
) -> tuple[Reader, ...] | None:
    """List the sites that read a loop; None if a statement of theirs reads two of its elements."""
    places = {name: i for i, name in enumerate(members)}
    others = {loop.name: loop.members for loop in loops if loop.members != tuple(members)}
    loose = set(kernels).difference(members, *others.values())
    found = []
    for site, names in {**others, **{n: (n,) for n in kernels if n in loose}}.items():
        read = [[places[p] for p in kernels[name][1] if p in places] for name in names]
        if any(len(elements) > 1 for elements in read):
            return None
        if any(read):
            indices = tuple(e[0] if e else None for e in read)
            found.append(Reader(site, indices, site in others))
    return tuple(found)


def starts_of(members: Sequence[str], kernels: Kernels) -> tuple[bool, ...] | None:
    """For every statement of a loop, whether it reads none before it; None if the loop is no chain."""
    places = {name: i for i, name in enumerate(members)}
    read = [[places[p] for p in kernels[name][1] if p in places] for name in members]
    is_chain = all(found in ([], [place - 1]) for place, found in enumerate(read))
    return tuple(not found for found in read) if is_chain else None


def _in_plates(name: str, kernels: Kernels, sites: Mapping[str, Message]) -> bool:
    """Whether vectorised plates cover a statement's batch shape, and all that read it lie in these."""
    frames = {f for f in sites[name]["cond_indep_stack"] if f.vectorized}
    shape = sites[name]["fn"].batch_shape
    covered = {f.dim for f in frames}
    children = [n for n, (_, parents) in kernels.items() if name in parents]
    whole = all(size == 1 or i - len(shape) in covered for i, size in enumerate(shape))
    return whole and all(frames <= set(sites[c]["cond_indep_stack"]) for c in children)


# -- kernels ---------------------------------------------------------------------------------------


def loop_kernel(
    loop: Loop, loops: Sequence[Loop], kernels: Kernels
) -> tuple[LoopKernel, tuple[str, ...]]:
    """Return a loop's kernel and its parents."""
    parents = parents_of(loops, kernels)[loop.name]
    where = elements(loop, loops, parents)
    members = [kernels[name][0] for name in loop.members]
    roles = []
    for number, place in enumerate(members[0].places):
        if place < 0:
            read = list(loop.members)
        else:
            read = [kernels[m][1][kernels[m][0].places[number]] for m in loop.members]
        roles.append(Role([where[name] for name in read]))
    draws = [[where[name] for name in kernels[m][1]] for m in loop.members]
    return LoopKernel(members, roles, draws), parents


def elements(loop: Loop, loops: Sequence[Loop], parents: Sequence[str]) -> dict[str, Element]:
    """Where a loop's kernel finds the value of every statement that it may read."""
    found = {name: Element(place, None) for place, name in enumerate(parents)}
    for other in loops:
        if other.name != loop.name and other.name not in parents:
            continue
        place = OWN if other.name == loop.name else parents.index(other.name)
        found.update({name: Element(place, i) for i, name in enumerate(other.members)})
    return found


@dataclass(frozen=True)
class Pick:
    """Read one statement's value from its loop's."""

    index: int

    def __call__(self, loop: Tensor) -> Tensor:
        """`(K, B, *plates, *event)` of `(K, B, N, *plates, *event)`."""
        return loop.select(2, self.index)


def stacked(names: Sequence[str], values: Mapping[str, Tensor]) -> Tensor:
    """Stack the values of a loop's statements, `(N, *plates, *event)`."""
    return torch.stack([values[name] for name in names])
