"""What choices tell about who made them: a habit and a precision, inferred from what was chosen.

A choice u among actions of expected free energy G_t(u) is drawn by

    p(u | habit, precision) = softmax(ln habit(u) - precision G_t(u))

so that all choices so far, with what each action was expected to cost, have a posterior over both.
They are global sites of a declared series, and the engine sweeps the full history of choices at each
new one. The next is drawn by the mean of the softmax over the particles, which is what the posterior
predicts of it: habits are what the expected free energy does not explain.

References: FitzGerald, Dolan, Friston (2015), "Dopamine, reward learning, and active inference", for
    precision; Friston et al. (2016), "Active inference and learning", for habits.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, Distribution, Gamma

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference import DCPC, GraphicalModel, State
from aif_dcpc.inference.archive import pack, unpack
from aif_dcpc.inference.model.resampling import resample_lineages

LOWEST = -1e6  # nats below the best: what is worse is as good as impossible


class OwnChoices:
    """A posterior over habit and precision, given choices.

    Args:
        habit: `(A,)` probabilities; with `counts`, where the prior has its mean, unused.
        precision: where it is known.
        counts: `(A,)` Dirichlet counts of the habit, if it is learned.
        precision_prior: shape and rate of a Gamma prior of the precision, if it is learned.
        num_particles, num_sweeps, seed: of the engine.

    Raises:
        AgentError: for counts, or a prior, that are not positive.
    """

    def __init__(
        self,
        habit: Tensor,
        precision: float,
        *,
        counts: Tensor | None = None,
        precision_prior: tuple[float, float] | None = None,
        num_particles: int = 64,
        num_sweeps: int = 2,
        seed: int = 0,
    ) -> None:
        self.num_actions = len(habit)
        self.fixed = {"habit": habit.float(), "precision": torch.tensor(float(precision))}
        self.num_sweeps = num_sweeps
        self.seed = seed
        model = GraphicalModel()
        model.add_input("value")
        if counts is not None:
            _require_positive("counts of the habit", counts)
            prior = counts.float()
            model.add_site("habit", lambda: Dirichlet(prior), scope="global")
        if precision_prior is not None:
            _require_positive("precision_prior (shape, rate)", torch.tensor(precision_prior))
            shape, rate = precision_prior
            model.add_site("precision", lambda: Gamma(shape, rate), scope="global")
        self.learned = tuple(name for name in ("habit", "precision") if name in model.sites)
        model.add_site("choice", self._law, [*self.learned, "value"], scope="slice")
        self.engine = DCPC(model, num_particles=num_particles, seed=seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.engine.generator = self.generator
        self.state: State | None = None

    def _law(self, *values: Tensor) -> Distribution:
        """Law of a choice given what is learned, `(K, 1, 1, ...)`, and values `(1, B, T, A)`."""
        own = dict(self.fixed)
        own.update(zip(self.learned, values[:-1], strict=True))
        return Categorical(logits=_log_odds(own, values[-1]))

    def note(self, value: Tensor, choice: int) -> None:
        """Take in a choice: minus the expected free energy of each action `(A,)`, and which was taken."""
        seen = {"value": _bounded(value)[None], "choice": torch.tensor([choice])}
        with torch.no_grad():
            if self.state is None:
                self.state = self._begun(seen)
            else:
                longer = self.engine.append(self.state, seen)
                self.state = resample_lineages(longer, self.generator, threshold=2.0)
            self.state, _ = self.engine.run(self.state, self.num_sweeps)

    def draws(self, name: str) -> Tensor:
        """Equally weighted particles of "habit" `(K, A)` or "precision" `(K,)`; `(1, ...)` of what is known."""
        if name not in self.learned:
            return self.fixed[name][None]
        return self._present().particles[name][:, 0]

    def log_prob(self, value: Tensor) -> Tensor:
        """What the posterior predicts of the next choice, `(A,)` nats."""
        own = {name: self.draws(name) for name in ("habit", "precision")}
        odds = _log_odds(own, _bounded(value)).log_softmax(-1)
        return odds.logsumexp(0) - math.log(len(odds))

    def _begun(self, seen: Mapping[str, Tensor], hidden: Sequence[str] = ()) -> State:
        """Make the cloud over the first choice, the same of one seed."""
        data = {name: x[:, None] for name, x in seen.items()}
        masks = {name: torch.zeros(1, 1, dtype=torch.bool) for name in hidden}
        found = self.engine.init(data, masks=masks, length=1, seed=self.seed)
        self.engine.generator = self.generator
        return found

    def _present(self) -> State:
        """The cloud; before the first choice the prior's."""
        return self.state or self._begun(self._nothing, hidden=["choice"])

    @property
    def _nothing(self) -> dict[str, Tensor]:
        """Some choice among actions that are all alike."""
        return {"value": torch.zeros(1, self.num_actions), "choice": torch.zeros(1).long()}

    # -- keeping -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        generator = self.generator.get_state()
        return {
            "state": None if self.state is None else pack(self.state),
            "generator": generator,
        }

    def load_state_dict(self, kept: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        packed = kept["state"]
        self.state = None if packed is None else unpack(packed, like=self._begun(self._nothing))
        self.generator.set_state(kept["generator"])


def _log_odds(own: Mapping[str, Tensor], value: Tensor) -> Tensor:
    """ln habit + precision * value, `(..., A)`."""
    return own["habit"].clamp_min(1e-16).log() + own["precision"][..., None] * value


def _bounded(value: Tensor) -> Tensor:
    """Values below the best, at least `LOWEST`."""
    below = torch.where(value == value.max(), 0.0, value - value.max())
    return below.clamp_min(LOWEST).to(torch.get_default_dtype())


def _require_positive(name: str, values: Tensor) -> None:
    if not bool((values > 0).all()):
        raise AgentError(f"{name}: expected numbers above 0, found {values.tolist()}.")
