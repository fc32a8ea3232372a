"""A learner whose data are shared out among the processes of a team."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.team import Exchange, OwnNoise, Team, pooled, unpooled
from aif_dcpc.inference import DCPC, Info
from aif_dcpc.inference.baselines.vae import AmortisedLearner
from aif_dcpc.inference.learning import Learner
from aif_dcpc.inference.moves.adaptation import SiteAdaptation


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


class SharedLearner:
    """Learns from its own data of each batch, by the gradient of all.

    Args:
        learner: the same in every process, to begin with.
        team: the processes.
    """

    def __init__(self, learner: Learner, team: Team) -> None:
        self.learner = learner
        self.team = team
        self.weight = 1.0
        self.optimizer = learner.optimizer
        self.optimizer.register_step_pre_hook(lambda *_: self._reduce_gradients())

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
        places = (indices % self.team.size == self.team.rank).nonzero().squeeze(1)
        stands_in = not len(places)
        if stands_in:  # of this batch nothing is its own: another's datum, which counts nothing
            places = torch.zeros(1, dtype=torch.long)
        own = indices[places]
        kept = learner.store.read(own)
        self.weight = 0.0 if stands_in else 1.0
        self._pool(len(own), len(indices))
        with OwnNoise(learner.template.num_particles, len(indices), places):
            info = learner.step({name: value[places] for name, value in data.items()}, own)
        if stands_in:
            learner.store.write(own, kept)
        return self._of_all(info, len(own), len(indices))

    def _pool(self, own: int, batch: int) -> None:
        """Let moves learn from the data of all."""
        learned = self.learner.adaptation
        more: dict[str, Any] = {"own": own, "batch": batch, "weight": self.weight}
        more["exchange"] = Exchange(self.team)
        sites = self.learner.template.conditioning.latent
        fresh = {name: learned.get(name, SiteAdaptation()) for name in (*sites, *learned)}
        self.learner.adaptation = {
            name: pooled(entry, **more) if isinstance(entry, SiteAdaptation) else entry
            for name, entry in fresh.items()
        }

    def _reduce_gradients(self) -> None:
        """Turn gradients of own data into those of the batch."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]) * self.weight
        torch.distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

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
