"""Declaring a directed acyclic graphical model: named sites, each with a kernel p(site | parents).

A *kernel* is any callable (or `nn.Module`) of the parents' values that returns a torch or Pyro
distribution. Values carry leading axes `(K, B)` (particles, data) or `(K, B, T)` (with time);
whatever follows belongs to the event::

    model = GraphicalModel()
    model.add_site("z", lambda: Normal(torch.zeros(2), 1.0))
    model.add_site("x", lambda z: Normal(z.sum(-1), 0.1), parents=["z"])

A *scope* says how often a site occurs: once per data point (`"episode"`, the default), per time
slice (`"slice"`), per k slices (`every(k)`), or once for all data (`"global"`). Parents may lie at an
earlier slice (`lag("s")`) or at a slower scope. This module only declares; `factor_graph` turns a
declaration into batched factors, and moves update sites.

Reference: Sennesh, Wu, Salvatori (2024), arXiv 2408.05834, section 2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.misspelt import unknown_name

Kernel = Callable[..., Distribution]
# (values, generator) or (values, generator, masks=...) -> new values of the block
ConditionalDraw = Callable[..., Mapping[str, Tensor]]
SliceProposal = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor], torch.Generator],
    tuple[Mapping[str, Tensor], Tensor],
]

# doors to what builds on this module, imported when asked for
FROM_PYRO = "aif_dcpc.inference.frontends.pyro_program:from_pyro"
FROM_SEQUENTIAL = "aif_dcpc.inference.frontends.sequential:from_sequential"


@dataclass(frozen=True)
class Lag:
    """The value of `site` that lies `steps` slices back."""

    site: str
    steps: int = 1


def lag(site: str, steps: int = 1) -> Lag:
    """Refer to a parent at an earlier slice.

    Args:
        site: name of a site with time.
        steps: how many slices back, at least 1.

    Raises:
        ModelError: if `steps` is not a positive integer.
    """
    if steps < 1:
        raise ModelError(
            f"lag({site!r}, {steps}): expected at least 1 step back; for the same slice write "
            f"{site!r}."
        )
    return Lag(site, steps)


@dataclass(frozen=True)
class Every:
    """A scope with one value per `period` slices."""

    period: int


def every(period: int) -> Every:
    """Give a site one value per `period` slices: slice t has value t // period."""
    if period < 2:
        raise ModelError(
            f"every({period}): expected a period of at least 2; use scope='slice' for one value "
            "a slice."
        )
    return Every(period)


Scope = Literal["slice", "episode", "global"] | Every
Parent = str | Lag


@dataclass(frozen=True)
class Site:
    """One variable of the graph, as it was declared.

    Attributes:
        name: unique name.
        kernel: p(site | parents), or the function of a deterministic site; None for an input.
        parents: names and lags, in the order of the kernel's arguments.
        initial: kernel of the slices whose lagged parents lie before the series; takes the parents
            without lag.
        scope: how often the site occurs.
        kind: "stochastic", "deterministic" or "input".
    """

    name: str
    kernel: Callable[..., Any] | None
    parents: tuple[Parent, ...]
    initial: Kernel | None
    scope: Scope
    kind: Literal["stochastic", "deterministic", "input"]

    @cached_property
    def period(self) -> int | None:
        """Slices per value; None for a site without time."""
        if self.scope == "slice":
            return 1
        return self.scope.period if isinstance(self.scope, Every) else None

    @cached_property
    def batch_ndim(self) -> int:
        """Number of leading axes of a value: 3 with time, else 2."""
        return 2 if self.period is None else 3


def parent_name(parent: Parent) -> str:
    """The parent's name, with or without lag."""
    return parent.site if isinstance(parent, Lag) else parent


def dotless(name: str) -> str:
    """A name under which a module may be registered, another one for every name."""
    return name.replace("~", "~0").replace(".", "~1")


class GraphicalModel(nn.Module):
    """A directed acyclic graph of sites; learnable kernels are registered as submodules.

    Examples:
        >>> from torch.distributions import Normal
        >>> model = GraphicalModel()
        >>> model.add_site("s", lambda s: Normal(0.9 * s, 0.5), parents=[lag("s")],
        ...                initial=lambda: Normal(0.0, 1.0), scope="slice")
        >>> model.add_site("o", lambda s: Normal(s, 1.0), parents=["s"], scope="slice")
        >>> model.order
        ('s', 'o')
    """

    def __init__(self) -> None:
        super().__init__()
        self.sites: dict[str, Site] = {}
        self.conditionals: dict[tuple[str, ...], ConditionalDraw] = {}
        self.slice_proposal: SliceProposal | None = None
        self.modules_of_sites = nn.ModuleDict()

    # -- declaration -------------------------------------------------------------------------------

    def add_site(
        self,
        name: str,
        kernel: Kernel,
        parents: Sequence[Parent] = (),
        *,
        initial: Kernel | None = None,
        scope: Scope = "episode",
        conditional: ConditionalDraw | None = None,
    ) -> None:
        """Add a random variable with density p(name | parents).

        Args:
            name: unique name of the site, such as "z" or "layer.weight".
            kernel: callable of the parents' values, in order, that returns a distribution whose
                batch shape starts with the leading axes of its arguments; a kernel without parents
                returns the event's distribution. `P[s]` picks by latent `s` from a table `P`,
                constant or latent (see `model.indexing`).
            parents: names of earlier sites, or `lag(...)` of any site with time (itself included).
            initial: kernel of the first slices, a callable of the parents without lag; needed with
                lagged parents.
            scope: "slice", every(k), "episode" or "global".
            conditional: an exact draw of this site given all other values, used instead of the
                engine's own move.

        Raises:
            ModelError: for a repeated name, an unknown parent, or scopes that do not fit.
        """
        if initial is None and any(isinstance(p, Lag) for p in parents):
            raise ModelError(
                f"site {name!r} has lagged parents and no `initial` kernel: say how its first "
                "slices start."
            )
        self._register(Site(name, kernel, tuple(parents), initial, scope, "stochastic"))
        if conditional is not None:
            self.add_conditional((name,), conditional)

    def add_deterministic(
        self,
        name: str,
        function: Callable[..., Tensor],
        parents: Sequence[Parent],
        *,
        scope: Scope = "episode",
    ) -> None:
        """Add a value that is a function of its parents (no randomness of its own).

        Raises:
            ModelError: as `add_site`; also for lagged parents (put the lag where the value is
                used).
        """
        if any(isinstance(p, Lag) for p in parents):
            raise ModelError(
                f"deterministic site {name!r}: use parents of the same slice; lag the value where "
                "it is used."
            )
        self._register(Site(name, function, tuple(parents), None, scope, "deterministic"))

    def add_input(self, name: str, *, scope: Scope = "slice") -> None:
        """Add an observed quantity without a density, such as an action; it must be clamped."""
        self._register(Site(name, None, (), None, scope, "input"))

    def add_conditional(self, sites: Sequence[str], draw: ConditionalDraw) -> None:
        """Hand the engine an exact draw of one block given everything else.

        Args:
            sites: the block, names of stochastic sites.
            draw: `draw(values, generator) -> new values of the block`; `values` holds every site,
                latent ones `(K, B, [T,] *event)`, observed ones `(1, B, [T,] *event)`. A draw that
                knows what to do with missing data takes `masks=` too, site -> `(1, B, [T,]
                *elements)` True where observed, for data of which some are missing and for the
                block itself (conditioned on what is observed of it, which is put back);
                without it the engine uses its own moves where the draw would not be exact.

        Raises:
            ModelError: for an unknown site.
        """
        for name in sites:
            self._require(name)
        self.conditionals[tuple(sites)] = draw

    def add_slice_proposal(self, propose: SliceProposal) -> None:
        """Hand the engine a proposal for one more slice.

        Args:
            propose: `propose(values, observation, generator) -> (new values,
                log_incremental_weights (K, B))`; the new values are whole tensors `(K, B, T + 1,
                *event)` of every latent site with time, and of any other latent site that the
                proposal redraws.
        """
        self.slice_proposal = propose

    # -- from other declarations -------------------------------------------------------------------

    @staticmethod
    def from_pyro(
        program: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> tuple["GraphicalModel", dict[str, Tensor]]:
        """Read a Pyro program of static structure (see `frontends.pyro_program`).

        Args:
            program: the program; it may use plates, loops, `pyro.markov`, `pyro.param`, modules
                with random weights, indices by latents, masks of what is observed, and handlers
                such as `condition`.
            args: its arguments, observations included.
            kwargs: its keyword arguments.

        Returns:
            the model, and the observed sites' values to clamp, `(1, *plates, *event)` each; a loop
            of eight or more statements y_0, y_1, ... is one site "y_*", `(1, N, *plates, *event)`,
            but wherever names are taken, or looked up, those of the statements are taken too.

        Raises:
            ModelError: if the sites or their parents change from run to run, for subsampling and
                scales, for random numbers outside of statements and for latents that no move
                updates; the message holds the cause and the program's own line.
        """
        found: tuple[GraphicalModel, dict[str, Tensor]] = resolve_name(FROM_PYRO)(
            program, *args, **kwargs
        )
        return found

    @staticmethod
    def from_sequential(
        net: nn.Sequential,
        noise: float | Sequence[float],
        *,
        output: Callable[[Tensor], Distribution] | None = None,
    ) -> "GraphicalModel":
        """Put a Gaussian latent between the layers of a network (see `frontends.sequential`).

        Args:
            net: its children are the layers; they take `(N, *event)` and are shared, not copied.
            noise: standard deviation of the latents around their layers' outputs, one or one per
                layer.
            output: distribution of the last layer's output `(K, B, *event)`; Gaussian by default.

        Returns:
            a model with the input "input", the latents "layer1", "layer2" ... and the site
                "output".

        Raises:
            ModelError: for noise that does not fit, batch normalisation or dropout.
        """
        model: GraphicalModel = resolve_name(FROM_SEQUENTIAL)(net, noise, output=output)
        return model

    def _register(self, site: Site) -> None:
        if not isinstance(site.name, str) or not site.name:
            raise ModelError(f"site name {site.name!r}: expected a non-empty name.")
        if site.name in self.sites:
            raise ModelError(
                f"site {site.name!r} is declared twice: give every site a name of its own."
            )
        for parent in site.parents:
            self._check_parent(site, parent)
        self.sites[site.name] = site
        for role, function in (("kernel", site.kernel), ("initial", site.initial)):
            if isinstance(function, nn.Module):
                self.modules_of_sites[f"{dotless(site.name)}:{role}"] = function

    def _check_parent(self, site: Site, parent: Parent) -> None:
        if not isinstance(parent, (str, Lag)):
            raise ModelError(
                f"site {site.name!r}: a parent is a name or lag(name), not {parent!r}."
            )
        name = parent_name(parent)
        lagged = isinstance(parent, Lag)
        if lagged and (name == site.name or name not in self.sites):
            return  # may be declared later: checked when the model is factored
        if name not in self.sites:
            raise ModelError(
                f"site {site.name!r}: {unknown_name('parent', name, self.sites)} "
                "Declare parents first."
            )
        _check_scopes(site, self.sites[name])

    def _require(self, name: str) -> Site:
        if name not in self.sites:
            raise ModelError(unknown_name("site", name, self.sites))
        return self.sites[name]

    # -- structure ---------------------------------------------------------------------------------

    @property
    def order(self) -> tuple[str, ...]:
        """Names of all sites, parents first (lagged parents aside)."""
        return tuple(self.sites)

    def children_of(self, name: str) -> tuple[str, ...]:
        """Names of the sites that have `name` among their parents."""
        self._require(name)
        return tuple(s.name for s in self.sites.values() if name in map(parent_name, s.parents))

    def markov_blanket(self, name: str) -> tuple[str, ...]:
        """Parents, children and the children's other parents of a site."""
        blanket = set(map(parent_name, self._require(name).parents))
        for child in self.children_of(name):
            blanket |= {child, *map(parent_name, self.sites[child].parents)}
        return tuple(n for n in self.sites if n in blanket - {name})

    def extra_repr(self) -> str:
        """One line per site: name, scope, parents."""
        lines = (
            f"{s.name} ({s.scope}) <- {', '.join(map(str, s.parents)) or 'nothing'}"
            for s in self.sites.values()
        )
        return "\n".join(lines)


def _check_scopes(site: Site, parent: Site) -> None:
    """Refuse a parent that has values where its child has none, or in other places."""
    own = site.period
    other = parent.period
    if own is None and other is not None:
        raise ModelError(
            f"site {site.name!r} has no time, but its parent {parent.name!r} has: give it "
            "scope='slice'."
        )
    if site.scope == "global" and parent.scope != "global":
        raise ModelError(
            f"global site {site.name!r} cannot depend on {parent.name!r}, which differs between "
            "data."
        )
    if own is not None and other is not None and other % own:
        raise ModelError(
            f"site {site.name!r} (period {own}) cannot depend on {parent.name!r} (period {other}): "
            "a parent's period must be a multiple of the child's."
        )
