"""Geweke's joint distribution test: sweeps and fresh data must keep the joint distribution.

Exact draws of (latents, data) are made in many independent replicates along the batch axis. Each
round then sweeps the latents given the data, with frozen step sizes, and redraws the data given the
latents. The joint distribution after the rounds is compared with that of fresh draws: per element
of each site, and for products of latents with their neighbours, by two-sample z tests,
Bonferroni-corrected.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from aif_dcpc.inference.checks.joint_draws import JointDraws, cloud_at
from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.errors import InferenceError
from aif_dcpc.inference.model.clamping import device_of
from aif_dcpc.inference.model.graph import GraphicalModel, parent_name
from aif_dcpc.inference.model.state import State

MAX_ELEMENTS = 16

SIZES = {"num_particles": 3, "batch_size": 4, "length": 5}
FALSE_ALARM = 1e-5


def joint_test(
    model: GraphicalModel,
    data: Mapping[str, Tensor] | None,
    *,
    moves: Mapping[str, str] | None,
    replicates: int,
    num_sweeps: int,
    seed: int,
    window: int = 16,
) -> list[str]:
    """One sentence per site whose distribution the rounds change (see the module)."""
    model = as_episodes(model)
    engine = DCPC(model, num_particles=1, moves=moves, window=window, warmup=25, seed=seed)
    inputs, length = inputs_of(model, data, replicates)
    observed = observed_of(model, data)
    sizes = (replicates, length)
    fresh = drawn(engine, inputs, sizes, seed).values
    start = drawn(engine, inputs, sizes, seed + 1).values
    try:
        state = cloud_at(engine.factor_graph, start, observed, engine.generator)
        if not state.conditioning.latent:
            return []
        adaptation = _adapted(engine, state)
        end = _rounds(engine, start, observed, adaptation, num_sweeps, sizes)
    except InferenceError as error:
        return [f"the engine cannot sweep this model: {error}"]
    return _compare(model, fresh, end)


def observed_of(model: GraphicalModel, data: Mapping[str, Tensor] | None) -> tuple[str, ...]:
    """List the sites clamped in the test: those with data, else the leaves of the graph."""
    names = [n for n, s in model.sites.items() if s.kind == "stochastic"]
    given = [n for n in names if n in (data or {})]
    return tuple(given or [n for n in names if not model.children_of(n)])


def inputs_of(
    model: GraphicalModel, data: Mapping[str, Tensor] | None, replicates: int
) -> tuple[dict[str, Tensor], int | None]:
    """Inputs, repeated to the number of replicates, and the number of slices."""
    inputs = {}
    length = SIZES["length"]
    for name, value in (data or {}).items():
        site = model.sites[name]
        if site.period == 1:
            length = value.shape[1]
        if site.kind == "input":
            inputs[name] = value[torch.arange(replicates) % value.shape[0]]
    timed = any(s.period is not None for s in model.sites.values())
    return inputs, length if timed else None


def drawn(
    engine: DCPC,
    given: Mapping[str, Tensor],
    sizes: tuple[int, int | None],
    seed: int | None = None,
) -> JointDraws:
    """Draw every site that is not given, by the engine's generator, which starts anew from a seed."""
    if seed is not None:
        engine.generator = torch.Generator(device=device_of(given)).manual_seed(seed)
    return JointDraws(
        engine.factor_graph,
        engine.num_particles,
        given,
        batch_size=sizes[0],
        length=sizes[1],
        generator=engine.generator,
    )


def _adapted(engine: DCPC, state: State) -> Mapping[str, object]:
    """Step sizes learned on these replicates and frozen for the test."""
    warm, _ = engine.run(state, engine.warmup, adapt=True)
    return warm.adaptation


def _rounds(
    engine: DCPC,
    natural: dict[str, Tensor],
    observed: Sequence[str],
    adaptation: Mapping[str, object],
    num_sweeps: int,
    sizes: tuple[int, int | None],
) -> dict[str, Tensor]:
    for number in range(num_sweeps):
        state = cloud_at(engine.factor_graph, natural, observed, engine.generator)
        state = state.replace(adaptation=adaptation, sweeps=engine.warmup + number)
        state, _ = engine.run(state, 1, adapt=False)
        kept = {n: v[0] for n, v in state.natural.items() if n not in observed}
        natural = drawn(engine, kept, sizes).values  # what is not given: the data
    return natural


# -- comparison ------------------------------------------------------------------------------------


def _compare(
    model: GraphicalModel, fresh: Mapping[str, Tensor], end: Mapping[str, Tensor]
) -> list[str]:
    tests = list(_statistics(model, fresh, end))
    chance = FALSE_ALARM / max(sum(z.numel() for _, _, z in tests), 1)
    threshold = float(-torch.special.ndtri(torch.tensor(chance / 2, dtype=torch.float64)))
    worst: dict[str, tuple[float, str]] = {}
    for site, what, scores in tests:
        z = float(scores.max())
        if z > max(threshold, worst.get(site, (0.0, ""))[0]):
            worst[site] = (z, what)
    return [
        f"site {site!r}: sweeping changes the joint distribution (Geweke's test: {what} is off by "
        f"{z:.1f} standard errors, limit {threshold:.1f}); its draws and its density differ, or its "
        "conditional or move is not exact."
        for site, (z, what) in worst.items()
    ]


def _statistics(
    model: GraphicalModel, fresh: Mapping[str, Tensor], end: Mapping[str, Tensor]
) -> Iterator[tuple[str, str, Tensor]]:
    """Site, name of the statistic, and its z score by element."""
    names = [n for n, s in model.sites.items() if s.kind == "stochastic"]
    first, second = ({n: _bounded(fresh[n], values[n]) for n in names} for values in (fresh, end))
    for name in names:
        for power, what in ((1, "its mean"), (2, "its spread")):
            yield name, what, _z(first[name] ** power, second[name] ** power)
        for other in {parent_name(p) for p in model.sites[name].parents} & set(names):
            pairs = [
                (v[name][:, None, :] * v[other][:, :, None]).flatten(1) for v in (first, second)
            ]
            yield name, f"its product with {other!r}", _z(*pairs)


def _bounded(reference: Tensor, values: Tensor) -> Tensor:
    """Standardise by the fresh draws and squash, so that tails do not matter.

    The result is `(replicates, elements)` in (-1, 1).
    """
    flat, base = (
        v[0].double().reshape(v.shape[1], -1)[:, :MAX_ELEMENTS] for v in (values, reference)
    )
    centre = base.median(0).values
    spread = (base - centre).abs().mean(0).clamp_min(1e-12)
    return torch.tanh((flat - centre) / spread)


def _z(first: Tensor, second: Tensor) -> Tensor:
    """Two-sample z scores, one per column."""
    variance = first.var(0) / len(first) + second.var(0) / len(second)
    return (first.mean(0) - second.mean(0)).abs() / variance.clamp_min(1e-12).sqrt()


def as_episodes(model: GraphicalModel) -> GraphicalModel:
    """Copy a model with global sites once per data point, so that data are independent replicates."""
    copied = copy.copy(model)
    copied.sites = {
        name: replace(site, scope="episode") if site.scope == "global" else site
        for name, site in model.sites.items()
    }
    return copied
