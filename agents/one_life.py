"""A model of one episode as the model of a life: episodes follow each other in one series.

What the agent's author declares is one episode: sites with `initial` kernels for its first slice,
and sites with scope "episode" that hold all along. Here every kernel with a past starts anew where
the input `reset` is 1, by its initial kernel, and what held for an episode becomes a site of slices
that keeps its value until then. Global sites stay what they are: they are learned from the whole
life.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference import GraphicalModel, lag
from aif_dcpc.inference.distributions.switched import switched
from aif_dcpc.inference.model.graph import Lag, Site, parent_name

Kernel = Callable[..., Any]


def as_one_life(model: GraphicalModel, reset: str = "reset") -> GraphicalModel:
    """Return the model of many episodes, one after the other, where `model` is of one.

    Conditionals of the model's own are kept where they are as exact in a life: those of global sites
    whose readers stay what they are, and those that say what they read by an attribute `reset`, the
    name of that input.

    Args:
        model: a model over time; one that has the input `reset` already is returned as it is.
        reset: name of the input that is 1 at the first slice of each episode, 0 elsewhere.

    Raises:
        AgentError: for slow sites (`every(k)`), whose slices do not begin with an episode, for sites
            of an episode that are not finite, and for conditionals or a slice proposal of the
            model's own that know one episode only.
    """
    if reset in model.sites:
        return model
    life = GraphicalModel()
    life.add_input(reset)
    for site in model.sites.values():
        _add(life, _over_episodes(site, reset))
    for name, module in model.modules_of_sites.items():
        life.modules_of_sites[name] = module
    if model.slice_proposal is not None:
        raise AgentError(
            f"the model's slice proposal knows one episode only: leave it out, or give the model an "
            f"input {reset!r} and write it for a life."
        )
    for block, draw in model.conditionals.items():
        _check_conditional(model, life, block, getattr(draw, "reset", None) == reset)
        life.add_conditional(block, draw)
    return life


def _check_conditional(
    model: GraphicalModel, life: GraphicalModel, block: tuple[str, ...], reads_reset: bool
) -> None:
    """Refuse the draw of a block that is not exact in a life.

    Raises:
        AgentError: it does not read where episodes begin, and would have to.
    """
    if not reads_reset and not _is_as_in_one_episode(model, life, block):
        raise AgentError(
            f"the model's conditional of {', '.join(block)} knows one episode only, and what follows "
            "in a life begins anew with each: leave it out, or let it read the input that tells where "
            "episodes begin, and say so by an attribute `reset`, the name of that input."
        )


def _is_as_in_one_episode(
    model: GraphicalModel, life: GraphicalModel, block: tuple[str, ...]
) -> bool:
    """Whether sites are global, and what reads them, and what that reads besides, stays what it is."""
    readers = _through(model, block, model.children_of)
    read = _through(
        model, {*block, *readers}, lambda name: map(parent_name, model.sites[name].parents)
    )
    return (
        all(model.sites[name].scope == "global" for name in block)
        and all(model.sites[name].scope == life.sites[name].scope for name in {*readers, *read})
        and all(model.sites[name].kernel is life.sites[name].kernel for name in readers)
    )


def _through(
    model: GraphicalModel, names: Iterable[str], steps: Callable[[str], Iterable[str]]
) -> set[str]:
    """Names of random sites and inputs that a step leads to, or several through deterministic sites."""
    found: set[str] = set()
    ahead = list(names)
    while ahead:
        new = set(steps(ahead.pop())) - found
        found |= new
        ahead += [name for name in new if model.sites[name].kind == "deterministic"]
    return {name for name in found if model.sites[name].kind != "deterministic"}


def _add(model: GraphicalModel, site: Site) -> None:
    """Declare one site of a life."""
    if site.kernel is None:
        model.add_input(site.name, scope=site.scope)
    elif site.kind == "deterministic":
        model.add_deterministic(site.name, site.kernel, site.parents, scope=site.scope)
    else:
        model.add_site(site.name, site.kernel, site.parents, initial=site.initial, scope=site.scope)


def _over_episodes(site: Site, reset: str) -> Site:
    """Return a site as it is over many episodes."""
    if site.scope == "global":
        return site
    if site.scope not in ("slice", "episode"):
        raise AgentError(
            f"site {site.name!r}: slow sites do not begin with an episode; declare it with "
            "scope='slice' and let its kernel keep its value."
        )
    if site.kind == "stochastic" and site.kernel is not None and site.scope == "episode":
        return _kept(site, site.kernel, reset)
    if site.initial is None or site.kernel is None:
        return replace(site, scope="slice")
    return _restarting(site, site.kernel, site.initial, reset)


def _restarting(site: Site, kernel: Kernel, initial: Kernel, reset: str) -> Site:
    """Let a kernel with a past start anew by its initial kernel, as long as its past lies before."""
    now = tuple(n for n, parent in enumerate(site.parents) if not isinstance(parent, Lag))
    longest = max(parent.steps for parent in site.parents if isinstance(parent, Lag))
    before = tuple(lag(reset, steps) for steps in range(1, longest))
    return replace(
        site,
        kernel=functools.partial(_restarted, kernel, initial, now, longest),
        parents=(*site.parents, reset, *before),
        initial=functools.partial(_first, initial),
    )


def _restarted(
    kernel: Kernel, initial: Kernel, now: tuple[int, ...], longest: int, *values: Any
) -> Distribution:
    """Return the initial kernel's law where one of the last values, `reset`, is 1, else the usual one."""
    parents = values[:-longest]
    fresh = functools.reduce(torch.logical_or, (reset > 0 for reset in values[-longest:]))
    return switched(fresh, initial(*(parents[n] for n in now)), kernel(*parents))


def _first(initial: Kernel, *values: Any) -> Distribution:
    """Return the initial kernel's law at the beginning of a life, where `reset` is 1 of necessity."""
    found: Distribution = initial(*values[:-1])
    return found


def _kept(site: Site, kernel: Kernel, reset: str) -> Site:
    """Let a site of an episode be drawn at its first slice and keep its value."""
    return replace(
        site,
        kernel=functools.partial(_redrawn, kernel, site.name),
        parents=(lag(site.name), *site.parents, reset),
        initial=functools.partial(_first, kernel),
        scope="slice",
    )


def _redrawn(kernel: Kernel, name: str, before: Tensor, *values: Any) -> Distribution:
    """Return the kernel's law where the last value, `reset`, is 1, else a point mass on the value before."""
    *parents, reset = values
    fresh = kernel(*parents)
    return switched(reset > 0, fresh, _point(fresh, before, name))


def _point(like: Distribution, value: Tensor, name: str) -> Distribution:
    """Return the point mass of a distribution's own family.

    Raises:
        AgentError: the family has none.
    """
    if isinstance(like, Bernoulli):
        return Bernoulli(value)
    if isinstance(like, Categorical):
        size = like.probs.shape[-1]
        places = torch.arange(size, device=value.device)
        return Categorical((value.unsqueeze(-1) == places).to(like.probs.dtype))
    raise AgentError(
        f"site {name!r}: a site of an episode must be Bernoulli or Categorical, found "
        f"{type(like).__name__}; give the model an input 'reset' and write its kernel for a life."
    )
