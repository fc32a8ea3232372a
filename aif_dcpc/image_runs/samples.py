"""Images that a trained model makes up: from its prior, or from a mixture fitted to the particles it learned from."""

import warnings
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.image_runs.inference import image_law, sample_prior
from aif_dcpc.image_runs.trained import TrainedImages

COMPONENTS = 100  # of the mixture fitted to particles, as in the paper's notebooks
FITTED = 10_000  # particles it is fitted to
BATCH = 500
SEEDS = 2**32  # that scikit-learn takes, from 0


def prior_samples(trained: TrainedImages, number: int, *, seed: int) -> Tensor:
    """Mean images `(number, C, H, W)` of ancestor samples."""
    engine = trained.engine(seed, num_particles=1)
    return torch.cat(
        [sample_prior(engine, len(batch)) for batch in torch.arange(number).split(BATCH)]
    )


class RootMixture:
    """A Gaussian mixture with full covariances, fitted to the particles of the latents without parents.

    Args:
        trained: whose stored particles are fitted.
        seed: of the choice of particles and of the fit.
    """

    def __init__(self, trained: TrainedImages, *, seed: int) -> None:
        from sklearn.mixture import GaussianMixture

        self.trained = trained
        self.roots = trained.roots()
        points = torch.cat(list(self.roots.values()), -1).flatten(0, 1)
        chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:FITTED]
        components = max(1, min(COMPONENTS, len(chosen) // 20))
        self.mixture: Any = GaussianMixture(
            components,
            covariance_type="full",
            reg_covar=1e-3,
            max_iter=30,
            tol=1e-2,
            random_state=seed % SEEDS,
        )
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # stopped before convergence: good enough to sample from
            self.mixture.fit(points[chosen].double().numpy())

    def samples(self, number: int, *, seed: int) -> Tensor:
        """Mean images `(number, C, H, W)` of ancestor samples whose roots come from the mixture."""
        engine = self.trained.engine(seed, num_particles=1)
        widths = [value.shape[-1] for value in self.roots.values()]
        images = []
        for batch in self._draw(number, seed).split(BATCH):
            clamped = dict(
                zip(self.roots, batch.to(self.trained.device).split(widths, -1), strict=True)
            )
            images.append(image_law(engine.init(clamped)).mean[0])
        return torch.cat(images)

    def _draw(self, number: int, seed: int) -> Tensor:
        """Roots `(number, D)`, in no order."""
        self.mixture.random_state = seed % SEEDS
        drawn, _ = self.mixture.sample(number)
        return torch.from_numpy(drawn).float()[
            torch.randperm(number, generator=torch.Generator().manual_seed(seed))
        ]
