"""`DCPC`: divide-and-conquer predictive coding on any `GraphicalModel`.

Smallest use, a Gaussian whose posterior is known (mean .8, variance .2)::

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("z", lambda: Normal(0.0, 1.0))
    >>> model.add_site("x", lambda z: Normal(z, 0.5), parents=["z"])
    >>> engine = DCPC(model, num_particles=2000)
    >>> state = engine.init({"x": torch.tensor([1.0])}, seed=0)
    >>> state, info = engine.run(state, num_sweeps=60)
    >>> z = state.particles["z"]                     # (K, B)
    >>> bool((z.mean() - 0.8).abs() < 0.05), bool((z.var() - 0.2).abs() < 0.03)
    (True, True)

A *sweep* visits the latents from the data upwards, each by a move that keeps the exact joint
posterior invariant. The published algorithm (Sennesh, Wu, Salvatori 2024, arXiv 2408.05834)
resamples each site on its own, which does not.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.cloud import swept_from_draws
from aif_dcpc.inference.compiled_sweeps import CompiledSweeps
from aif_dcpc.inference.errors import ConvergenceWarning, ModelError
from aif_dcpc.inference.estimates import Estimates
from aif_dcpc.inference.model.clamping import device_of
from aif_dcpc.inference.model.conditioning import build_state, intervene
from aif_dcpc.inference.model.densities import log_joint, not_finite
from aif_dcpc.inference.model.factor_graph import FactorGraph
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.inference.model.state import POSTERIOR, PRIOR, Info, State
from aif_dcpc.inference.moves import Move
from aif_dcpc.inference.moves.by_name import find_moves
from aif_dcpc.inference.moves.schedule import (
    UPDATES,
    Options,
    Schedule,
    check_overrides,
    choose_schedule,
    site_passes,
)
from aif_dcpc.inference.queries.looks import LEAST_FIRST_SWEEPS, LEAST_SWEEPS, Looks
from aif_dcpc.inference.sampler import Readout
from aif_dcpc.inference.settings import check_integer, check_seed
from aif_dcpc.inference.smc.append import append
from aif_dcpc.inference.smc.recent import for_constants_alone, merge_window
from aif_dcpc.inference.smc.starts import started_at, with_possible_start
from aif_dcpc.inference.sweeping import Record, Swept, judged, make_moves, part_to_sweep, readout
from aif_dcpc.misspelt import unknown_name


class DCPC(Estimates):
    """An inference engine: clouds, sweeps and estimates for one graphical model.

    Args:
        model: the declaration; its parameters are used as they stand at each call.
        num_particles: K.
        update: "exact", or "paper": Algorithm 1 to the letter, for reproduction (it keeps too
            little variance).
        moves: site -> name of a move, or a move of one's own, where the engine's choice is to be
            overridden: an object (such as `MixtureProposal`), or `package.module:name` of one or of
            a class or function that makes one from the site's name.
        step: step size of the published update; exact moves adapt theirs.
        window: free slices per chunk of a windowed pass; 1 gives even/odd updating only.
        warmup: sweeps during which moves adapt; they are frozen afterwards.
        seed: seeds the engine's generator when `init` gets none.
        compile: True compiles sweeps that come again, "auto" where this is likely to pay (see
            `compiled_sweeps`): 3 to 10 times as fast where tensors are small, after some ten seconds
            for each kind of sweep; on a GPU after one. The same up to rounding.

    Raises:
        ModelError: for an unsound model or setting.
        MoveError: for a move that is unknown or cannot update its site. What depends on data, as in
            models with inputs, is checked by `init`.
    """

    def __init__(
        self,
        model: GraphicalModel,
        *,
        num_particles: int = 16,
        update: str = "exact",
        moves: Mapping[str, str | Move] | None = None,
        step: float = 0.1,
        window: int = 16,
        warmup: int = 50,
        seed: int = 0,
        compile: bool | Literal["auto"] = False,
    ) -> None:
        check_integer("num_particles", num_particles, 1)
        check_integer("window", window, 1)
        check_integer("warmup", warmup, 0)
        check_seed(seed)
        self.model = model
        self.factor_graph = FactorGraph(model)
        if update not in UPDATES:
            raise ModelError(unknown_name("update", update, UPDATES))
        self.num_particles = num_particles
        self.update = update
        self.warmup = warmup
        self.options = Options(window=window, step=step)
        self.moves = find_moves(moves or {})
        self.seed = seed
        self.generator: torch.Generator | None = None
        self._last: tuple[tuple[object, ...], Schedule] | None = None
        self.compiled = CompiledSweeps(compile, warmup) if compile is not False else None
        check_overrides(self.factor_graph, self.moves, self.options)

    # -- clouds ------------------------------------------------------------------------------------

    def init(
        self,
        data: Mapping[str, Tensor] | None = None,
        *,
        masks: Mapping[str, Tensor] | None = None,
        do: Mapping[str, Tensor] | None = None,
        particles: Mapping[str, Tensor] | None = None,
        batch_size: int | None = None,
        length: int | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
    ) -> State:
        """Clamp data and draw the latents from the prior, parents first.

        Args:
            data: site -> `(B, [T,] *event)` (global sites `(*event)`).
            masks: site -> `(B, [T])`, or `(B, [T,] *elements)` with leading axes of the event, True
                where the value is observed; elsewhere it is inferred, and may be NaN.
            do: interventions, as `data`; the site's own density is cut. With a mask, only where it
                is True: elsewhere the site is inferred.
            particles: latent site -> `(K, B, [T,] *event)` to start from, such as an earlier
                cloud's, in the site's own support; other sites are drawn from the prior.
            batch_size, length: B and T, where the data do not tell.
            seed: seeds the engine's generator.
            device: where random numbers are drawn, if the data do not tell; the kernels' tensors
                must be there.

        Raises:
            ClampError: for unknown sites, missing inputs, shapes that do not fit or values outside
                a kernel's support.
            ModelError: for a latent site whose support depends on its parents, or differs from
                slice to slice.
            MoveError: for a move of the user's that cannot update its site.
        """
        for setting, size in {"batch_size": batch_size, "length": length}.items():
            if size is not None:
                check_integer(setting, size, 1)
        where = device_of(data or {}) if device is None else torch.device(device)
        self._seed(where, seed)
        with no_validation(), torch.no_grad():
            state = build_state(
                self.factor_graph,
                self.num_particles,
                dict(data or {}),
                masks=dict(masks or {}),
                do=dict(do or {}),
                batch_size=batch_size,
                length=length,
                generator=self.generator,
            )
            for name in filter(state.conditioning.latent.__contains__, self.moves):
                site_passes(state, name, self.moves[name], self.options)
            return started_at(state, particles or {}, self.generator)

    def _seed(self, device: torch.device, seed: int | None) -> None:
        """Make a generator if there is none on the device, or if a seed is given."""
        chosen = self.seed if seed is None else check_seed(seed)
        if self.generator is None or seed is not None or self.generator.device.type != device.type:
            self.generator = torch.Generator(device=device).manual_seed(chosen)

    # -- sweeps ------------------------------------------------------------------------------------

    def sweep(
        self,
        state: State,
        generator: torch.Generator | None = None,
        *,
        adapt: bool | None = None,
        log_joint: bool = True,
    ) -> tuple[State, Info]:
        """Update every latent once, from the data upwards.

        Args:
            state: the cloud.
            generator: source of randomness; the engine's own by default.
            adapt: learn step sizes and curvatures (default: during the first `warmup` sweeps, and
                again after an intervention and where appended slices have moved the posterior).
            log_joint: evaluate the log joint for the diagnostics. False is for inner loops: it also
                takes the model's parameters to be as they were at the last sweep; where they have
                changed, pass `engine.refresh_cache(state)`.
        """
        if not log_joint:
            state, acceptance = self._update_latents(state, generator, adapt)
            return state, Info(acceptance, None)
        state, acceptance = self._update_latents(self.refresh_cache(state), generator, adapt)
        return state, Info(acceptance, self.log_joint(state))

    def log_joint(self, state: State) -> Tensor:
        """Return log p(data, particles), `(K, B)` nats (see `densities.log_joint`)."""
        with no_validation(), torch.no_grad():
            return log_joint(self.refresh_cache(state))

    def refresh_cache(self, state: State) -> State:
        """Drop the densities that a cloud remembers if the model's parameters have changed since.

        Raises:
            ModelError: the cloud is another model's.
        """
        if state.conditioning.factor_graph.model is not self.model:
            raise ModelError(
                "this cloud was made by an engine of another model, or is a copy of one: carry it over by "
                "engine.init(data, particles=cloud.particles), or copy engine and cloud together."
            )
        now = Snapshot.of(self.model)
        if now.same(state.snapshot):
            return state
        return state.replace(cache={}, snapshot=now)

    def adapts(self, state: State) -> bool:
        """Tell whether the moves of a cloud still learn: for `warmup` sweeps after its target moved."""
        return state.sweeps - state.opened < self.warmup

    def _update_latents(
        self, state: State, generator: torch.Generator | None, adapt: bool | None
    ) -> tuple[State, dict[str, Tensor]]:
        """Make the moves of one sweep.

        Returns:
            the new state, and site -> mean acceptance probability (0-dim).
        """
        if adapt is None:
            adapt = self.adapts(state)
        generator = generator or self.generator
        schedule = self.schedule(state)
        moves = schedule.moves(state.sweeps)
        if self.compiled is None:
            return make_moves(moves, state, generator, adapt=adapt)
        if state.snapshot is None:
            state = self.refresh_cache(state)
        return self.compiled(moves, len(schedule.cycle), state, generator, adapt=adapt)

    def run(
        self,
        state: State,
        num_sweeps: int,
        generator: torch.Generator | None = None,
        *,
        record: Sequence[str] | Readout = (),
        do: Mapping[str, Tensor] | None = None,
        adapt: bool | None = None,
        recent: int | None = None,
    ) -> tuple[State, Info]:
        """Run `num_sweeps` sweeps; return the final cloud and diagnostics.

        Args:
            state: the cloud.
            num_sweeps: how many, at least 0.
            generator: source of randomness.
            record: names of sites whose values to keep after every sweep (deterministic ones as
                well), or a function of the state that returns tensors to keep; found in
                `info.trace`, stacked along a new first axis.
            do: site -> `(B, [T,] *event)`, interventions on the running cloud: a site's own density
                is cut.
            adapt: as in `sweep`.
            recent: sweep only about the last so many slices, given the past and all sites without
                time: the cost no longer grows with the series. `info.log_joint` is then that of
                these slices. Latents without time move whenever the series has grown by a fortieth:
                that call sweeps all of it, which costs the same per slice at any length.

        Raises:
            ClampError: for interventions that do not fit, and for data that have probability zero.
            ModelError: for unknown sites, numbers out of range, or a cloud of another model.
            NonFiniteError: if the log joint stops being finite; names the site and the sweep.

        Warns:
            ConvergenceWarning: where a site's moves, after warming up, are hardly ever accepted, its
                particles lie at the edge of its support, stay apart from each other or are left
                behind (unless `record` is a function, or `recent` is given; of particles known to be
                posterior draws, only where they are recorded).

        Where that is said of a cloud as `init` has drawn it from the prior, particles are fetched from
        the draws of `sample` (its start, climb and warm-up), and the sweeps are made again from there.
        It warns if that machinery does, in its words, or where it would take more than seconds, as for
        large batches. `adapt`, `recent` or a `record` that is a function leave a run as it is.
        """
        check_integer("num_sweeps", num_sweeps, 0)
        source = generator or self.generator
        start = self.refresh_cache(intervene(state, do or {}))
        is_sample = start.origin == POSTERIOR and not record  # whether its particles move or not
        is_left = is_sample or recent or callable(record)
        least = None if is_left else self._least_sweeps(state, start, adapt)
        looks = Looks.over(start, num_sweeps, self.warmup, least=least)
        if num_sweeps:
            start = with_possible_start(start, source, is_drawn=state.origin == PRIOR)
        sweeps = partial(self._sweeps, num_sweeps, source, record, adapt, recent)
        made = sweeps(start, looks)
        if made.is_no_sample and least == LEAST_FIRST_SWEEPS:
            recorded = num_sweeps if record else 0
            made = swept_from_draws(self, start, source, sweeps, recorded) or made
        for sentence in made.doubts:
            warnings.warn(sentence, ConvergenceWarning, stacklevel=2)
        return made.state, made.info

    def _least_sweeps(self, before: State, start: State, adapt: bool | None) -> int | None:
        """After how many sweeps, those of the warm-up apart, a run is looked at; None for never."""
        is_first = before.origin == PRIOR and adapt is None and self.update == "exact"
        return LEAST_FIRST_SWEEPS if is_first else LEAST_SWEEPS

    def _sweeps(
        self,
        num_sweeps: int,
        generator: torch.Generator | None,
        record: Sequence[str] | Readout,
        adapt: bool | None,
        recent: int | None,
        state: State,
        seen: Looks,
    ) -> Swept:
        """Make the sweeps of a run, and say what stands against the cloud that they leave."""
        part = whole = part_to_sweep(state, recent)
        found = Record(readout(state, record))
        if self.compiled is not None:
            self.compiled.ahead = num_sweeps
        for _ in range(num_sweeps):
            adapting = self.adapts(part) if adapt is None else adapt
            if adapt is None and part.sweeps == part.opened + self.warmup:
                found.rates.clear()  # of moves that were still learning
            part, info = self.sweep(part, generator, adapt=adapting, log_joint=False)
            found.add(part, info)
            seen.look(part)
        info = Info(found.acceptance, self.log_joint(part), found.trace)
        self.check_finite(part, info)
        after = part if whole is state else merge_window(state, part)
        if recent and whole is state:
            after = for_constants_alone(state, after, self.warmup)
        if state.origin == POSTERIOR:
            after = after.replace(origin=POSTERIOR)
        made = Swept(after, info, num_sweeps)
        return judged(made, seen, warmup=self.warmup, learned=self.adapts(state))

    def append(
        self,
        state: State,
        observation: Mapping[str, Tensor],
        generator: torch.Generator | None = None,
        *,
        masks: Mapping[str, Tensor] | None = None,
    ) -> State:
        """Extend the series by one slice (see `smc.append`); sweeps then re-infer its history."""
        with no_validation(), torch.no_grad():
            return append(state, observation, generator or self.generator, masks)

    def with_num_particles(self, num_particles: int) -> "DCPC":
        """Return the same engine with another number of particles and exact moves."""
        other = copy.copy(self)
        other.num_particles = num_particles
        other.update = "exact"
        other._last = None  # a schedule of other moves
        return other

    # -- inside ------------------------------------------------------------------------------------

    def schedule(self, state: State) -> Schedule:
        """Choose the moves of a sweep, by what is latent and observed and the model supplies."""
        masks = tuple((name, mask.ndim) for name, mask in state.masks.items())
        key = (
            state.conditioning.factor_graph,
            state.conditioning.latent,
            state.conditioning.intervened,
            state.conditioning.partly_intervened,
            state.length,
            masks,
            state.inverse_temperature is None,
        )
        if self._last is None or self._last[0] != key:
            schedule = choose_schedule(
                state, overrides=self.moves, update=self.update, options=self.options
            )
            self._last = (key, schedule)
        return self._last[1]

    def check_finite(self, state: State, info: Info) -> None:
        """Raise if a log density is not finite (reads from the device: call it outside sweeps)."""
        if info.log_joint is None or bool(torch.isfinite(info.log_joint).all()):
            return
        with no_validation(), torch.no_grad():
            raise not_finite(state)
