"""What would follow from each of many sequences of actions, at every particle.

Candidates lie side by side along the batch axis and are drawn all at once, from the last slices of the
cloud alone. They share their random numbers (see `model.shared_draws`), so that what two of them
differ in is what their actions do.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel, lag
    >>> model = GraphicalModel()
    >>> model.add_input("u")
    >>> model.add_site("s", lambda s, u: Normal(s + u, 0.5), parents=[lag("s"), lag("u")],
    ...                initial=lambda: Normal(0.0, 1.0), scope="slice")
    >>> engine = DCPC(model, num_particles=4)
    >>> state = engine.init({"u": torch.zeros(1, 3)}, seed=0)
    >>> found = engine.imagine(state, {"u": torch.tensor([[0.0, 0.0], [1.0, 2.0]])}, ["s"])["s"]
    >>> found.shape                                   # (K, N, H)
    torch.Size([4, 2, 2])
    >>> torch.allclose(found[:, 1] - found[:, 0], torch.tensor([1.0, 3.0]))
    True
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ClampError
from aif_dcpc.inference.model.ancestral import AncestorSampler
from aif_dcpc.inference.model.clamping import check_tensor
from aif_dcpc.inference.model.factor_graph import Argument, arguments_of, num_slices
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.inputs import check_input, like_past
from aif_dcpc.inference.model.shared_draws import SharedDraws
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.supports import log_prob as log_prob_of
from aif_dcpc.inference.queries.predictions import told_sites
from aif_dcpc.misspelt import unknown_name


def imagine(
    state: State,
    actions: Mapping[str, Tensor],
    sites: Sequence[str] | None = None,
    *,
    inputs: Mapping[str, Tensor] | None = None,
    log_prob: Sequence[str] = (),
    cross_log_prob: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Draw the H slices that follow from each of N sequences of actions, at every particle.

    An action stands in the slice in which it is chosen, and what follows from it reads it by `lag`:
    `actions[:, 0]` is that of the cloud's last slice, and slice h of the result is what
    `actions[:, h]` leads to.

    Args:
        state: the cloud; its weights are those of the results.
        actions: input -> `(N, H, *event)`; `(B, N, H, *event)` with several data.
        sites: what to return: random sites (all that are drawn by default), deterministic ones and
            slower ones, whose value holds in each slice.
        inputs: what other inputs, and sites set by `do`, are in the new slices, `(H, *event)` or
            `(B, H, *event)`; inputs that are left out are 0 (of a `reset`: the episode goes on).
        log_prob: random sites whose log density to return as well.
        cross_log_prob: random sites whose log density at every other particle to return as well.
        generator: source of randomness; one of the same seed gives the same random numbers.

    Returns:
        site -> `(K, N, H, *event)`, or `(K, B, N, H, *event)`; `"log_prob/SITE"` -> `(K, [B,] N, H)`,
            nats, of the drawn value under the law that it was drawn from (0 in slices in which no
            value of a slower site begins); `"cross_log_prob/SITE"` -> `(K, K, [B,] N, H)`, entry
            (i, j) that of particle i's value under particle j's law.

    Raises:
        ClampError: for unknown actions or sites, shapes that do not fit, a model without time, or a
            site that reads an action within its own slice.
    """
    layout = _Layout.of(state, actions)
    given = _given(layout, actions, inputs or {})
    _refuse_circles(layout, actions)
    drawable = [s.name for s in layout.sites.values() if _is_drawn(s, given)]
    watched = {*log_prob, *cross_log_prob}
    for name in watched.difference(drawable):
        raise ClampError(f"imagine: log_prob: {unknown_name('drawn site', name, drawable)}")
    wanted = drawable if sites is None else list(sites)
    for name in wanted:
        _check_wanted(layout, name, actions)
    sampler = _Imagining(layout, given, generator, watched, frozenset(cross_log_prob))
    drawn = sampler.sample(layout.tail.length, layout.past(given))
    found = {name: layout.future(name, drawn) for name in wanted}
    found |= {f"log_prob/{n}": layout.split(sampler.series(sampler.own[n], 1), 1) for n in log_prob}
    for name in cross_log_prob:
        crossed = sampler.series(sampler.crossed[name], 2)
        found[f"cross_log_prob/{name}"] = layout.split(crossed, 2)
    return found


# -- where candidates lie --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Candidates beside each other along the batch axis, those of one datum together.

    Attributes:
        tail: the last slices of the cloud.
        num_candidates: N.
        horizon: H.
    """

    tail: State
    num_candidates: int
    horizon: int

    @classmethod
    def of(cls, state: State, actions: Mapping[str, Tensor]) -> "_Layout":
        """Read N and H off the actions; refuse what is no sequence of actions."""
        if state.length == 0:
            raise ClampError("imagine: this model has no time; give its sites scope='slice'.")
        if not actions:
            raise ClampError("imagine: no actions; for a future without any, call forecast.")
        sites = state.conditioning.factor_graph.model.sites
        data = 0 if state.batch_size == 1 else 1
        sizes = set()
        for name, value in actions.items():
            check_input(sites, name)
            check_tensor(name, value)
            sizes.add(tuple(value.shape[data : data + 2]))
        if len(sizes) != 1 or not all(len(size) == 2 and min(size) > 0 for size in sizes):
            expected = "(N, H, *event)" if not data else "(B, N, H, *event)"
            raise ClampError(f"imagine: expected actions {expected} of one N and H, found {sizes}.")
        return cls(state.last(), *sizes.pop())

    @property
    def sites(self) -> Mapping[str, Site]:
        """All sites of the model."""
        return self.tail.conditioning.factor_graph.model.sites

    @property
    def data(self) -> tuple[int, ...]:
        """Leading axes of what differs between data: none of one datum, else `(B,)`."""
        return () if self.tail.batch_size == 1 else (self.tail.batch_size,)

    @property
    def width(self) -> int:
        """Length of the batch axis, B * N."""
        return self.tail.batch_size * self.num_candidates

    def num_new(self, site: Site) -> int:
        """How many values of a site begin within the horizon."""
        before = num_slices(site, self.tail.length)
        return num_slices(site, self.tail.length + self.horizon) - before

    def beside(self, value: Tensor) -> Tensor:
        """Values `(K or 1, B or 1, *rest)` for all candidates, `(K or 1, B * N, *rest)`."""
        if value.shape[1] == 1:
            return value.expand(value.shape[0], self.width, *value.shape[2:])
        return value.repeat_interleave(self.num_candidates, 1)

    def split(self, value: Tensor, axis: int) -> Tensor:
        """Take the batch axis apart, `(K, B * N, *rest)` into `(K, [B,] N, *rest)`."""
        return value.unflatten(axis, (*self.data, self.num_candidates))

    def past(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The last slices of every site for all candidates, in the sites' own supports."""
        found = dict(given)
        for name, value in self.tail.natural.items():
            if name not in given:
                is_shared = self.sites[name].scope == "global"
                found[name] = value if is_shared else self.beside(value)
        return found

    def future(self, name: str, drawn: Mapping[str, Tensor]) -> Tensor:
        """The value of a site that holds in each new slice, `(K, [B,] N, H, *event)`."""
        longer = self.tail.replace(length=self.tail.length + self.horizon)
        value = longer.computed(name, drawn.__getitem__)
        period = self.sites[name].period
        if period is None:
            value = value.unsqueeze(2).expand(*value.shape[:2], self.horizon, *value.shape[2:])
        elif period == 1:
            value = value[:, :, self.tail.length :]
        else:
            slices = torch.arange(self.tail.length, longer.length, device=value.device)
            value = value.index_select(2, slices // period)
        return self.split(value.expand(self.tail.num_particles, self.width, *value.shape[2:]), 1)


# -- what is given ---------------------------------------------------------------------------------


def _given(
    layout: _Layout, actions: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Past and future of what is not drawn, site -> `(1, B * N, T + H, *event)`."""
    known = [name for name in told_sites(layout.tail) if name not in actions]
    for name in inputs:
        if name not in known:
            raise ClampError(f"imagine: {unknown_name('input', name, known)}")
    found = {name: _with_actions(layout, name, value) for name, value in actions.items()}
    return found | {name: _with_input(layout, name, inputs.get(name)) for name in known}


def _with_actions(layout: _Layout, name: str, value: Tensor) -> Tensor:
    """Put actions in the place of the last slice's and of all but the last new one's, which none reads."""
    past = layout.tail.values[name]
    shape = (*layout.data, layout.num_candidates, layout.horizon, *past.shape[3:])
    new = like_past(name, value, past, shape).reshape(1, layout.width, *shape[-past.ndim + 2 :])
    return torch.cat([layout.beside(past[:, :, :-1]), new, torch.zeros_like(new[:, :, :1])], 2)


def _with_input(layout: _Layout, name: str, value: Tensor | None) -> Tensor:
    """Put the future of another input, or of a site that is set, behind its past."""
    if value is None and name in layout.tail.conditioning.intervened:
        raise ClampError(
            f"imagine: site {name!r} is set by do=: pass inputs={{{name!r}: values}} for the new "
            "slices."
        )
    past = layout.tail.values[name]
    shape = (*layout.data, layout.num_new(layout.sites[name]), *past.shape[3:])
    new = past.new_zeros(shape) if value is None else like_past(name, value, past, shape)
    new = new.reshape(1, past.shape[1], *shape[len(layout.data) :])
    return layout.beside(torch.cat([past, new], 2))


def _refuse_circles(layout: _Layout, actions: Mapping[str, Tensor]) -> None:
    """Refuse a site that reads an action within its own slice: it would have to come after itself."""
    conditioning = layout.tail.conditioning
    for factor in conditioning.factor_graph.factors:
        if factor.site.name not in conditioning.intervened:
            _check_lags(factor.site.name, factor.inputs, actions)


def _check_wanted(layout: _Layout, name: str, actions: Mapping[str, Tensor]) -> None:
    """Refuse an unknown site, or one that is computed from an action which is not chosen yet."""
    if name not in layout.sites:
        raise ClampError(f"imagine: {unknown_name('site', name, layout.sites)}")
    expression = layout.tail.conditioning.factor_graph.expression(name)
    _check_lags(name, tuple(arguments_of(expression)), actions)


def _check_lags(name: str, arguments: Sequence[Argument], actions: Mapping[str, Tensor]) -> None:
    for argument in arguments:
        if argument.site in actions and argument.lag == 0:
            raise ClampError(
                f"imagine: site {name!r} reads action {argument.site!r} within its own slice, but "
                f"an action is chosen after its slice was seen; read lag({argument.site!r})."
            )


def _is_drawn(site: Site, given: Mapping[str, Tensor]) -> bool:
    """Whether new values of a site are drawn."""
    return site.kind == "stochastic" and site.period is not None and site.name not in given


# -- drawing ---------------------------------------------------------------------------------------


class _Imagining(AncestorSampler):
    """Ancestor sampling from common random numbers, which keeps the log densities of some sites.

    Attributes:
        own: site -> new slice -> log density `(K, B * N)` under the law that the value is drawn from.
        crossed: site -> new slice -> that under the laws of all particles, `(K, K, B * N)`.
    """

    def __init__(
        self,
        layout: _Layout,
        given: Mapping[str, Tensor],
        generator: torch.Generator | None,
        watched: Collection[str],
        compared: Collection[str],
    ) -> None:
        tail = layout.tail
        sizes = (tail.num_particles, tail.batch_size, layout.num_candidates)
        super().__init__(
            tail.conditioning.factor_graph,
            tail.num_particles,
            layout.width,
            tail.length + layout.horizon,
            given,
            draws=SharedDraws(_seed(generator, tail.log_weights.device), *sizes),
        )
        self.layout = layout
        self.own: dict[str, dict[int, Tensor]] = {name: {} for name in watched}
        self.crossed: dict[str, dict[int, Tensor]] = {name: {} for name in compared}

    def draw(self, site: Site, index: int | None, distribution: Distribution) -> Tensor:
        """Draw one value of a site, and keep its log density where that is wanted."""
        value = super().draw(site, index, distribution)
        begins = (index or 0) * (site.period or 1) - self.layout.tail.length
        if site.name in self.own:
            self.own[site.name][begins] = distribution.log_prob(value).flatten(2).sum(2)
        if site.name in self.crossed:
            crossed = log_prob_of(distribution, value.unsqueeze(1))
            self.crossed[site.name][begins] = crossed.flatten(3).sum(3)
        return value

    def series(self, by_slice: Mapping[int, Tensor], num_axes: int) -> Tensor:
        """Log densities with so many axes of particles along all new slices, 0 where none was drawn."""
        tail = self.layout.tail
        shape = (*[tail.num_particles] * num_axes, self.layout.width)
        nothing = next(iter(by_slice.values()), tail.log_weights).new_zeros(shape)
        parts = [by_slice.get(h, nothing) for h in range(self.layout.horizon)]
        return torch.stack(parts, -1)


def _seed(generator: torch.Generator | None, device: torch.device) -> int:
    if generator is not None:
        device = generator.device
    return int(torch.randint(2**62, (1,), generator=generator, device=device))
