"""Figures of a trained image model, each made from its run folder alone: `(H, W, 3)` pictures.

trained = TrainedImages.load("runs/digits/<date-time>")
picture = traversals(trained)
"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aif_dcpc.errors import RunFolderError
from aif_dcpc.image_runs.inference import IMAGE, image_law, infer
from aif_dcpc.image_runs.samples import RootMixture, prior_samples
from aif_dcpc.image_runs.trained import TrainedImages
from aif_dcpc.inference import State
from aif_dcpc.inference.queries.law import law
from aif_dcpc.inference.stores import with_batch
from aif_dcpc.learning_curve import PANELS, learning_curve
from aif_dcpc.pictures import Picture, image_grid
from aif_dcpc.runs import RunFolder

COLUMNS = 10
REACH = 3.0  # of a traversal, standard deviations of the prior
CAPTIONS = {
    "evaluation-reconstructions": "held-out images; below each the mean of its particles",
    "evaluation-recall-from-half": "held-out images; what is seen of them; the wholes that two particles make of it",
    "evaluation-inpainting": "held-out images; what is seen of them; the wholes that two particles make of it",
    "evaluation-traversals": "each row: a direction of the root latents, -3 to 3 prior standard deviations",
    "evaluation-samples-prior": "mean images drawn from the prior",
    "evaluation-samples-mixture": "mean images drawn from a mixture fitted to the particles",
    "free-energy": "free energy while learning: training batches, and held-out images",
}


def grid(images: Tensor) -> Picture:
    """Images `(N, C, H, W)` in rows of ten."""
    return image_grid(images.cpu().numpy(), columns=COLUMNS)


def reconstructions(trained: TrainedImages, *, sweeps: int = 100, seed: int = 0) -> Picture:
    """Held-out images, and below each the mean image of its particles, inferred afresh."""
    images = trained.held_out(COLUMNS)
    return grid(
        torch.cat([images, image_law(infer(trained.engine(seed), images, sweeps)).mean.mean(0)])
    )


def samples(
    trained: TrainedImages, *, mixture: bool = False, rows: int = 6, seed: int = 0
) -> Picture:
    """Mean images drawn from the prior, or from a mixture fitted to the particles."""
    number = rows * COLUMNS
    if mixture:
        return grid(RootMixture(trained, seed=seed).samples(number, seed=seed))
    return grid(prior_samples(trained, number, seed=seed))


# -- images of which a part is hidden --------------------------------------------------------------


def hidden_half(image_shape: tuple[int, ...]) -> Tensor:
    """`(C, H, W)`: 1 in the upper half, which is seen, 0 in the lower."""
    visible = torch.ones(image_shape)
    visible[:, image_shape[1] // 2 :] = 0
    return visible


def hidden_centre(image_shape: tuple[int, ...]) -> Tensor:
    """`(C, H, W)`: 0 in a central square of half the side, which is hidden, 1 around it."""
    visible = torch.ones(image_shape)
    (top, bottom), (left, right) = ((side // 4, side - side // 4) for side in image_shape[1:])
    visible[:, top:bottom, left:right] = 0
    return visible


HIDDEN = {"recall-from-half": hidden_half, "inpainting": hidden_centre}


def completed(
    trained: TrainedImages, images: Tensor, visible: Tensor, *, sweeps: int, seed: int
) -> Tensor:
    """Mean images `(K, B, C, H, W)` of each particle, inferred from the visible pixels alone."""
    state = infer(trained.engine(seed, visible=visible.to(images.device)), images, sweeps)
    return image_law(state).mean


def completions(trained: TrainedImages, kind: str, *, sweeps: int = 100, seed: int = 0) -> Picture:
    """Four rows: held-out images, what is seen of them, and the wholes that two particles make of it.

    Args:
        trained: the model.
        kind: one of `HIDDEN`.
        sweeps: from the prior.
        seed: of inference.
    """
    images = trained.held_out(COLUMNS)
    visible = HIDDEN[kind](trained.data.image_shape).to(trained.device)
    means = completed(trained, images, visible, sweeps=sweeps, seed=seed)
    return grid(torch.cat([images, images * visible + 0.5 * (1 - visible), means[0], means[-1]]))


# -- what a latent does ----------------------------------------------------------------------------


def traversals(
    trained: TrainedImages, *, rows: int = 8, sweeps: int = 100, seed: int = 0
) -> Picture:
    """What the root latents do: each row moves them from -3 to 3 prior standard deviations along a line through a particle.

    The lines are orthogonal, those along which the picture changes most, strongest first. The other
    root latents stay as in the particle; levels below take the means of their laws.
    """
    state = infer(trained.engine(seed, num_particles=1), trained.held_out(1), sweeps)
    lines = [traverse(state, name, rows) for name in trained.roots()]
    return grid(torch.cat(lines))


def traverse(state: State, root: str, number: int) -> Tensor:
    """Mean images `(number * 10, C, H, W)` along the strongest lines of a root site.

    Args:
        state: one particle of one image.
        root: name of a latent site without parents, a vector with a standard normal law.
        number: how many lines.
    """
    start = state.values[root][0, 0]  # (D,)
    steps = torch.eye(len(start), device=start.device)
    change = propagated(state, root, start + steps) - propagated(
        state, root, start - steps
    )  # (D, C, H, W)
    _, _, directions = torch.linalg.svd(change.flatten(1).mT, full_matrices=False)
    chosen = directions[:number]
    along = torch.linspace(-REACH, REACH, COLUMNS, device=start.device)[:, None]
    lines = [start + (along - start @ direction) * direction for direction in chosen]
    return propagated(state, root, torch.cat(lines))


def propagated(state: State, root: str, moved: Tensor) -> Tensor:
    """Mean images `(B, C, H, W)` after a root took the values `(B, D)`, the levels below at the means of their laws."""
    values = {
        name: value.expand(-1, len(moved), *value.shape[2:]) for name, value in state.values.items()
    }
    values[root] = moved[None]
    for name in state.conditioning.latent:
        if state.conditioning.site(name).parents:
            values[name] = law(state.replace(values=values), name).mean
    latents = {name: values[name] for name in state.conditioning.latent}
    return image_law(with_batch(state, {IMAGE: values[IMAGE][0]}, latents)).mean[0]


# -- the course of learning ------------------------------------------------------------------------


def free_energy_curve(folder: RunFolder) -> Picture:
    """Free energy over learning steps, of training batches and of held-out images.

    Raises:
        RunFolderError: the run has no records.
    """
    picture = learning_curve(folder.metrics, "images", PANELS["images"][:1])
    if picture is None:
        raise RunFolderError(f"{folder} holds no records of its free energy.")
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=np.uint8)
