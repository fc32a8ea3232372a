"""Distances of a learned model's samples to real images, in the features of one classifier for all models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.configuration import load_config
from aif_dcpc.files import atomic
from aif_dcpc.image_runs.data import ImageData, unit
from aif_dcpc.image_runs.distances import frechet_estimate, kernel_estimate
from aif_dcpc.image_runs.evaluation import Evaluation
from aif_dcpc.image_runs.samples import RootMixture, prior_samples
from aif_dcpc.inference.baselines.classifier import Classifier, train_classifier
from aif_dcpc.schema import evaluate_config

HELD_OUT = (
    0.2  # share of the training images, the last ones, kept for tuning: nothing learns from them
)


@dataclass(frozen=True)
class Reference:
    """Real images `(N, C, H, W)` in [0, 1] beside their features `(N, D)`."""

    images: Tensor
    features: Tensor


class Measure:
    """One classifier, learned from the images that are not held out, and its features of real images.

    Args:
        data: all images.
        folder: where the classifier is kept from one call to the next.
        steps: of its learning.
    """

    def __init__(self, data: ImageData, folder: Path, *, steps: int) -> None:
        self.data = data
        self.learning = learning_part(data)
        self.classifier = self._classifier(folder / f"classifier-{steps}.pt", steps)
        self.scale = self.classifier.features(unit(self.learning.train)).square().mean().sqrt()
        self.test = self._reference(data.test)
        self.held_out = self._reference(data.train[len(self.learning.train) :])

    def _classifier(self, path: Path, steps: int) -> Classifier:
        part = self.learning
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            learned = train_classifier(unit(part.train), part.train_labels, steps=steps, seed=0)
            with atomic(path) as file:
                torch.save(learned.state_dict(), file)
        classifier = Classifier(part.image_shape, int(part.train_labels.max()) + 1)
        classifier.load_state_dict(torch.load(path, weights_only=True))
        return classifier.eval().requires_grad_(False)

    def _reference(self, images: Tensor) -> Reference:
        return Reference(unit(images), self.features(unit(images)))

    def features(self, images: Tensor) -> Tensor:
        """The classifier's features `(N, D)`, scaled so that their mean square over the training images is one."""
        return self.classifier.features(images) / self.scale

    def accuracy(self) -> float:
        """Share of the test images that the classifier names rightly."""
        return self.classifier.accuracy(self.test.images, self.data.test_labels)

    def distances(self, name: str, images: Tensor, reference: Reference) -> dict[str, Any]:
        """KID and FID with their standard errors, keys ending in `name`."""
        features = self.features(images)
        kernel = kernel_estimate(reference.features, features)
        frechet = frechet_estimate(reference.features, features)
        return {
            f"kid_{name}": kernel.value,
            f"kid_{name}_se": kernel.error,
            f"fid_{name}": frechet.value,
            f"fid_{name}_se": frechet.error,
        }


def learning_part(data: ImageData) -> ImageData:
    """The training images without those that are held out for tuning."""
    return data.first(round((1 - HELD_OUT) * len(data.train)))


def distances_of_run(
    measure: Measure,
    place: Path,
    overrides: list[str],
    reference: Reference,
    *,
    samples: int,
    reconstruct: bool,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a run's samples are like, both ways to sample, and the samples themselves.

    Args:
        measure: of distances.
        place: the run folder.
        overrides: of `aif-evaluate`.
        reference: real images.
        samples: number of each way.
        reconstruct: whether to infer held-out images afresh as well.

    Returns:
        the distances, `kid` their mean over both ways; and way -> images `(samples, C, H, W)`.
    """
    model = Evaluation(
        evaluate_config(load_config("evaluate", f"run={place}", *overrides)), str(place)
    )
    seed = model.config.seed
    drawn = {
        "prior": prior_samples(model.trained, samples, seed=seed + 3),
        "mixture": RootMixture(model.trained, seed=seed).samples(samples, seed=seed + 4),
    }
    found: dict[str, Any] = {"samples": samples, "references": len(reference.images)}
    for mode, images in drawn.items():
        found |= measure.distances(mode, images, reference)
    found["kid"] = 0.5 * (found["kid_prior"] + found["kid_mixture"])
    return {**found, **(model.reconstructions(seed) if reconstruct else {})}, drawn
