"""Finding the loops of a program: statements that do the same operations become one site.

A loop of statements z_0, z_1, ... is the site "z_*", whose elements are the statements in order; each
statement's own name leads to its element (`model.elements`). Loops of which each would be its own
ancestor through the other, such as levels and trends that read each other's past, are one site
together, "level_*+trend_*". Statements stay apart where there are few of them, where their graphs
differ, or where a site of theirs would be its own ancestor all the same.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from aif_dcpc.inference.frontends.loop_kernels import (
    OWN,
    Alike,
    Element,
    Group,
    LoopKernel,
    Role,
)
from aif_dcpc.inference.frontends.pyro_import import TracedKernel
from aif_dcpc.inference.model.supports import base_law

LEAST_STATEMENTS = 8  # fewer are kept as they are
Message = Any  # Pyro's record of one statement, by key
Kernels = Mapping[str, tuple[TracedKernel, tuple[str, ...]]]


@dataclass(frozen=True)
class Loop:
    """Statements that are one site.

    Attributes:
        name: of the site.
        members: names of the statements in order.
        groups: the same by what they do, most often one group.
    """

    name: str
    members: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


def find_loops(kernels: Kernels, sites: Mapping[str, Message]) -> tuple[Loop, ...]:
    """Find the statements that can be one site each."""
    alike: dict[Any, list[str]] = defaultdict(list)
    for name, (kernel, _) in kernels.items():
        alike[_signature(name, kernel, sites[name])].append(name)
    taken = set(kernels)
    loops: list[Loop] = []
    waiting: list[Loop] = []
    for members in alike.values():
        if len(members) < LEAST_STATEMENTS:
            continue
        loop = Loop(_stem(members, taken), tuple(members), (tuple(members),))
        if is_drawn(sites[members[0]]) and not _can_be_drawn(members, kernels, sites):
            continue
        fits = _is_acyclic([*loops, loop], kernels)
        (loops if fits else waiting).append(loop)
        taken.add(loop.name)
    while waiting:
        together = _entangled(waiting[0], [*loops, *waiting], kernels)
        merged = _merged(together, kernels, sites)
        apart = [loop for loop in loops if loop not in together]
        if merged is not None and _is_acyclic([*apart, merged], kernels):
            loops = [*apart, merged]
            waiting = [loop for loop in waiting if loop not in together]
        else:
            waiting = waiting[1:]
    return tuple(loops)


def _entangled(loop: Loop, loops: Sequence[Loop], kernels: Kernels) -> list[Loop]:
    """List a loop and all that would be its ancestors and its descendants at once."""
    parents = parents_of(loops, kernels)
    up = {other.name: _ancestors(other.name, parents) for other in loops}
    return [o for o in loops if o is loop or (o.name in up[loop.name] and loop.name in up[o.name])]


def _merged(
    together: Sequence[Loop], kernels: Kernels, sites: Mapping[str, Message]
) -> Loop | None:
    """Join loops; None for a single one, and where they differ in kind or are not continuous latents."""
    first = sites[together[0].members[0]]
    kinds = {_kind(sites[o.members[0]], kernels[o.members[0]][0]) for o in together}
    if len(together) < 2 or len(kinds) > 1 or first["is_observed"] or is_drawn(first):
        return None
    groups = tuple(group for loop in together for group in loop.groups)
    names = {member for group in groups for member in group}
    members = tuple(name for name in kernels if name in names)
    return Loop("+".join(loop.name for loop in together), members, groups)


def _ancestors(name: str, parents: Mapping[str, Sequence[str]]) -> Set[str]:
    """All ancestors of a site, itself only where it is one of them."""
    found: set[str] = set()
    waiting = list(parents[name])
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += parents[other]
    return found


def _stem(members: Sequence[str], taken: set[str]) -> str:
    stem = re.sub(r"\d+", "*", members[0])
    while stem in taken:
        stem += "*"
    return stem


# -- which statements are alike --------------------------------------------------------------------


def _signature(name: str, kernel: TracedKernel, site: Message) -> Any:
    """What the statements of one loop have in common; no other statement has it."""
    own = tuple(place < 0 for place in kernel.places)
    return _kind(site, kernel), own, _operations(kernel.density.graph)


def _kind(site: Message, kernel: TracedKernel) -> Any:
    """What the values of one site have in common."""
    frames = tuple(sorted(f.dim for f in site["cond_indep_stack"] if f.vectorized))
    shape = (kernel.plates, kernel.event, site["value"].dtype, frames)
    return site["is_observed"], shape, _support(site)


def _support(site: Message) -> Any:
    """Name a latent's support with its bounds."""
    if site["is_observed"]:
        return None
    support = site["fn"].support
    bounds = tuple((k, _plain(v)) for k, v in sorted(vars(support).items()))
    return type(support).__name__, bounds


def _plain(value: Any) -> str:
    return str(value.tolist() if isinstance(value, Tensor) else value)


def _operations(module: Any) -> tuple[str, ...]:
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
    return tuple(map(str, found))


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
    draws = [[where[name] for name in kernels[m][1]] for m in loop.members]
    groups = [_group(loop, names, where, kernels) for names in loop.groups]
    return LoopKernel(members, groups, draws), parents


def _group(
    loop: Loop, names: Sequence[str], where: Mapping[str, Element], kernels: Kernels
) -> Group:
    """Batch what the statements of a group do."""
    members = [kernels[name][0] for name in names]
    density = _alike(
        [member.density.graph for member in members],
        [
            [name if place < 0 else kernels[name][1][place] for place in kernels[name][0].places]
            for name in names
        ],
        where,
        [where[name] for name in names],
    )
    location = scale = None
    standards = [member.standard for member in members]
    if all(standard is not None for standard in standards):
        location = _standard(names, where, kernels, 0)
        scale = _standard(names, where, kernels, 1)
        if location is not None and location.reads_own:  # a path: from where it starts
            location = _standard(names[:1], where, kernels, 0)
    return Group(
        [loop.members.index(name) for name in names],
        density,
        None if scale is None or scale.reads_own else scale,
        None if location is None or location.reads_own else location,
    )


def _standard(
    names: Sequence[str], where: Mapping[str, Element], kernels: Kernels, which: int
) -> Alike | None:
    """Batch the locations (0) or scales (1) of statements; None where they do different things."""
    parts: list[Any] = [kernels[name][0].standard for name in names]
    graphs = [part[which].graph.graph for part in parts]
    if len({_operations(graph) for graph in graphs}) > 1:
        return None
    read = [
        [kernels[name][1][place] for place in part[which].places]
        for name, part in zip(names, parts, strict=True)
    ]
    return _alike(graphs, read, where, [where[name] for name in names])


def _alike(
    graphs: Sequence[Any],
    read: Sequence[Sequence[str]],
    where: Mapping[str, Element],
    own: Sequence[Element],
) -> Alike:
    """Batch graphs; `read` names their arguments, statement by statement."""
    columns = zip(*read, strict=True)
    roles = [Role([where[name] for name in names], own) for names in columns]
    return Alike(graphs, roles)


def elements(loop: Loop, loops: Sequence[Loop], parents: Sequence[str]) -> dict[str, Element]:
    """Where a loop's kernel finds the value of every statement that it may read."""
    found = {name: Element(place, None) for place, name in enumerate(parents)}
    for other in loops:
        if other.name != loop.name and other.name not in parents:
            continue
        place = OWN if other.name == loop.name else parents.index(other.name)
        found.update({name: Element(place, i) for i, name in enumerate(other.members)})
    return found


def stacked(names: Sequence[str], values: Mapping[str, Tensor]) -> Tensor:
    """Stack the values of a loop's statements, `(N, *plates, *event)`."""
    return torch.stack([values[name] for name in names])
