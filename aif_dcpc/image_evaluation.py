"""What `aif-evaluate` measures, each number by what its name says.

reconstruction_bce, mse: the paper's formulas ("NLL", "MSE") between grey held-out images and the mean of their
    particles' images, particles inferred afresh from the prior. These are no likelihoods.
neg_log_marginal: minus log p(image) of stochastically binarised images (of the images as they are for other
    likelihoods), by annealed importance sampling: an upper bound in expectation. `neg_log_marginal_simulated_gap` is
    the distance between the bounds from either side on images drawn from the model.
fid_*, kid_*: between held-out images and samples, in features of a classifier trained on the training images.
"""

from collections.abc import Callable, Iterator
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.data import ImageData, unit
from aif_dcpc.devices import set_up
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.image_distances import frechet_distance, kernel_distance
from aif_dcpc.image_inference import IMAGE, Reconstruction, image_law, infer, reconstruct, sample_prior
from aif_dcpc.inference import DCPC, GraphicalModel, State
from aif_dcpc.inference.annealing import AnnealedEvidence, annealed_log_evidence
from aif_dcpc.inference.baselines.classifier import train_classifier
from aif_dcpc.inference.images import with_visible
from aif_dcpc.inference.images.layers import GreyBernoulli
from aif_dcpc.pictures import image_grid, png_bytes, save
from aif_dcpc.runs import RunFolder, open_run
from aif_dcpc.schema import EvaluateConfig, TrainConfig
from aif_dcpc.training.image_assembly import make_data, make_engine, make_model

COMPONENTS = 100  # of the mixture fitted to particles, as in the paper's notebooks
FITTED = 10_000  # particles it is fitted to
SHOWN = 10
Result = dict[str, Any]


def evaluate(config: EvaluateConfig) -> Result:
    """Measure the model of a run folder.

    Raises:
        UserError: the run is missing, foreign or damaged.
    """
    set_up(config.device, config.threads)
    return Evaluation(config).run()


class Evaluation:
    """A trained model, its data and what is asked.

    Args:
        config: what to measure.

    Raises:
        UserError: the run is missing, foreign or damaged.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        if config.run is None:
            raise ConfigError("which run? Write run=RUN_DIR.")
        self.config, self.folder = config, open_run(config.run)
        self.trained = _with_data_dir(self.folder.config(), config.data_dir)
        self.data: ImageData = make_data(self.trained)
        self.model, self.particles = _restored(self.folder, self.trained, self.data)
        self.held_out = unit(self.data.test[: config.held_out])

    def engine(self, seed: int, model: GraphicalModel | None = None) -> DCPC:
        """The exact engine with the run's number of particles, whatever the run learned with."""
        return DCPC(model or self.model, num_particles=self.trained.inference["num_particles"], seed=seed)

    def run(self) -> Result:
        """All measurements that are asked for."""
        result: Result = {"run": str(self.folder), "data": self.trained.name, "images": len(self.held_out)}
        result |= {"sweeps": self.config.sweeps, "warm_step": self.config.warm_step, **self.reconstructions()}
        if self.config.annealed_images:
            result |= self._marginals()
        if self.config.samples:
            result |= self._distances()
        self._inpaint()
        return result

    # -- reconstructions ---------------------------------------------------------------------------------------------

    def reconstructions(self) -> Result:
        """Means (and standard deviations) over repeats of what `reconstruct` measures on the held-out images."""
        repeats = [self._reconstruct(self.config.seed + repeat) for repeat in range(self.config.repeats)]
        result: Result = {}
        for name in ("reconstruction_bce", "mse", "energy"):
            values = [repeat[name] for repeat in repeats]
            result[name] = fmean(values)
            if len(values) > 1:
                result[f"{name}_sd"] = stdev(values)
        return result

    def _reconstruct(self, seed: int) -> dict[str, float]:
        engine = self.engine(seed)
        batches = self.held_out.split(self.config.batch_size)
        found = [reconstruct(self._infer(engine, batch)) for batch in batches]
        self._picture("evaluation-reconstructions", torch.cat([found[0].images[:SHOWN], found[0].means[:SHOWN]]))
        sizes = [len(batch) / len(self.held_out) for batch in batches]

        def mean(of: Callable[[Reconstruction], float]) -> float:
            return sum(size * of(part) for size, part in zip(sizes, found, strict=True))

        return {
            "reconstruction_bce": mean(lambda r: r.bce),
            "mse": mean(lambda r: r.mse),
            "energy": mean(lambda r: r.energy),
        }

    def _infer(self, engine: DCPC, images: Tensor) -> State:
        return infer(engine, images, self.config.sweeps, warm_step=self.config.warm_step)

    # -- marginal likelihood -----------------------------------------------------------------------------------------

    def _marginals(self) -> Result:
        number, seed = self.config.annealed_images, self.config.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            images = self.held_out[:number]
            shown = torch.bernoulli(images) if self._is_binary() else images
        log_evidence, fraction = self._annealed(shown, seed + 1)
        gap = self._simulated_gap(min(number, 100), seed + 2)
        pixels = images[0].numel()
        nats = -log_evidence.mean().item()
        error = log_evidence.std().item() / len(log_evidence) ** 0.5
        return {
            "neg_log_marginal": nats,
            "neg_log_marginal_se": error,
            "bits_per_dim": nats / pixels / 0.6931471805599453,
            "neg_log_marginal_simulated_gap": gap,
            "ess_fraction": fraction.mean().item(),
            "annealed_images": number,
            "temperatures": self.config.temperatures,
        }

    def _is_binary(self) -> bool:
        return isinstance(image_law(self.engine(0).init(batch_size=1)), GreyBernoulli)

    def _exact_engine(self, seed: int) -> DCPC:
        """Annealing needs moves that leave the posterior invariant, whatever the run learned with."""
        return DCPC(self.model, num_particles=self.config.chains, seed=seed)

    def _annealed(self, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        found = self._bound(self._exact_engine(seed), images, seed)
        return found.log_evidence, found.ess_fraction

    def _bound(self, engine: DCPC, images: Tensor, seed: int, reverse: State | None = None) -> AnnealedEvidence:
        temperatures, chains = self.config.temperatures, self.config.chains
        return annealed_log_evidence(
            engine, {IMAGE: images}, num_temperatures=temperatures, num_chains=chains, reverse=reverse, seed=seed
        )

    def _simulated_gap(self, number: int, seed: int) -> float:
        """Mean distance of the upper from the lower bound on images that the model made, nats."""
        engine = self._exact_engine(seed)
        drawn = engine.init(batch_size=number, seed=seed)
        images = drawn.values[IMAGE][0]
        lower = self._bound(engine, images, seed + 1)
        latents = {n: v[:1].expand_as(v).clone() for n, v in drawn.values.items() if n != IMAGE}
        exact = engine.init({IMAGE: images}).with_values(latents)
        upper = self._bound(engine, images, seed + 2, reverse=exact)
        return (upper.log_evidence - lower.log_evidence).mean().item()

    # -- samples -----------------------------------------------------------------------------------------------------

    def _distances(self) -> Result:
        samples = {"prior": self.prior_samples(), "mixture": self.mixture_samples()}
        for name, images in samples.items():
            self._picture(f"evaluation-samples-{name}", images[: 6 * SHOWN])
        if not len(self.data.train_labels):
            return {"features": "none: these data have no labels to train a classifier on"}
        classifier = train_classifier(unit(self.data.train), self.data.train_labels, seed=self.config.seed)
        test = unit(self.data.test)
        right = torch.cat([classifier(batch).argmax(1) for batch in test.split(500)]) == self.data.test_labels
        reference = classifier.features(test)
        result: Result = {"features": "classifier", "classifier_accuracy": right.float().mean().item()}
        for name, images in samples.items():
            features = classifier.features(images)
            result[f"fid_{name}"] = frechet_distance(reference, features)
            result[f"kid_{name}"] = kernel_distance(reference, features, seed=self.config.seed)
        return {**result, "samples": self.config.samples}

    def prior_samples(self) -> Tensor:
        """Mean images of ancestor samples, `(samples, C, H, W)`."""
        engine = self._samplers(self.config.seed + 3)
        return torch.cat([sample_prior(engine, number) for number in self._numbers()])

    def mixture_samples(self) -> Tensor:
        """As `prior_samples`, the root latents drawn from a Gaussian mixture fitted to the training particles."""
        roots = {n: self.particles[n] for n, s in self.model.sites.items() if not s.parents and n in self.particles}
        widths = [value.shape[-1] for value in roots.values()]
        drawn = _mixture(torch.cat(list(roots.values()), -1).flatten(0, 1), self.config.samples, self.config.seed)
        engine, images = self._samplers(self.config.seed + 4), []
        for batch in drawn.split(self.config.batch_size):
            clamped = dict(zip(roots, batch.split(widths, -1), strict=True))
            images.append(image_law(engine.init(clamped)).mean[0])
        return torch.cat(images)

    def _samplers(self, seed: int) -> DCPC:
        return make_engine(self.trained, self.model, seed=seed, num_particles=1)

    def _numbers(self) -> Iterator[int]:
        for start in range(0, self.config.samples, self.config.batch_size):
            yield min(self.config.batch_size, self.config.samples - start)

    # -- pictures ----------------------------------------------------------------------------------------------------

    def _inpaint(self) -> None:
        """Recall whole images from their upper halves."""
        images = self.held_out[:SHOWN]
        visible = torch.ones_like(images[0])
        visible[:, visible.shape[1] // 2 :] = 0
        state = infer(
            self.engine(self.config.seed + 5, with_visible(self.model, IMAGE, visible)), images, self.config.sweeps
        )
        means = image_law(state).mean
        seen = images * visible + 0.5 * (1 - visible)
        self._picture("evaluation-recall-from-half", torch.cat([images, seen, means[0], means[-1]]))

    def _picture(self, name: str, images: Tensor) -> None:
        picture = image_grid(images.numpy(), columns=SHOWN)
        save(self.folder.path / "figures" / f"{name}.png", png_bytes(picture))


def _with_data_dir(config: TrainConfig, data_dir: str | None) -> TrainConfig:
    from dataclasses import replace

    return config if data_dir is None else replace(config, data_dir=data_dir)


def _restored(folder: RunFolder, config: TrainConfig, data: ImageData) -> tuple[GraphicalModel, dict[str, Tensor]]:
    """The model as learned, and the training particles `(N, K, *event)`."""
    model, checkpoint = make_model(config, data), folder.load_checkpoint()
    try:
        model.load_state_dict(checkpoint["model"])
        return model.requires_grad_(False), checkpoint["learner"]["particles"]
    except (KeyError, RuntimeError) as error:
        raise RunFolderError(f"the checkpoint does not fit its model: {type(error).__name__}: {error}.") from error


def _mixture(points: Tensor, number: int, seed: int) -> Tensor:
    """Draws `(number, D)` from a Gaussian mixture fitted to points `(N, D)`."""
    from sklearn.mixture import GaussianMixture

    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:FITTED]
    fitted = points[chosen].double().numpy()
    components = max(1, min(COMPONENTS, len(fitted) // 20))
    mixture = GaussianMixture(
        components, covariance_type="full", reg_covar=1e-3, max_iter=30, tol=1e-2, random_state=seed
    )
    drawn, _ = _fit(mixture, fitted).sample(number)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed + 1))
    return torch.from_numpy(drawn).float()[order]


def _fit(mixture: Any, points: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopped before convergence: good enough to sample from
        return mixture.fit(points)
