"""What `aif-evaluate` measures, each number by what its name says.

reconstruction_bce, mse: the paper's formulas ("NLL", "MSE") between grey held-out images and the
    mean of their particles' images, particles inferred afresh from the prior. These are no
    likelihoods.
free_energy: mean of minus the log joint of held-out images and those particles, nats per image.
    Like the two before it a line of `reconstruction.METRICS`; `metrics=` adds one's own.
train_reconstruction_bce, train_mse, ...: the same of training images, with the particles that
    learning left, as they are.
neg_log_marginal: minus log p(image) of stochastically binarised images (of the images as they are
    for other likelihoods), by annealed importance sampling: an upper bound in expectation.
    `neg_log_marginal_simulated_gap` is the distance between the bounds from either side on images
    drawn from the model.
recall_mse, inpainting_mse: mean squared error of the hidden pixels, where the lower half, or a
    central square, is hidden.
fid_*, kid_*: between held-out images and samples, in features of a classifier trained on the
    training images, or of the Inception network; `features` says which.

Everything is measured under several seeds of inference: `<key>` is the mean, `<key>_sd` the
standard deviation over seeds. Of several runs, trained with different seeds, the means over seeds
are averaged: `<key>_sd` is over runs. Runs that differ in more, such as their method, are laid side
by side.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.best_effort import BestEffort
from aif_dcpc.devices import set_up
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.image_runs.assembly import image_config
from aif_dcpc.image_runs.data import unit
from aif_dcpc.image_runs.distances import (
    Features,
    frechet_distance,
    inception_features,
    kernel_distance,
)
from aif_dcpc.image_runs.figures import (
    CAPTIONS,
    HIDDEN,
    completed,
    completions,
    free_energy_curve,
    grid,
    reconstructions,
    traversals,
)
from aif_dcpc.image_runs.groups import grouped
from aif_dcpc.image_runs.inference import IMAGE, image_law, infer, reconstruct
from aif_dcpc.image_runs.reconstruction import find_metrics, measured
from aif_dcpc.image_runs.samples import RootMixture, prior_samples
from aif_dcpc.image_runs.trained import TrainedImages, first
from aif_dcpc.inference import DCPC, State
from aif_dcpc.inference.baselines.classifier import Classifier, train_classifier
from aif_dcpc.inference.images.layers import GreyBernoulli
from aif_dcpc.inference.smc.annealing import AnnealedEvidence, annealed_log_evidence
from aif_dcpc.pictures import Picture, captioned, png_bytes, save
from aif_dcpc.progress import LiveProgress
from aif_dcpc.runs import open_run
from aif_dcpc.schema import EvaluateConfig

APART = 10  # seeds of one repetition, for what is drawn independently in it
HIDDEN_IMAGES = 100  # held-out images that are completed
SHOWN = 60  # samples in a figure
BY_METHOD = "by_method"  # key of the results of runs that differ in more than their seed
NATS_PER_BIT = 0.6931471805599453
Result = dict[str, Any]
Measures = dict[str, float]


def evaluate(
    config: EvaluateConfig, tell: Callable[[Result], None] = lambda result: None
) -> Result:
    """Measure the models of one or several run folders, and leave figures in each.

    Args:
        config: what to measure.
        tell: called with the result as soon as all is measured, before the last figures are drawn.

    Raises:
        UserError: a run is missing, foreign or damaged, the runs are of different experiments, or
            features are not to be had.
    """
    device = set_up(config.device, config.threads)
    if not config.run:
        raise ConfigError("which run? Write run=RUN_DIR.")
    configs = {run: open_run(run).config(trust=config.trust) for run in config.run}
    groups = grouped(configs)
    numbers: dict[str, tuple[Result, Measures]] = {}
    for run in configs:  # one in memory at a time
        one = Evaluation(config, run, device=device)
        numbers[run] = one.facts(), one.run()
        if run != [*configs][-1]:
            one.draw()
    found = {
        label: _averaged_runs({run: numbers[run] for run in runs}) for label, runs in groups.items()
    }
    result = found[next(iter(found))] if len(found) == 1 else {BY_METHOD: found}
    tell(result)
    one.draw()
    return result


def _averaged_runs(runs: Mapping[str, tuple[Result, Measures]]) -> Result:
    """Average what was measured of runs that differ in their seed alone."""
    facts, measures = zip(*runs.values(), strict=True)
    if len(measures) == 1:
        return joined(facts[0], measures[0])
    means = [_without_deviations(found) for found in measures]
    return joined({**facts[0], "run": list(runs)}, averaged(means))


def joined(*parts: Result) -> Result:
    """Join what was found, each number under a name of its own.

    Raises:
        ConfigError: two have one name.
    """
    result: Result = {}
    for part in parts:
        for name in part.keys() & result.keys():
            raise ConfigError(f"metrics: aif-evaluate reports another {name!r}; rename yours.")
        result |= part
    return result


def _without_deviations(found: Measures) -> Measures:
    return {key: value for key, value in found.items() if not key.endswith("_sd")}


def averaged(found: Sequence[Measures]) -> Measures:
    """Means; where there are several values also their standard deviations, under `<key>_sd`.

    >>> averaged([{"mse": 1.0, "gap": 3.0}, {"mse": 2.0}])
    {'mse': 1.5, 'mse_sd': 0.7071067811865476, 'gap': 3.0}
    """
    result: Measures = {}
    for key in found[0]:
        values = [measures[key] for measures in found if key in measures]
        result[key] = fmean(values)
        if len(values) > 1 and not key.endswith("_se"):
            result[f"{key}_sd"] = stdev(values)
    return result


def _standard_error(values: Tensor) -> float:
    """Standard error of a mean `(N,)`; nan of a single value."""
    return values.std().item() / len(values) ** 0.5 if len(values) > 1 else float("nan")


class Evaluation:
    """A trained model and what is asked of it.

    Args:
        config: what to measure.
        run: the run folder.
        device: cpu or cuda.

    Raises:
        UserError: the run is missing, foreign or damaged, or features are not to be had.
    """

    def __init__(self, config: EvaluateConfig, run: str, *, device: str = "cpu") -> None:
        self.config = config
        self.device = device
        self.trained = TrainedImages.load(
            run, data_dir=config.data_dir, device=device, trust=config.trust
        )
        self.beside = BestEffort(self.trained.folder)
        own = dict.fromkeys([*image_config(self.trained.config).metrics, *config.metrics])
        self.metrics = find_metrics("metrics", list(own))
        self.held_out = self.trained.held_out(config.held_out)
        self.features = self._features() if config.samples else None

    def run(self) -> Measures:
        """Measure everything under every seed."""
        seeds = [self.config.seed + APART * repeat for repeat in range(self.config.seeds)]
        with LiveProgress(len(seeds) * len(self.parts()), unit="measurements") as progress:
            found: list[Measures] = []
            for seed in seeds:
                parts = []
                for measure in self.parts():
                    parts.append(measure(seed))
                    progress.update(len(found) * len(self.parts()) + len(parts), {})
                found.append(joined(*parts))
        return averaged([{**found[0], **self._once()}, *found[1:]])

    def facts(self) -> Result:
        """What was measured, and how."""
        asked = self.config
        data = self.trained.data
        facts: Result = {
            "run": str(self.trained.folder),
            "data": self.trained.config.name,
            "images": len(self.held_out),
        }
        facts |= {"sweeps": asked.sweeps, "warm_step": asked.warm_step, "seeds": asked.seeds}
        if asked.annealed_images:
            facts |= {
                "annealed_images": len(self._annealed_images()),
                "temperatures": asked.temperatures,
            }
        if not asked.samples:
            return facts
        facts |= {"samples": asked.samples, "features": asked.features}
        if self.features is None:
            facts["features"] = (
                "none: these data have no labels to train a classifier on; try features=inception"
            )
        if self.features is not None and asked.features == "classifier":
            facts["classifier_accuracy"] = self.classifier.accuracy(
                unit(data.test), data.test_labels
            )
        return facts

    def parts(self) -> list[Callable[[int], Measures]]:
        """What depends on the seed of inference, to be called with it one by one."""
        found: list[Callable[[int], Measures]] = [self.reconstructions, self._completions]
        if self.config.annealed_images:
            found.append(self._marginals)
        if self.features is not None:
            found.append(partial(self._distances, self.features))
        return found

    def _once(self) -> Measures:
        """What does not, or is too dear to repeat."""
        remembered = reconstruct(
            self.trained.remembered(first(self.config.held_out, of=len(self.trained.data.train)))
        )
        found = {
            f"train_{name}": value for name, value in measured(self.metrics, remembered).items()
        }
        if self.config.annealed_images and self.config.simulated_images:
            found["neg_log_marginal_simulated_gap"] = self._simulated_gap(self.config.seed + 2)
        return found

    # -- reconstructions ---------------------------------------------------------------------------

    def reconstructions(self, seed: int) -> Measures:
        """Means over the held-out images, particles inferred afresh."""
        engine = self.trained.engine(seed)
        asked = self.config
        means = dict.fromkeys(self.metrics, 0.0)
        for batch in self.held_out.split(asked.batch_size):
            found = reconstruct(infer(engine, batch, asked.sweeps, warm_step=asked.warm_step))
            for name, value in measured(self.metrics, found).items():
                means[name] += value * len(batch) / len(self.held_out)
        return means

    def _completions(self, seed: int) -> Measures:
        """Mean squared error of hidden pixels, particles averaged."""
        seed += 5
        images = self.held_out[:HIDDEN_IMAGES]
        found = {}
        for kind, name in (("recall-from-half", "recall_mse"), ("inpainting", "inpainting_mse")):
            visible = HIDDEN[kind](self.trained.data.image_shape).to(images.device)
            means = completed(
                self.trained, images, visible, sweeps=self.config.sweeps, seed=seed
            ).mean(0)
            error = ((means - images).square() * (1 - visible)).flatten(1).sum(1) / (
                1 - visible
            ).sum()
            found[name] = error.mean().item()
        return found

    # -- marginal likelihood -----------------------------------------------------------------------

    def _marginals(self, seed: int) -> Measures:
        """Marginal likelihood of held-out images."""
        seed += 1
        images = self._annealed_images()
        found = self._bound(self._chains(seed), images, seed)
        nats = -found.log_evidence.mean().item()
        return {
            "neg_log_marginal": nats,
            "neg_log_marginal_se": _standard_error(found.log_evidence),
            "bits_per_dim": nats / images[0].numel() / NATS_PER_BIT,
            "ess_fraction": found.ess_fraction.mean().item(),
        }

    def _annealed_images(self) -> Tensor:
        """Held-out images as the likelihood takes them: black and white for Bernoulli pixels, the same under every seed."""
        images = self.held_out[: self.config.annealed_images]
        if not isinstance(image_law(self.trained.engine(0).init(batch_size=1)), GreyBernoulli):
            return images
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return torch.bernoulli(images.cpu()).to(images.device)

    def _chains(self, seed: int) -> DCPC:
        return self.trained.engine(seed, num_particles=self.config.chains)

    def _bound(
        self, engine: DCPC, images: Tensor, seed: int, reverse: State | None = None
    ) -> AnnealedEvidence:
        temperatures = self.config.temperatures
        chains = self.config.chains
        return annealed_log_evidence(
            engine,
            {IMAGE: images},
            num_temperatures=temperatures,
            num_chains=chains,
            reverse=reverse,
            seed=seed,
        )

    def _simulated_gap(self, seed: int) -> float:
        """Mean distance of the upper from the lower bound on images that the model made, nats."""
        engine = self._chains(seed)
        drawn = engine.init(
            batch_size=min(self.config.annealed_images, self.config.simulated_images), seed=seed
        )
        images = drawn.values[IMAGE][0]
        lower = self._bound(engine, images, seed + 1)
        latents = {n: v[:1].expand_as(v).clone() for n, v in drawn.values.items() if n != IMAGE}
        exact = engine.init({IMAGE: images}).with_values(latents)
        upper = self._bound(engine, images, seed + 2, reverse=exact)
        return (upper.log_evidence - lower.log_evidence).mean().item()

    # -- samples -----------------------------------------------------------------------------------

    def _features(self) -> Features | None:
        data = self.trained.data
        by_classifier = self.config.features == "classifier"
        if by_classifier and not len(data.train_labels):
            return None
        if len(data.test) < 2:
            raise ConfigError(
                f"samples={self.config.samples}: distances are to 2 held-out images at least, and "
                f"{self.trained.folder} has {len(data.test)}; write samples=0."
            )
        return self.classifier.features if by_classifier else inception_features(self.device)

    @cached_property
    def classifier(self) -> Classifier:
        """Trained on the training images, once for all seeds of inference."""
        data = self.trained.data
        return train_classifier(unit(data.train), data.train_labels, seed=self.config.seed)

    @cached_property
    def mixture(self) -> RootMixture:
        """Fitted to the training particles."""
        return RootMixture(self.trained, seed=self.config.seed)

    @cached_property
    def reference(self) -> Tensor:
        """Features of all held-out images."""
        assert self.features is not None
        return self.features(unit(self.trained.data.test))

    def _distances(self, features: Features, seed: int) -> Measures:
        number = self.config.samples
        found = {}
        drawn = {
            "prior": prior_samples(self.trained, number, seed=seed + 3),
            "mixture": self.mixture.samples(number, seed=seed + 4),
        }
        for name, images in drawn.items():
            described = features(images.cpu())
            found[f"fid_{name}"] = frechet_distance(self.reference, described)
            found[f"kid_{name}"] = kernel_distance(self.reference, described, seed=seed)
        return found

    # -- pictures ----------------------------------------------------------------------------------

    def draw(self) -> None:
        """Leave the figures of the first seed in the run folder."""
        trained = self.trained
        sweeps = self.config.sweeps
        seed = self.config.seed
        self._keep("evaluation-reconstructions", reconstructions(trained, sweeps=sweeps, seed=seed))
        for kind in HIDDEN:
            self._keep(
                f"evaluation-{kind}", completions(trained, kind, sweeps=sweeps, seed=seed + 5)
            )
        self._keep("evaluation-traversals", traversals(trained, sweeps=sweeps, seed=seed))
        if self.config.samples:
            self._keep(
                "evaluation-samples-prior", grid(prior_samples(trained, SHOWN, seed=seed + 3))
            )
            self._keep(
                "evaluation-samples-mixture", grid(self.mixture.samples(SHOWN, seed=seed + 4))
            )
        with suppress(RunFolderError):  # a run so short that it recorded nothing
            self._keep("free-energy", free_energy_curve(trained.folder))

    def _keep(self, name: str, picture: Picture) -> None:
        if self.beside.links:
            return
        drawn = captioned(picture, CAPTIONS[name])
        with self.beside.attempt():
            save(self.trained.folder.path / "figures" / f"{name}.png", png_bytes(drawn))
