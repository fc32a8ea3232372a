"""Put together what an image experiment names: data, graph, engine, optimiser, particles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.data import ImageData, load_images, unit
from aif_dcpc.image_runs.request import GRAPHS, UPDATES, check_known
from aif_dcpc.inference import DCPC, GraphicalModel, InferenceError
from aif_dcpc.inference.baselines.langevin import UnadjustedLangevin
from aif_dcpc.inference.baselines.lpc import LangevinCodingLearner
from aif_dcpc.inference.baselines.vae import AmortisedLearner, VariationalLearner
from aif_dcpc.inference.learning import Learner, parameter_groups
from aif_dcpc.inference.stores import ParticleStore
from aif_dcpc.outside import find_function
from aif_dcpc.randomness import IMAGE_PARTICLES, derive
from aif_dcpc.schema import ImageConfig, TrainConfig

IMAGE = "image"  # the observed site of every image model
AMORTISED: dict[str, type[AmortisedLearner]] = {
    "vae": VariationalLearner,
    "lpc": LangevinCodingLearner,
}


def image_config(config: TrainConfig) -> ImageConfig:
    """The image part of a configuration.

    Raises:
        ConfigError: there is none.
    """
    if config.images is None:
        raise ConfigError("this is no image experiment: choose one, e.g. experiment=digits.")
    return config.images


def make_data(config: TrainConfig) -> ImageData:
    """Load the data set.

    Raises:
        ConfigError: it is not to be had, or nothing is left to learn from.
    """
    images = image_config(config)
    data = load_images(
        images.data, config.data_dir, image_size=images.image_size, folder=images.folder
    )
    if images.hold_out > len(data.train) - 2:
        raise ConfigError(
            f"images.hold_out={images.hold_out} leaves nothing of {len(data.train)} images to learn from."
        )
    return data.hold_out(images.hold_out).first(images.train_images)


def make_model(config: TrainConfig, data: ImageData) -> GraphicalModel:
    """Build the graph, its parameters drawn from torch's global generator.

    Raises:
        ConfigError: the graph is unknown or does not take its options.
    """
    images = image_config(config)
    build = find_graph(images.model)
    try:
        model = build(image_shape=data.image_shape, **images.options)
    except (TypeError, ValueError, InferenceError) as error:
        raise ConfigError(
            f"images.options do not fit the graph {images.model!r}: {error}"
        ) from None
    if not isinstance(model, GraphicalModel) or IMAGE not in model.sites:
        raise ConfigError(f"the graph {images.model!r} must be a model with a site {IMAGE!r}.")
    start_at_mean(model, data.train)
    return model


def find_graph(name: str) -> Callable[..., GraphicalModel]:
    """Return the function that builds a graph: one of `GRAPHS`, or one's own by `module:function`.

    Raises:
        ConfigError: there is none of that name.
    """
    if ":" not in name:
        check_known("image model", name, GRAPHS)
    return find_function("images.model", GRAPHS.get(name, name))


def start_at_mean(model: GraphicalModel, images: Tensor) -> None:
    """Let the generator's output bias give the mean image, where its kernel has pixel-wise logits."""
    kernel: Any = model.sites[IMAGE].kernel
    bias = getattr(getattr(kernel, "linear", None), "bias", None)
    if bias is not None and bias.numel() == images[0].numel():
        mean = unit(images).mean(0).flatten().clamp(0.01, 0.99)
        with torch.no_grad():
            bias.copy_(torch.logit(mean))


def make_engine(
    config: TrainConfig, model: GraphicalModel, *, seed: int, num_particles: int | None = None
) -> DCPC:
    """The engine that the configuration asks for.

    Raises:
        ConfigError: `inference` asks for an update that does not exist.
    """
    update = str(config.inference.get("update", "exact"))
    check_known("inference.update", update, UPDATES)
    images = image_config(config)
    return DCPC(
        model,
        num_particles=num_particles or config.inference["num_particles"],
        update=update,
        step=images.paper_step,
        seed=seed,
        compile=images.compile,
    )


def with_method(engine: DCPC, images: ImageConfig) -> DCPC:
    """The engine itself, or a baseline's sweep in its place."""
    step = images.langevin_step
    steps = images.langevin_steps
    if images.method == "pgd":
        return UnadjustedLangevin(engine, step=step)
    if images.method == "lpc":
        return UnadjustedLangevin(engine, step=step, inner_steps=steps)
    if images.method in ("mcpc", "map"):
        temperature = 1.0 if images.method == "mcpc" else 0.0
        return UnadjustedLangevin(
            engine, step=step, temperature=temperature, inner_steps=steps, persistent=False
        )
    return engine


def early_engine(engine: DCPC, images: ImageConfig) -> DCPC:
    """The engine of the first `paper_share` of the steps: the published update, with the same source of randomness.

    Baselines sweep in their own way from the first step on.
    """
    if not images.paper_share or images.method != "dcpc":
        return engine
    early = DCPC(
        engine.model,
        num_particles=engine.num_particles,
        update="paper",
        step=engine.options.step,
        seed=engine.seed,
        compile=images.compile,
    )
    early.generator = engine.generator
    return early


def make_learner(
    config: TrainConfig, model: GraphicalModel, data: ImageData, particles: Path | None = None
) -> Learner:
    """Engine, optimiser and particles for all training images, drawn from the prior.

    Args:
        config: of the run.
        model: the graph.
        data: the images.
        particles: folder of the memory-mapped particles; None keeps them in memory.

    Raises:
        OSError: there is no room for them.
    """
    images = image_config(config)
    engine = with_method(
        make_engine(config, model, seed=derive(config.seed, IMAGE_PARTICLES)), images
    )
    groups = parameter_groups(model, images.rate, covariance_rate=images.covariance_rate)
    optimizer = torch.optim.Adam(groups, amsgrad=True)
    number = len(data.train)
    shown = {IMAGE: unit(data.train[: batch_size(config, data)]).to(config.device)}
    template = engine.init(shown)
    store = ParticleStore.like(template, number, folder=particles)
    Learner.fill(engine, store, shown, torch.arange(number).split(len(shown[IMAGE])))
    if images.method in AMORTISED:
        return AMORTISED[images.method](
            engine, optimizer, template, store, site=IMAGE, rate=images.rate
        )
    sweeps = config.inference["num_sweeps"]
    return Learner(
        engine,
        optimizer,
        template,
        store,
        num_sweeps=sweeps,
        steps_per_batch=images.visits,
        recycle=images.recycle,
    )


def batch_size(config: TrainConfig, data: ImageData) -> int:
    """Images per step: as configured, at most all of them."""
    return min(image_config(config).batch_size, len(data.train))
