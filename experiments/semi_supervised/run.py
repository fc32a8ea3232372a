"""MNIST of which only some images have labels, classified by joint inference.

    python -m aif_dcpc.experiments.semi_supervised.run --data-dir ... --labels 30000

    python -m aif_dcpc.experiments.semi_supervised.run --data-dir ... --labels 100 --graph classes

Two graphs: embedding -> image and embedding -> label (`images.labelled_embedding`), or, where
labels are few, label -> embedding -> image (`images.class_embedding`), in which images without
labels tell what a class is like. Three stages: a variational encoder on all images without labels
gives first particles; the graph is learned from exact sweeps of the particles of labelled and
unlabelled images together; test images, no label seen, are swept and the label's probabilities
averaged. The baseline is logistic regression on the encoder's means, from the same labels.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from aif_dcpc.commands.command import run_script
from aif_dcpc.image_runs.assembly import start_at_mean
from aif_dcpc.image_runs.data import ImageData, load_images, unit
from aif_dcpc.image_runs.inference import image_law
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.baselines.vae import Encoder, VariationalLearner
from aif_dcpc.inference.images import class_embedding, class_probabilities, labelled_embedding
from aif_dcpc.inference.images.labelled import ClassGaussians
from aif_dcpc.inference.learning import Learner, parameter_groups
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.schedule import UPDATES
from aif_dcpc.inference.stores import ParticleStore
from aif_dcpc.pictures import image_grid, png_bytes, save

CLASSES = 10
LATENTS = {"embedding": 48, "classes": 12}


def main() -> None:
    """Learn, classify and print one JSON object."""
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    data = load_images(args.data, args.data_dir)
    known = choose_known(data.train_labels, args.labels)
    start = time.process_time()
    task = Task(data, known, args)
    encoder = task.warm_up()
    baseline = logistic_regression(encoder, data, known)
    task.learn(encoder)
    learned = time.process_time() - start
    probabilities = task.classify(encoder)
    record = {
        "labels": int(known.sum()),
        "seed": args.seed,
        "accuracy": accuracy(probabilities, data.test_labels),
        "calibration_error": calibration_error(probabilities, data.test_labels),
        "logistic_regression": baseline,
        "cpu_seconds_learning": round(learned),
        "cpu_seconds_in_all": round(time.process_time() - start),
    }
    print(json.dumps(record))
    if args.graph == "classes":
        task.draw(args.figures / f"classes_{args.seed}.png")


def parse() -> argparse.Namespace:
    """Read the command line of the experiment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--labels", type=int, default=30_000)
    parser.add_argument("--graph", choices=("embedding", "classes"), default="embedding")
    parser.add_argument(
        "--labelled-share",
        type=float,
        default=0.0,
        help="least share of labelled images in a batch",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--update",
        choices=UPDATES,
        default="exact",
        help="of the latents while learning: 'paper' as published",
    )
    parser.add_argument("--warm-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--sweeps", type=int, default=60, help="of the test images")
    parser.add_argument("--rate", type=float, default=0.002)
    parser.add_argument(
        "--covariance-rate", type=float, help="of scales and covariances (default: the same)"
    )
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--figures", type=Path, default=Path(__file__).parent / "figures")
    return parser.parse_args()


def choose_known(labels: Tensor, number: int) -> Tensor:
    """`(N,)` bool: which labels are given, as many of each class."""
    known = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(CLASSES):
        of_class = (labels == label).nonzero()[:, 0]
        known[of_class[torch.randperm(len(of_class))[: number // CLASSES]]] = True
    return known


class Task:
    """The graph, its data and its particles.

    Args:
        data: images and labels.
        known: `(N,)`, which labels are given.
        args: the command line.
    """

    def __init__(self, data: ImageData, known: Tensor, args: argparse.Namespace) -> None:
        self.data = data
        self.known = known
        self.args = args
        self.by_class = args.graph == "classes"
        latents = LATENTS[args.graph]
        self.unlabelled = labelled_embedding(CLASSES, data.image_shape, latents=latents)
        start_at_mean(self.unlabelled, data.train)
        self.model = (
            class_embedding(CLASSES, data.image_shape, latents=latents)
            if self.by_class
            else self.unlabelled
        )
        self.engine = DCPC(self.model, num_particles=1, update=args.update, seed=args.seed)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """Training images and labels."""
        return {"image": unit(self.data.train[indices]), "label": self.data.train_labels[indices]}

    def cloud(self, engine: DCPC) -> tuple[State, ParticleStore]:
        """A cloud of two images, the second without its label, and particles of all."""
        template = engine.init(
            self.batch(torch.arange(2)), masks={"label": torch.tensor([True, False])}
        )
        return template, ParticleStore.like(template, len(self.data.train))

    def warm_up(self) -> Encoder:
        """A variational encoder and a first decoder, from all images and no label."""
        rate = self.args.rate
        engine = DCPC(self.unlabelled, num_particles=1, seed=self.args.seed)
        optimizer = torch.optim.Adam(self.unlabelled.parameters(), lr=rate)
        learner = VariationalLearner(
            engine, optimizer, *self.cloud(engine), site="image", rate=rate
        )
        for indices in batches(len(self.data.train), 256, self.args.warm_steps):
            learner.step(
                self.batch(indices), indices, {"label": torch.zeros(len(indices), dtype=torch.bool)}
            )
        return learner.encoder

    def learn(self, encoder: Encoder) -> None:
        """Draw particles from the encoder, sweep, and learn from images and given labels."""
        template, store = self.cloud(self.engine)
        with torch.no_grad():
            drawn = torch.cat(
                [encoder(unit(images), 1)[0][0][0] for images in self.data.train.split(2000)]
            )
        labels = self._begin(drawn) if self.by_class else self.data.train_labels
        store.write(torch.arange(len(drawn)), {"embedding": drawn[None], "label": labels[None]})
        groups = parameter_groups(
            self.model, self.args.rate, covariance_rate=self.args.covariance_rate
        )
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.args.steps)
        learner = Learner(self.engine, optimizer, template, store)
        given = self.known.nonzero()[:, 0]
        extra = round(self.args.labelled_share * self.args.batch_size)
        for others in batches(len(self.data.train), self.args.batch_size - extra, self.args.steps):
            again = given[torch.randint(len(given), (extra,))]
            indices = torch.cat([others, again])
            learner.step(self.batch(indices), indices, {"label": self.known[indices]})
            schedule.step()

    def _begin(self, drawn: Tensor) -> Tensor:
        """Begin with the classes' Gaussians at the labelled images' embeddings.

        Labels `(N,)`, at random where not given; the decoder stays as it is.
        """
        gaussians = self.model.sites["embedding"].kernel
        known = self.known
        assert isinstance(gaussians, ClassGaussians)
        gaussians.start(drawn[known], self.data.train_labels[known])
        pixels, learned = (
            m.get_submodule("modules_of_sites.image:kernel") for m in (self.model, self.unlabelled)
        )
        pixels.load_state_dict(learned.state_dict())
        return torch.where(known, self.data.train_labels, torch.randint(CLASSES, known.shape))

    def classify(self, encoder: Encoder) -> Tensor:
        """Estimate p(label | image) of the test images, `(N, classes)`.

        By 4 particles, averaged over the latter half of the sweeps.
        """
        engine = DCPC(self.model, num_particles=4, seed=self.args.seed + 1)
        return torch.cat(
            [self._classify(engine, encoder, images) for images in self.data.test.split(2000)]
        )

    def _classify(self, engine: DCPC, encoder: Encoder, images: Tensor) -> Tensor:
        unseen = torch.zeros(len(images), dtype=torch.long)
        state = engine.init(
            {"image": unit(images), "label": unseen}, masks={"label": unseen.bool()}
        )
        with torch.no_grad():
            state = state.with_values({"embedding": encoder(unit(images), 4)[0][0]})
        total = torch.zeros(len(images), CLASSES)
        for sweep in range(self.args.sweeps):
            state, _ = engine.sweep(state, adapt=sweep < self.args.sweeps // 2, log_joint=False)
            if sweep >= self.args.sweeps // 2:
                total = total + self._probabilities(engine, state)
        return total / total.sum(-1, keepdim=True)

    def _probabilities(self, engine: DCPC, state: State) -> Tensor:
        """p(label | embedding) averaged over particles, `(B, classes)`."""
        return (
            engine.marginals(state, "label").mean(0)
            if self.by_class
            else class_probabilities(state)
        )

    def draw(self, path: Path, *, columns: int = 12) -> None:
        """Mean images of every class, embeddings drawn given the label, a row each."""
        asked = torch.arange(CLASSES).repeat_interleave(columns)
        engine = DCPC(self.model, num_particles=1, seed=self.args.seed + 2)
        drawn = image_law(engine.init({"label": asked})).mean[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, png_bytes(image_grid(drawn.numpy(), columns=columns)))


def batches(number: int, size: int, steps: int) -> Iterator[Tensor]:
    """Indices of data, each epoch in a new order."""
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(number)
        yield order[:size]
        order = order[size:]


@torch.no_grad()
def logistic_regression(encoder: Encoder, data: ImageData, known: Tensor) -> float:
    """Test accuracy of logistic regression on the encoder's means, learned from the given labels."""
    train, test = (
        encoder.layers[0](unit(x).flatten(1)).chunk(2, -1)[0]
        for x in (data.train[known], data.test)
    )
    fitted = LogisticRegression(max_iter=500).fit(train.numpy(), data.train_labels[known].numpy())
    return float(fitted.score(test.numpy(), data.test_labels.numpy()))


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Share of right classes."""
    return float((probabilities.argmax(-1) == labels).double().mean())


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error: mean distance of confidence from accuracy, over equal bins."""
    confidence, chosen = probabilities.max(-1)
    right = (chosen == labels).float()
    where = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add(0, where, confidence - right)
    return float(gaps.abs().sum() / len(labels))


if __name__ == "__main__":
    run_script(main)
