"""A trained image model as its run folder holds it: parameters frozen, with its data and the particles it learned from.

trained = TrainedImages.load("runs/digits/<date-time>")
state = infer(trained.engine(seed=0), trained.held_out(10), num_sweeps=100)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aif_dcpc.errors import RunFolderError, told
from aif_dcpc.image_runs.assembly import make_data, make_model
from aif_dcpc.image_runs.data import ImageData, unit
from aif_dcpc.image_runs.inference import IMAGE
from aif_dcpc.inference import DCPC, GraphicalModel, State
from aif_dcpc.inference.images import with_visible
from aif_dcpc.inference.stores import ParticleStore, with_batch
from aif_dcpc.runs import RunFolder, open_run
from aif_dcpc.schema import TrainConfig


@dataclass(frozen=True)
class TrainedImages:
    """An image model as learned.

    Attributes:
        folder: the run.
        config: of the run.
        data: the images that it learned from, and those held out.
        model: the graph, its parameters frozen.
        store: particles of the training images, by index.
        device: where the model is.
    """

    folder: RunFolder
    config: TrainConfig
    data: ImageData
    model: GraphicalModel
    store: ParticleStore
    device: str

    @staticmethod
    def load(
        run: str, *, data_dir: str | None = None, device: str = "cpu", trust: Sequence[str] = ()
    ) -> "TrainedImages":
        """Load a run folder.

        Args:
            run: path of the run folder.
            data_dir: where the data are; None looks where the run found them.
            device: cpu or cuda.
            trust: names of code from outside the package, `module:Name`, that the run may import.

        Raises:
            UserError: the run is missing, foreign or damaged, or its data are not to be had.
        """
        folder = open_run(run)
        config = folder.config(trust=trust)
        config = config if data_dir is None else replace(config, data_dir=data_dir)
        data = make_data(config)
        model = make_model(config, data)
        checkpoint = folder.load_checkpoint()
        try:
            model.load_state_dict(checkpoint["model"])
            store = ParticleStore.holding(checkpoint["learner"]["particles"])
        except Exception as error:  # whatever a damaged value meets
            raise RunFolderError(
                f"the checkpoint does not fit its model: {told(error)}."
            ) from error
        return TrainedImages(
            folder, config, data, model.to(device).requires_grad_(False), store, device
        )

    def engine(
        self, seed: int, *, visible: Tensor | None = None, num_particles: int | None = None
    ) -> DCPC:
        """The exact engine, whatever the run learned with.

        Args:
            seed: of its randomness.
            visible: `(C, H, W)`, 1 where pixels are seen and 0 elsewhere; None: all are seen.
            num_particles: K; that of the run by default.
        """
        model = self.model if visible is None else with_visible(self.model, IMAGE, visible)
        return DCPC(
            model, num_particles=num_particles or self.config.inference["num_particles"], seed=seed
        )

    def held_out(self, number: int) -> Tensor:
        """The first so many held-out images `(B, C, H, W)` in [0, 1]."""
        return unit(self.data.test[:number]).to(self.device)

    def remembered(self, indices: Tensor) -> State:
        """Training images with the particles that learning left them, as they are.

        Args:
            indices: `(B,)`.
        """
        data = {IMAGE: unit(self.data.train[indices]).to(self.device)}
        particles = {
            name: value.to(self.device) for name, value in self.store.read(indices).items()
        }
        number = next(iter(particles.values())).shape[0]
        return with_batch(self.engine(0, num_particles=number).init(data), data, particles)

    def roots(self) -> dict[str, Tensor]:
        """Particles `(N, K, *event)` of the latents without parents."""
        return {n: v for n, v in self.store.state_dict().items() if not self.model.sites[n].parents}


def first(number: int, of: int) -> Tensor:
    """Indices of the first so many of `of` data."""
    return torch.arange(min(number, of))
