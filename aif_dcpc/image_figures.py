"""Figures of a trained image model, each made from its run folder alone: `(H, W, 3)` pictures.

trained = TrainedImages.load("runs/digits/<date-time>")
picture = traversals(trained)
"""

import io
import json
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aif_dcpc.errors import RunFolderError
from aif_dcpc.image_inference import IMAGE, image_law, infer
from aif_dcpc.image_samples import RootMixture, prior_samples
from aif_dcpc.inference import State
from aif_dcpc.inference.sampling import quiet_distributions
from aif_dcpc.inference.stores import rebind
from aif_dcpc.pictures import Picture, image_grid
from aif_dcpc.runs import RunFolder
from aif_dcpc.trained_images import TrainedImages

COLUMNS = 10
REACH = 3.0  # of a traversal, standard deviations of the prior


def grid(images: Tensor) -> Picture:
    """Images `(N, C, H, W)` in rows of ten."""
    return image_grid(images.cpu().numpy(), columns=COLUMNS)


def reconstructions(trained: TrainedImages, *, sweeps: int = 100, seed: int = 0) -> Picture:
    """Held-out images, and below each the mean image of its particles, inferred afresh."""
    images = trained.held_out(COLUMNS)
    return grid(torch.cat([images, image_law(infer(trained.engine(seed), images, sweeps)).mean.mean(0)]))


def samples(trained: TrainedImages, *, mixture: bool = False, rows: int = 6, seed: int = 0) -> Picture:
    """Mean images drawn from the prior, or from a mixture fitted to the particles."""
    number = rows * COLUMNS
    if mixture:
        return grid(RootMixture(trained, seed=seed).samples(number, seed=seed))
    return grid(prior_samples(trained, number, seed=seed))


# -- images of which a part is hidden ----------------------------------------------------------------------------------


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


def completed(trained: TrainedImages, images: Tensor, visible: Tensor, *, sweeps: int, seed: int) -> Tensor:
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
    images, visible = trained.held_out(COLUMNS), HIDDEN[kind](trained.data.image_shape).to(trained.device)
    means = completed(trained, images, visible, sweeps=sweeps, seed=seed)
    return grid(torch.cat([images, images * visible + 0.5 * (1 - visible), means[0], means[-1]]))


# -- what a latent does --------------------------------------------------------------------------------------------------


def traversals(trained: TrainedImages, *, rows: int = 8, sweeps: int = 100, seed: int = 0) -> Picture:
    """What the root latents do: each row varies one of them from -3 to 3, all else as in one particle of an image.

    Levels below follow: each keeps its distance from the mean of its law, which moves with its parents. The rows are
    the latents that change the picture most, strongest first.
    """
    state = infer(trained.engine(seed, num_particles=1), trained.held_out(1), sweeps)
    varied = [images for name in trained.roots() for images in traverse(state, name)]
    strength = torch.stack([images.var(0).sum() for images in varied])
    return grid(torch.cat([varied[int(row)] for row in strength.argsort(descending=True)[:rows]]))


def traverse(state: State, root: str) -> list[Tensor]:
    """Mean images `(10, C, H, W)` for each coordinate of a root site, varied along a line.

    Args:
        state: one particle of one image.
        root: name of a latent site without parents.
    """
    start = state.values[root]  # (1, 1, D)
    line = torch.linspace(-REACH, REACH, COLUMNS, device=start.device)
    moved = start.repeat(1, start.shape[-1] * COLUMNS, 1)
    for index in range(start.shape[-1]):
        moved[0, index * COLUMNS : (index + 1) * COLUMNS, index] = line
    return list(propagated(state, root, moved).split(COLUMNS))


def propagated(state: State, root: str, moved: Tensor) -> Tensor:
    """Mean images `(B, C, H, W)` after a root took other values `(1, B, D)`, the levels below following their laws."""
    number = moved.shape[1]
    old = {name: value.expand(-1, number, *value.shape[2:]) for name, value in state.values.items()}
    latents = {name: old[name].clone() for name in state.problem.latent}
    new = {**old, root: moved}
    for name in state.problem.latent:
        if state.problem.site(name).parents:
            new[name] = old[name] + _mean(state, name, new) - _mean(state, name, old)
    cloud = rebind(state, {IMAGE: old[IMAGE][0]}, {name: new[name] for name in latents})
    return image_law(cloud).mean[0]


def _mean(state: State, name: str, values: Mapping[str, Tensor]) -> Tensor:
    """Mean of a site's law given its parents."""
    factor = next(f for f in state.problem.lowered.factors if f.site.name == name)
    with torch.no_grad(), quiet_distributions():
        return factor.distribution({leaf: values[leaf.site] for leaf in factor.inputs}).mean


# -- the course of learning ----------------------------------------------------------------------------------------------


def free_energy_curve(folder: RunFolder) -> Picture:
    """Free energy over learning steps, of training batches and of held-out images.

    Raises:
        RunFolderError: the run has no records.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = folder.metrics.read_text(encoding="utf-8").splitlines() if folder.metrics.exists() else []
    records = [json.loads(line) for line in lines]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    panel = figure.add_subplot(xlabel="learning steps", ylabel="free energy, nats per image")
    for tag, label, style in (("train/free_energy", "training", "-"), ("valid/free_energy", "held out", "o-")):
        points = [(r["step"], r[tag]) for r in records if r.get(tag) is not None]
        if points:
            panel.plot(*zip(*points, strict=True), style, lw=1, ms=4, label=label)
    if not panel.lines:
        raise RunFolderError(f"{folder} holds no records of its free energy.")
    low, high = np.percentile(np.concatenate([line.get_ydata() for line in panel.lines]), [0, 95])
    panel.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low) + 1e-6)
    panel.legend()
    panel.grid(alpha=0.3)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return np.asarray(Image.open(buffer).convert("RGB"), dtype=np.uint8)
