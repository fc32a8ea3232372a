"""The loop of an image model, one learning step at a time, able to stop after any step and go on bit for bit.

It knows nothing of the run's files. The order of the images in an epoch follows from the seed and
the number of the epoch.

`train/free_energy` is E[-log p(x, z)] under the particles, nats per image: what the parameters
descend, the variational free energy without the particles' entropy, which does not depend on the
parameters and which a cloud of a few particles does not tell. For a variational autoencoder it is
minus the evidence lower bound, entropy included.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.errors import RunFolderError, told
from aif_dcpc.image_runs.assembly import IMAGE, batch_size, early_engine, image_config, make_learner
from aif_dcpc.image_runs.data import ImageData, unit
from aif_dcpc.image_runs.shared_learning import SharedLearner, shared
from aif_dcpc.image_runs.team import ALONE, Team
from aif_dcpc.inference import GraphicalModel, Info
from aif_dcpc.inference.learning import Learner
from aif_dcpc.metrics import Averages
from aif_dcpc.randomness import (
    IMAGE_BINARY,
    IMAGE_ORDER,
    derive,
    random_states,
    restore_random_states,
)
from aif_dcpc.schema import TrainConfig, bounded, build

PATIENCE = 5  # epochs without a gain after which the plateau schedule halves the rate


@dataclass
class Progress:
    """How far the learning is.

    Attributes:
        step: learning steps so far.
        epoch_energy: sum of minus the log joint over the running epoch, nats.
        best_energy: lowest mean energy of an epoch so far.
        bad_epochs: epochs since then.
        factor: of the plateau schedule.
        validated: step of the last validation; -1: none yet.
    """

    step: int = bounded(at_least=0, default=0)
    epoch_energy: float = 0.0
    best_energy: float = math.inf
    bad_epochs: int = bounded(at_least=0, default=0)
    factor: float = bounded(at_least=0, at_most=1, default=1.0)
    validated: int = bounded(at_least=-1, default=-1)

    def end_epoch(self, num_steps: int) -> None:
        """Take note of an epoch's mean energy."""
        mean = self.epoch_energy / num_steps
        self.epoch_energy = 0.0
        if self._is_gain(mean):
            self.best_energy = mean
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs >= PATIENCE:
            self.factor /= 2
            self.bad_epochs = 0

    def _is_gain(self, mean: float) -> bool:
        """Tell whether an epoch's mean energy is below the lowest so far by more than a thousandth."""
        if not math.isfinite(self.best_energy):
            return True
        return mean < self.best_energy - 1e-3 * abs(self.best_energy)


class ImageLoop:
    """A model, its learner, and how far they are.

    Args:
        config: of the run.
        model: the graph.
        data: the images.
        particles: folder of the memory-mapped particles; None keeps them in memory.
        team: the processes that share the learning.

    Raises:
        ConfigError: the method cannot be shared.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: GraphicalModel,
        data: ImageData,
        particles: Path | None = None,
        team: Team = ALONE,
    ) -> None:
        self.config = config
        self.images = image_config(config)
        self.model = model
        self.data = data
        self.learner: Learner | SharedLearner = make_learner(config, model, data, particles)
        if team.size > 1:
            self.learner = shared(self.learner, self.images.method, team)
        self.base_rates = [group["lr"] for group in self.learner.optimizer.param_groups]
        self.engine = self.learner.engine
        self.early_engine = early_engine(self.learner.engine, self.images)
        self.batch_size = batch_size(config, data)
        self.epoch_steps = len(data.train) // self.batch_size
        self.total_steps = self.images.steps or self.epoch_steps * (config.epochs or 1)
        self.progress = Progress()
        self.averages = Averages()
        self.order: tuple[int, Tensor] | None = None

    def step(self) -> Info:
        """Learn from one batch.

        Raises:
            NonFiniteError: the objective stopped being finite.
        """
        start = time.process_time()
        self._set_rates()
        self._set_update()
        indices = self._indices()
        info = self.learner.step({IMAGE: self._shown(indices).to(self.config.device)}, indices)
        assert info.log_joint is not None  # every learner evaluates it
        energy = -float(info.log_joint.mean())
        self.progress.step += 1
        self.progress.epoch_energy += energy
        if self.progress.step % self.epoch_steps == 0:
            self.progress.end_epoch(self.epoch_steps)
        self._note(info, energy, time.process_time() - start)
        return info

    def _note(self, info: Info, energy: float, seconds: float) -> None:
        accepted = {
            f"inference/acceptance/{name}": float(value) for name, value in info.acceptance.items()
        }
        rate = self.learner.optimizer.param_groups[0]["lr"]
        bound = info.trace.get("bound")
        record = {
            "train/free_energy": energy if bound is None else -float(bound.mean()),
            "learning/log_joint": -energy,
            "learning/rate": rate,
            "speed/ms_per_step": 1e3 * seconds,
        }
        self.averages.add({**record, **accepted})

    def _indices(self) -> Tensor:
        """Which images come next."""
        epoch, position = divmod(self.progress.step, self.epoch_steps)
        if self.order is None or self.order[0] != epoch:
            generator = torch.Generator().manual_seed(derive(self.config.seed, IMAGE_ORDER, epoch))
            self.order = epoch, torch.randperm(len(self.data.train), generator=generator)
        return self.order[1][position * self.batch_size : (position + 1) * self.batch_size]

    def _shown(self, indices: Tensor) -> Tensor:
        """The images of a batch in [0, 1]; black and white by chance where so configured."""
        images = unit(self.data.train[indices])
        if not self.images.binarize:
            return images
        generator = torch.Generator().manual_seed(
            derive(self.config.seed, IMAGE_BINARY, self.progress.step)
        )
        # the numbers of torch.bernoulli, in an eighth of its time
        return (torch.rand(images.shape, generator=generator) < images).to(images.dtype)

    def _set_update(self) -> None:
        """The published update for the first `paper_share` of the steps, then the configured one."""
        early = self.progress.step < self.images.paper_share * self.total_steps
        self.learner.use(self.early_engine if early else self.engine)

    def _set_rates(self) -> None:
        factor = self._rate_factor()
        for group, rate in zip(self.learner.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

    def _rate_factor(self) -> float:
        step = self.progress.step
        warm = min(1.0, (step + 1) / (self.images.warmup_steps + 1))
        if self.images.schedule == "plateau":
            return warm * self.progress.factor
        if self.images.schedule == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.total_steps)))
        return warm

    # -- stopping and going on ---------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {
            "model": self.model.state_dict(),
            "learner": self.learner.state_dict(),
            "progress": asdict(self.progress),
            "averages": self.averages.sums,
            "random": random_states(),
        }

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Go back to what `state` gave.

        Raises:
            RunFolderError: the checkpoint does not fit.
        """
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.learner.load_state_dict(checkpoint["learner"])
            self.progress = build(Progress, checkpoint["progress"], "progress.")
            self.averages.restore(checkpoint["averages"])
            restore_random_states(checkpoint["random"])
        except Exception as error:  # whatever a damaged value meets
            raise RunFolderError(
                f"the checkpoint does not fit its model: {told(error)}."
            ) from error
