"""A learner whose data are shared out among the processes of a team."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.messages import Message
from aif_dcpc.image_runs.team import Exchange, OwnNoise, Team, pooled, unpooled
from aif_dcpc.inference import DCPC, Info
from aif_dcpc.inference.baselines.vae import AmortisedLearner
from aif_dcpc.inference.learning import Learner
from aif_dcpc.inference.moves.adaptation import SiteAdaptation
from aif_dcpc.inference.recycled_gradients import evaluated


def shared(learner: Learner, method: str, team: Team) -> "SharedLearner":
    """Share a learner's data out.

    Raises:
        ConfigError: the method has an encoder, whose random numbers are not each datum's own.
    """
    if isinstance(learner, AmortisedLearner):
        raise ConfigError(
            f"images.method={method} learns in one process: start aif-train without torchrun, or choose a method "
            "without an encoder."
        )
    return SharedLearner(learner, team)


def fairly(owners: Tensor, size: int) -> Tensor:
    """Say which process works on each datum of a batch `(B,)`: on its own ones as far as all have as many.

    >>> fairly(torch.tensor([0, 1, 0, 0]), 2)
    tensor([0, 1, 0, 1])
    """
    workers = torch.empty_like(owners)
    workers[owners.argsort(stable=True)] = torch.arange(len(owners)) * size // len(owners)
    return workers


class SharedLearner:
    """Learns from its own data of each batch, by the gradient of all.

    Args:
        learner: the same in every process, to begin with.
        team: the processes.
    """

    def __init__(self, learner: Learner, team: Team) -> None:
        self.learner = learner
        self.learner.evaluate = evaluated  # its gradients arrive one by one, and travel meanwhile
        self.team = team
        self.weight = 1.0
        self.exchange = Exchange(team)
        self.optimizer = learner.optimizer
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.arrived = 0
        self.message: Message | None = None
        for parameter in self.parameters:
            parameter.register_post_accumulate_grad_hook(self._note_gradient)
        self.optimizer.register_step_pre_hook(lambda *_: self._before_step())
        self.optimizer.register_step_post_hook(lambda *_: self.exchange.begin())

    @property
    def engine(self) -> DCPC:
        """The engine in use."""
        return self.learner.engine

    def use(self, engine: DCPC) -> None:
        """Go on with another engine of the same model."""
        self.learner.use(engine)

    def step(self, data: Mapping[str, Tensor], indices: Tensor) -> Info:
        """Learn from one batch.

        Args:
            data: observed site -> `(B, *event)`, of the whole batch.
            indices: `(B,)`, which data these are.

        Raises:
            NonFiniteError: the objective is not finite.
        """
        learner = self.learner
        owners = indices % self.team.size
        workers = fairly(owners, self.team.size)
        lent = workers != owners
        self._pass_on(indices[lent], owners[lent])
        places = (workers == self.team.rank).nonzero().squeeze(1)
        stands_in = not len(places)
        if stands_in:  # fewer data than processes: another's datum, which counts nothing
            places = torch.zeros(1, dtype=torch.long)
        own = indices[places]
        kept = learner.store.read(own)
        self.weight = 0.0 if stands_in else 1.0
        self._pool(len(own), len(indices))
        with OwnNoise(learner.template.num_particles, len(indices), places):
            info = learner.step({name: value[places] for name, value in data.items()}, own)
        if stands_in:
            learner.store.write(own, kept)
        self._pass_on(indices[lent], workers[lent])
        return self._of_all(info, len(own), len(indices))

    def _pass_on(self, indices: Tensor, holders: Tensor) -> None:
        """Give everyone the particles of some data, each from the process that holds them."""
        if not len(indices):
            return
        store = self.learner.store
        held = holders == self.team.rank
        values = store.read(indices)
        for value in values.values():
            value[:, ~held] = 0
        totals = self.team.totals(*values.values())
        store.write(indices, dict(zip(values, totals, strict=True)))

    def _pool(self, own: int, batch: int) -> None:
        """Let moves learn from the data of all."""
        learned = self.learner.adaptation
        more: dict[str, Any] = {"own": own, "batch": batch, "weight": self.weight}
        more["exchange"] = self.exchange = Exchange(self.team)
        sites = self.learner.template.conditioning.latent
        fresh = {name: learned.get(name, SiteAdaptation()) for name in (*sites, *learned)}
        self.learner.adaptation = {
            name: pooled(entry, **more) if isinstance(entry, SiteAdaptation) else entry
            for name, entry in fresh.items()
        }

    # -- what travels while the work goes on: gradients during a sweep, lessons during the next evaluation ----

    def _note_gradient(self, _: Tensor) -> None:
        """Send the gradients as soon as all are there."""
        self.arrived += 1
        if self.arrived == len(self.parameters):
            self.message = self._sent_gradients()

    def _sent_gradients(self) -> Message:
        gradients = self._gradients()
        if not self.weight:
            torch._foreach_zero_(gradients)
        return self.team.begin(*gradients)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    def _before_step(self) -> None:
        """Turn gradients of own data into those of the batch; begin to tell what moves have learned."""
        message = self.message or self._sent_gradients()
        self.message = None
        self.arrived = 0
        torch._foreach_copy_(self._gradients(), list(message.totals()))
        self.exchange.begin()

    def _of_all(self, info: Info, own: int, batch: int) -> Info:
        """Means over the whole batch of what is recorded."""
        assert info.log_joint is not None
        means = [info.log_joint.mean(), *info.acceptance.values()]
        share = self.weight * own / batch
        log_joint, *accepted = self.team.totals(*(torch.as_tensor(m) * share for m in means))
        return Info(dict(zip(info.acceptance, accepted, strict=True)), log_joint.reshape(1, 1))

    # -- stopping and going on ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What one process would have; all take part, the leader has it whole."""
        self.team.gather_rows(list(self.learner.store.values.values()))
        self.learner.adaptation = {
            name: unpooled(entry) if isinstance(entry, SiteAdaptation) else entry
            for name, entry in self.learner.adaptation.items()
        }
        return self.learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` gave, to any number of processes."""
        self.learner.load_state_dict(state)
