"""Films of bouncing MNIST digits: learn appearances, find held-out digits, predict frames.

    python -m aif_dcpc.experiments.bouncing_digits.run --data-dir ... --seed 0
    python -m aif_dcpc.experiments.bouncing_digits.run --data-dir ... --seed 0 --digits 3

Learning sees whole films of one training digit each, neither positions nor encoder; the same
decoder then draws every digit of a frame. Held-out films of test digits are inferred afresh from
the prior: once from all ten frames (reconstruction, positions), once from the first eight (the last
two are predicted). Prints one JSON line and draws `films_<seed>.png`, for several digits
`films_<digits>_digits_<seed>.png` and an animation. Scores are those of the cloud's mean, and
(`best_...`) of the particle with the greatest log joint, digits matched up to their order.
"""

import argparse
import json
import time
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.bouncing_digits.drawing import animate, coloured, draw_films
from aif_dcpc.experiments.bouncing_digits.graph import bouncing_digits, refined
from aif_dcpc.experiments.bouncing_digits.rendering import Renderer, blend, bounce
from aif_dcpc.experiments.bouncing_digits.scoring import (
    Belief,
    prediction_scores,
    reconstruction_scores,
)
from aif_dcpc.files import atomic
from aif_dcpc.image_runs.data import load_images, unit
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.learning import Learner
from aif_dcpc.inference.moves.schedule import UPDATES
from aif_dcpc.inference.stores import ParticleStore

PATCH = 16
CANVAS = 32
FRAMES = 10
SEEN = 8
HALF_WIDTH = (CANVAS - PATCH) / 2  # pixels per unit of position
PARTICLES = 4
ANIMATED = 3
BASELINES = ("mse_of_black", "still_mse", "still_position_error")
BANK = 1000  # appearances learned from, to propose others from

Beliefs = tuple[Belief, ...]  # of the cloud, and of its best particle


def main() -> None:
    """Learn, infer held-out films and print one JSON object."""
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    data = load_images("mnist", args.data_dir)
    train, _ = films(data.train[torch.randperm(len(data.train))[: args.films]])
    number = args.digits * (args.test_films or (100 if args.digits == 1 else 50))
    test, position = films(data.test[torch.randperm(len(data.test))[:number]], args.digits)
    start = time.process_time()
    model = learned_model(train, args)
    seconds = {"cpu_seconds_learning": time.process_time() - start}
    parts = [
        find(model, part, args, number)
        for number, part in enumerate(test.split(args.at_once or len(test)))
    ]
    whole, begun = (
        tuple(map(Belief.join, zip(*kind, strict=True))) for kind in zip(*parts, strict=True)
    )
    scores = score(model, test, position, whole, begun)
    seconds["cpu_seconds_in_all"] = time.process_time() - start
    run = {"digits": args.digits, "seed": args.seed}
    numbers = {name: round(value, 5) for name, value in (scores | seconds).items()}
    print(json.dumps({**run, **numbers}))
    draw(model, args, test, whole, begun)


def score(
    model: GraphicalModel, test: Tensor, position: Tensor, whole: Beliefs, begun: Beliefs
) -> dict[str, float]:
    """Scores of the cloud and, under `best_`, of its best particle; baselines once."""
    scores: dict[str, float] = {}
    for prefix, seen, ahead in zip(("", "best_"), whole, begun, strict=True):
        found = reconstruction_scores(seen, renderer(model), test, position, HALF_WIDTH)
        found |= prediction_scores(ahead, renderer(model), test, position, HALF_WIDTH, seen=SEEN)
        for name, value in found.items():
            if not prefix or name not in BASELINES:
                scores[prefix + name] = value
    return scores


def parse() -> argparse.Namespace:
    """Read the command line of the experiment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--update",
        choices=UPDATES,
        default="exact",
        help="of the latents while learning: 'paper' as published",
    )
    parser.add_argument("--digits", type=int, default=1, help="in a held-out frame")
    parser.add_argument("--films", type=int, default=6000, help="to learn from")
    parser.add_argument("--test-films", type=int, help="100 of one digit, 50 of several by default")
    parser.add_argument(
        "--at-once", type=int, help="held-out films inferred at once (default: all)"
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--visits", type=int, default=1, help="steps on a batch before the next one"
    )
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--latents", type=int, default=24)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--candidates", type=int, default=3, help="paths of one digit")
    parser.add_argument(
        "--whole-candidates", type=int, default=4, help="whole digits, where there are several"
    )
    parser.add_argument("--sweeps", type=int, default=60, help="of held-out films")
    parser.add_argument(
        "--appearance", type=Path, help="file to read what was learned from, or to keep it in"
    )
    parser.add_argument("--figures", type=Path, default=Path(__file__).parent / "figures")
    return parser.parse_args()


def films(digits: Tensor, number: int = 1) -> tuple[Tensor, Tensor]:
    """Film `number` digits, scaled to 16 x 16, at a time.

    Returns:
        films `(B, T, 1, 32, 32)`, and unfolded positions `(B, T, number, 2)`.
    """
    small = interpolate(unit(digits), (PATCH, PATCH), mode="bilinear", antialias=True)
    clips, positions = zip(
        *(bounce(part, frames=FRAMES, canvas=CANVAS) for part in small.chunk(number)), strict=True
    )  # fmt: skip
    return reduce(blend, clips), torch.stack(positions, 2)


def learned_model(train: Tensor, args: argparse.Namespace) -> GraphicalModel:
    """The graph for the held-out films, with parameters from films of one digit."""
    sizes = {"latents": args.latents, "hidden": 256, "noise": args.noise}
    single = bouncing_digits(**sizes, candidates=args.candidates)
    what = appearance(single, train, args)
    if args.digits == 1:
        return single
    model = bouncing_digits(
        num_digits=args.digits, **sizes, candidates=args.whole_candidates, bank=what[:BANK]
    )
    model.load_state_dict(single.state_dict())
    return model


def appearance(model: GraphicalModel, train: Tensor, args: argparse.Namespace) -> Tensor:
    """Learn (or read) the parameters.

    Returns:
        the embeddings `(films, latents)` of the films learned from.
    """
    if args.appearance and args.appearance.exists():
        known = torch.load(args.appearance, weights_only=True)
        model.load_state_dict(known["parameters"])
        return torch.as_tensor(known["what"])
    if args.appearance:
        args.appearance.parent.mkdir(parents=True, exist_ok=True)
    what = learn(model, train, args)
    if args.appearance:
        with atomic(args.appearance) as file:
            torch.save({"parameters": model.state_dict(), "what": what}, file)
    return what


def learn(model: GraphicalModel, train: Tensor, args: argparse.Namespace) -> Tensor:
    """Particles of every film start from the prior and persist between its visits."""
    moves = {"position": "langevin" if args.update == "exact" else "paper"}
    engine = DCPC(model, num_particles=1, update=args.update, moves=moves, seed=args.seed)
    template = engine.init({"frame": train[:2]})
    store = ParticleStore.like(template, len(train))
    Learner.fill(
        engine,
        store,
        {"frame": train[: args.batch_size]},
        torch.arange(len(train)).split(args.batch_size),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    learner = Learner(engine, optimizer, template, store, steps_per_batch=args.visits)
    for step in range(args.steps):
        indices = torch.randint(len(train), (args.batch_size,))
        info = learner.step({"frame": train[indices]}, indices)
        schedule.step()
        if step % 100 == 0:
            pixel = model.get_parameter("modules_of_sites.frame:kernel.log_scale").exp().item()
            print(
                step,
                round(pixel, 4),
                {n: round(a.item(), 2) for n, a in info.acceptance.items()},
                flush=True,
            )
    return torch.as_tensor(store.values["what"])[:, 0]


def find(
    model: GraphicalModel, films: Tensor, args: argparse.Namespace, number: int
) -> tuple[Beliefs, Beliefs]:
    """Infer held-out films from all frames, and from the first eight with a forecast."""
    moves = dict.fromkeys(refined(args.digits), "langevin")
    seed = args.seed + 1 + 100 * number
    engine = DCPC(model, num_particles=PARTICLES, moves=moves, warmup=args.sweeps // 2, seed=seed)
    whole = infer(engine, films, args)
    return whole, infer(engine, films[:, :SEEN], args, FRAMES - SEEN)


def infer(engine: DCPC, frames: Tensor, args: argparse.Namespace, ahead: int = 0) -> Beliefs:
    """Tell what the cloud and its best particle say of films, and forecast the rest."""
    state, info = engine.run(engine.init({"frame": frames}), args.sweeps)
    belief = Belief.of(state.particles, args.digits)
    if ahead:
        belief = belief.then(engine.forecast(state, length=ahead))
    assert info.log_joint is not None  # a run ends with it
    return belief, belief.best(info.log_joint)


def renderer(model: GraphicalModel) -> Renderer:
    """The kernel of the frames."""
    kernel = model.sites["frame"].kernel
    assert isinstance(kernel, Renderer)
    return kernel


def draw(
    model: GraphicalModel,
    args: argparse.Namespace,
    test: Tensor,
    whole: Beliefs,
    begun: Beliefs,
) -> None:
    """Draw the figures of held-out films."""
    kernel = renderer(model)
    several = args.digits > 1
    name = f"films_{args.digits}_digits_{args.seed}" if several else f"films_{args.seed}"
    apart = coloured(whole[1], kernel) if several else None
    shown = whole[0].frames(kernel)
    predicted = begun[0].frames(kernel)
    draw_films(args.figures / f"{name}.png", test, shown, predicted, apart, seen=SEEN)
    if several:
        first = Belief(begun[1].what[:, :ANIMATED], begun[1].position[:, :ANIMATED])
        animate(args.figures / f"{name}.gif", test[:ANIMATED], first, kernel, seen=SEEN)


if __name__ == "__main__":
    run_script(main)
