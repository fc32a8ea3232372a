"""Learning: parameters follow local gradients of the log joint at the particles.

One step sweeps the particles of a batch of data and then ascends, with any torch optimiser,

    sum over data b of  mean over particles k of  grad_theta log p(x_b, z_bk),

where every value is detached at its site, so that a kernel's parameters learn from its own
prediction error alone (Sennesh, Wu, Salvatori 2024, arXiv 2408.05834, Algorithm 1 and equation 12).
With particles from the exact posterior this is the gradient of the log marginal likelihood
(Fisher's identity).

    >>> import torch
    >>> from torch import nn
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> mean = nn.Linear(1, 1)
    >>> model = GraphicalModel()
    >>> model.add_site("z", lambda: Normal(torch.zeros(1), 1.0))
    >>> model.add_site("x", lambda z: Normal(z + mean.bias, 0.5), parents=["z"])
    >>> engine = DCPC(model, num_particles=4)
    >>> state = engine.init({"x": torch.full((8, 1), 3.0)}, seed=0)
    >>> optimizer = torch.optim.SGD([mean.bias], lr=0.02)
    >>> for _ in range(200):
    ...     state, info = learn_step(engine, state, optimizer)
    >>> bool((mean.bias - 3).abs() < 0.2)
    True
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.model.densities import (
    active_factors,
    aligned_inputs,
    factor_slices,
    log_density,
)
from aif_dcpc.inference.model.factor_graph import Factor
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import Info, State
from aif_dcpc.inference.moves.adaptation import Secant, SiteAdaptation
from aif_dcpc.inference.recycled_gradients import (
    CompiledEvaluation,
    Evaluate,
    check_objective,
    evaluated,
)
from aif_dcpc.inference.stores import ParticleStore, with_batch


def learn_step(
    engine: DCPC,
    state: State,
    optimizer: torch.optim.Optimizer,
    *,
    num_sweeps: int = 1,
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[State, Info]:
    """Sweep, then move the parameters one step of the optimiser.

    Moves keep adapting, since the target moves.

    Args:
        engine: whose model has the parameters.
        state: the cloud of this batch, `(K, B)`.
        optimizer: over (some of) the model's parameters.
        num_sweeps: sweeps before the parameters move.
        scale: |data| / |batch|, the weight of the data's terms against those of global sites.
        generator: source of randomness; the engine's own by default.

    Returns:
        the swept cloud, its cache dropped since the parameters changed, and the diagnostics at the
            old parameters.

    Raises:
        NonFiniteError: the objective is not finite; names the site and the sweep. The parameters
            stay as they were.
    """
    acceptance: Mapping[str, Tensor] = {}
    for _ in range(num_sweeps):
        state, info = engine.sweep(state, generator, adapt=True, log_joint=False)
        acceptance = info.acceptance
    terms = local_log_joint(state)
    loss = -objective(state, terms, scale)
    check_objective(state, loss, terms)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return state.replace(cache={}), Info(acceptance, _total(state, terms))


def reuse_gradients_step(
    engine: DCPC,
    state: State,
    optimizer: torch.optim.Optimizer,
    *,
    num_sweeps: int = 1,
    generator: torch.Generator | None = None,
    evaluate: Evaluate = evaluated,
) -> tuple[State, Info]:
    """As `learn_step`, with the parameters' gradient at the particles as they *came*.

    One evaluation of the joint then gives that gradient together with the scores from which the
    sweep sets out, where `learn_step` needs two. Repeated on one batch it lags a sweep behind, no
    more. For clouds with equal weights and models without global sites, as `Learner` has them.

    Args:
        engine, state, optimizer, num_sweeps, generator: as in `learn_step`.
        evaluate: puts densities and scores into the cloud's cache and gradients into parameters.

    Returns:
        as `learn_step`.

    Raises:
        NonFiniteError: the objective is not finite; parameters and particles stay as they were.
    """
    optimizer.zero_grad(set_to_none=True)
    state = evaluate(state)
    log_joint = _total(state, {key: value.log_prob for key, value in state.cache.items()})
    acceptance: Mapping[str, Tensor] = {}
    for _ in range(num_sweeps):
        state, info = engine.sweep(state, generator, adapt=True, log_joint=False)
        acceptance = info.acceptance
    optimizer.step()
    return state.replace(cache={}), Info(acceptance, log_joint)


def local_log_joint(state: State, *, detach: bool = True) -> dict[str, Tensor]:
    """Return the log density of every factor at the particles, differentiable in parameters.

    By key of the factor, `(K or 1, B or 1, [T])` nats. With `detach` values are constants: no
    gradient runs from one site to the next.
    """
    with no_validation():
        return {factor.key: _term(state, factor, detach) for factor in active_factors(state)}


def _term(state: State, factor: Factor, detach: bool) -> Tensor:
    inputs = aligned_inputs(state, factor)
    if detach:
        inputs = {argument: value.detach() for argument, value in inputs.items()}
    return log_density(state, factor, inputs, *factor_slices(state, factor))


def objective(state: State, terms: Mapping[str, Tensor], scale: float = 1.0) -> Tensor:
    """Average the log joint over weighted particles and sum it over data (nats, 0-dim)."""
    weights = state.weights()
    total = torch.zeros((), dtype=weights.dtype, device=weights.device)
    for key, term in terms.items():
        by_datum = term if term.ndim == 2 else term.sum(2)
        shared = state.conditioning.site(key.split("@")[0]).scope == "global"
        total = total + (by_datum.mean() if shared else scale * (weights * by_datum).sum())
    return total


def _total(state: State, terms: Mapping[str, Tensor]) -> Tensor:
    total = torch.zeros_like(state.log_weights)
    for term in terms.values():
        total = total + (term if term.ndim == 2 else term.sum(2)).detach()
    return total


def parameter_groups(
    model: nn.Module, rate: float, *, covariance_rate: float | None = None
) -> list[dict[str, Any]]:
    """Group parameters for an optimiser.

    Scales and covariance factors (names ending in `scale`) may have a rate of their own.
    """
    named = list(model.named_parameters())
    scales = [p for name, p in named if name.endswith("scale")]
    others = [p for name, p in named if not name.endswith("scale")]
    groups = [(others, rate), (scales, rate if covariance_rate is None else covariance_rate)]
    return [{"params": params, "lr": lr} for params, lr in groups if params]


class Learner:
    """Minibatch learning with particles that persist from one batch with a data point to the next.

    Args:
        engine: of a model without global latents (those need whole-data sweeps).
        optimizer: over the model's parameters.
        template: a cloud of any data, which tells what is observed.
        store: particles of all data, by index.
        num_sweeps: sweeps per step.
        steps_per_batch: steps on a batch before the next one, so that particles catch up with
            parameters that moved on.
        recycle: take gradients from the evaluation that sweeps set out from (see
            `reuse_gradients_step`); it is compiled where the engine's sweeps are.
    """

    def __init__(
        self,
        engine: DCPC,
        optimizer: torch.optim.Optimizer,
        template: State,
        store: ParticleStore,
        *,
        num_sweeps: int = 1,
        steps_per_batch: int = 1,
        recycle: bool = False,
    ) -> None:
        self.engine = engine
        self.optimizer = optimizer
        self.template = template
        self.store = store
        self.num_sweeps = num_sweeps
        self.steps_per_batch = steps_per_batch
        self.evaluate: Evaluate = evaluated if engine.compiled is None else CompiledEvaluation()
        self.move = self._reuse_gradients if recycle else learn_step
        self.adaptation: Mapping[str, Any] = {}
        self.steps = 0

    def use(self, engine: DCPC) -> None:
        """Go on with another engine of the same model; what moves had learned is dropped."""
        if engine is not self.engine:
            self.engine = engine
            self.adaptation = {}

    def step(
        self, data: Mapping[str, Tensor], indices: Tensor, masks: Mapping[str, Tensor] | None = None
    ) -> Info:
        """Sweep the particles of some data, learn from them and put them back.

        Args:
            data: observed site -> `(B, *event)`.
            indices: `(B,)`, which data these are.
            masks: observed site -> `(B,)`, True where the data point has it (a missing label, for
                instance, is not scored).

        Raises:
            NonFiniteError: as `learn_step`; the store keeps the particles that it had.
        """
        state = with_batch(self.template, data, self.store.read(indices), masks)
        sweeps = self.steps * self.steps_per_batch * self.num_sweeps
        state = state.replace(adaptation=self.adaptation, sweeps=sweeps)
        for _ in range(self.steps_per_batch):
            state, info = self.move(self.engine, state, self.optimizer, num_sweeps=self.num_sweeps)
        self.store.write(indices, state.values)
        self.adaptation = state.adaptation
        self.steps += 1
        return info

    def _reuse_gradients(
        self, engine: DCPC, state: State, optimizer: torch.optim.Optimizer, *, num_sweeps: int
    ) -> tuple[State, Info]:
        return reuse_gradients_step(
            engine, state, optimizer, num_sweeps=num_sweeps, evaluate=self.evaluate
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the parameters, as plain data (particles are not copied)."""
        generator = self.engine.generator
        return {
            "optimizer": self.optimizer.state_dict(),
            "particles": self.store.state_dict(),
            "adaptation": plain_adaptation(self.adaptation),
            "generator": None if generator is None else generator.get_state(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.store.load_state_dict(state["particles"])
        self.adaptation = revived_adaptation(state["adaptation"])
        self.steps = state["steps"]
        if self.engine.generator is not None and state["generator"] is not None:
            self.engine.generator.set_state(state["generator"])

    @staticmethod
    def fill(
        engine: DCPC, store: ParticleStore, data: Mapping[str, Tensor], indices: Iterable[Tensor]
    ) -> None:
        """Draw first particles from the prior, batch by batch.

        `data` gives the observed sites of any one batch.
        """
        for batch in indices:
            state = engine.init({name: value[: len(batch)] for name, value in data.items()})
            store.write(batch, state.values)


def plain_adaptation(adaptation: Mapping[str, Any]) -> dict[str, Any]:
    """Return what moves have learned as plain data for a checkpoint.

    What is rebuilt from it, or tells of one batch alone, is left out.
    """
    learned = {
        name: entry for name, entry in adaptation.items() if isinstance(entry, SiteAdaptation)
    }
    return {name: asdict(replace(entry, roots={}, strides={})) for name, entry in learned.items()}


def revived_adaptation(plain: Mapping[str, Any]) -> dict[str, SiteAdaptation]:
    """Turn what `plain_adaptation` gave back into what moves learn."""
    return {
        name: SiteAdaptation(
            **{**learned, "secants": {k: Secant(**v) for k, v in learned["secants"].items()}}
        )
        for name, learned in plain.items()
    }
