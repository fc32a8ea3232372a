"""Pyro programs of static structure as graphical models.

    >>> import pyro, torch
    >>> import pyro.distributions as dist
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> def program(y):
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("data", len(y)):
    ...         pyro.sample("y", dist.Normal(z, 1.0), obs=y)
    >>> model, data = GraphicalModel.from_pyro(program, torch.tensor([1.0, 2.0, 0.0]))
    >>> {name: tuple(value.shape) for name, value in data.items()}
    {'y': (1, 3)}
    >>> state, info = DCPC(model).run(DCPC(model).init(data), num_sweeps=10)

The program runs a few times, for one particle and one data point, exactly as Pyro would run it: it need
not broadcast. The log density of every site becomes a graph of tensor operations (`tensor_graphs`),
whose inputs are the site's parents; neither Pyro nor the program is called afterwards (but for
draws by rejection, which no graph can hold). Eight or more statements of a loop that do the same
operations are one site, `loops`: "z_*" for z_0, z_1, ...; data, masks, interventions, particles and
results take the statements' own names as well (`model.elements`). An observation that is computed
from latents (`obs=y - z`) is a factor, and so is what makes a flat prior improper (`improper`); what a
handler has reparameterised, or `pyro.deterministic` names, is a deterministic site. A program may
index with its latents (`table[z]`), read its data (`int(y.max())`) and mask what it observes
(`obs_mask=` gives the sites "y_observed" and "y_unobserved"). One that looks at the numbers in its
latents (`if z > 0`) has no static structure and is refused, with its line. Sites keep the shape that
they have in the program, plates first. `LKJCholesky` and `LKJ` draw by `distributions.LKJCholesky`,
since torch's draws do not follow its density; `OrderedLogistic` keeps the tails that Pyro's cuts off.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
from torch import Tensor

from aif_dcpc.inference.frontends.loop_conditional import add_loop_conditional
from aif_dcpc.inference.frontends.loops import (
    Kernels,
    Loop,
    find_loops,
    is_drawn,
    loop_kernel,
    ordered,
    stacked,
)
from aif_dcpc.inference.frontends.plated_conditional import add_plated_conditional
from aif_dcpc.inference.frontends.program_checks import read_statements
from aif_dcpc.inference.frontends.pyro_import import (
    read_deterministics,
    read_kernels,
)
from aif_dcpc.inference.frontends.pyro_statements import (
    Message,
    Program,
    plain_value,
)
from aif_dcpc.inference.model.elements import ByName, Pick
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.isolation import DrawsFrom, no_validation


def from_pyro(
    function: Callable[..., Any], *arguments: Any, **options: Any
) -> tuple[GraphicalModel, dict[str, Tensor]]:
    """Read a Pyro program as a model and its data (see `GraphicalModel.from_pyro`)."""
    with no_validation(), DrawsFrom(0), pyro.poutine.block():
        program, sites = read_statements(Program(function, options), arguments)
        values = {name: plain_value(site) for name, site in sites.items()}
        kernels = read_kernels(program, arguments, sites, values)
        named = read_deterministics(program, arguments, values)
    loops = find_loops(kernels, sites)
    model = _model(loops, kernels)
    for name, (value, parents) in named.items():
        model.add_deterministic(name, value, parents)
    _add_conditionals(model, loops, kernels, sites)
    return model, _data(model, loops, sites, values)


def _model(loops: tuple[Loop, ...], kernels: Kernels) -> GraphicalModel:
    """Declare every loop, and every statement that is in none, parents first."""
    model = GraphicalModel()
    by_name = {loop.name: loop for loop in loops}
    for name in ordered(loops, kernels):
        if name not in by_name:
            model.add_site(name, *kernels[name])
            continue
        loop = by_name[name]
        model.add_site(name, *loop_kernel(loop, loops, kernels))
        for index, member in enumerate(loop.members):
            model.add_deterministic(member, Pick(index), (name,))
    return model


def _add_conditionals(
    model: GraphicalModel,
    loops: tuple[Loop, ...],
    kernels: Kernels,
    sites: Mapping[str, Message],
) -> None:
    """Let discrete statements within plates, and in loops, be drawn at once."""
    for loop in loops:
        if is_drawn(sites[loop.members[0]]):
            add_loop_conditional(model, loop, loops, kernels)
    first = {loop.name: sites[loop.members[0]] for loop in loops}
    for name in sites:
        if model.sites[name].kind == "stochastic":
            add_plated_conditional(model, name, {**sites, **first})


def _data(
    model: GraphicalModel,
    loops: tuple[Loop, ...],
    sites: Mapping[str, Message],
    values: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return what is observed, `(1, *plates, *event)`, of loops `(1, N, *plates, *event)`."""
    observed = [name for name, site in sites.items() if site["is_observed"]]
    loose = {n: values[n] for n in observed if model.sites[n].kind == "stochastic"}
    rows = {
        loop.name: stacked(loop.members, values) for loop in loops if loop.members[0] in observed
    }
    found = {name: value[None] for name, value in {**loose, **rows}.items()}
    return ByName(found, model.sites, 1)
