"""A small convolutional classifier, learned by backpropagation: its last hidden layer gives features of images.

Distances between samples and data (FID, KID) are taken in these features, where no pretrained
network fits the data.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aif_dcpc.inference.model.isolation import DrawsFrom

FEATURES = 64


class Classifier(nn.Module):
    """Two strided convolutions, a hidden layer of features and a linear read-out.

    Args:
        image_shape: `(C, H, W)`.
        num_classes: labels 0 .. num_classes - 1.
    """

    def __init__(self, image_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        cells = -(-height // 4) * -(-width // 4)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * cells, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of images `(N, C, H, W)` in [0, 1]."""
        logits: Tensor = self.head(self.body(images))
        return logits

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images `(N, C, H, W)` that are given their label `(N,)`."""
        right = torch.cat([self(batch).argmax(1) for batch in images.split(500)]) == labels
        return right.double().mean().item()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Hidden layer `(N, 64)`, float64."""
        return torch.cat([self.body(batch) for batch in images.split(500)]).double()


def train_classifier(
    images: Tensor, labels: Tensor, *, steps: int = 600, batch_size: int = 128, seed: int = 0
) -> Classifier:
    """Fit a classifier to labelled images by backpropagation.

    Args:
        images: `(N, C, H, W)` in [0, 1].
        labels: `(N,)`.
        steps: of Adam at rate .002.
        batch_size: images per step.
        seed: of the first weights and the order of images; the global generator is left as it was.
    """
    with DrawsFrom(seed):
        classifier = Classifier(tuple(images.shape[1:]), int(labels.max()) + 1)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
        for _ in range(steps):
            chosen = torch.randint(len(images), (batch_size,))
            optimizer.zero_grad()
            cross_entropy(classifier(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return classifier
