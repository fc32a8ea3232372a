"""Films of a bouncing MNIST digit: learn what digits look like, find held-out ones from the prior, predict frames.

    python -m aif_dcpc.experiments.bouncing_digits.run --data-dir ... --seed 0

Learning sees whole films of training digits, neither positions nor encoder. Held-out films of test digits are inferred
afresh from the prior: once from all ten frames (reconstruction, positions), once from the first eight (the last two are
predicted). Prints one JSON line and draws `films_<seed>.png`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aif_dcpc.data import load_images, unit
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.images import bounce, bouncing_digits
from aif_dcpc.inference.images.straight_paths import fold
from aif_dcpc.inference.learning import Learner
from aif_dcpc.inference.state import State
from aif_dcpc.inference.stores import ParticleStore
from aif_dcpc.pictures import image_grid, png_bytes, save

PATCH, CANVAS, FRAMES, SEEN = 16, 32, 10, 8
HALF_WIDTH = (CANVAS - PATCH) / 2  # pixels per unit of position
MOVES = {"position": "langevin"}


def main() -> None:
    """Learn, infer held-out films and print one JSON object."""
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    data = load_images("mnist", args.data_dir)
    train, _ = films(data.train[torch.randperm(len(data.train))[: args.films]])
    test, position = films(data.test[torch.randperm(len(data.test))[: args.test_films]])
    start = time.process_time()
    model = bouncing_digits(latents=args.latents, hidden=256, noise=args.noise, candidates=args.candidates)
    appearance(model, train, args)
    learned = time.process_time() - start
    engine = DCPC(model, num_particles=4, moves=MOVES, warmup=args.sweeps // 2, seed=args.seed + 1)
    whole, _ = engine.run(engine.init({"frame": test}), args.sweeps)
    begun, _ = engine.run(engine.init({"frame": test[:, :SEEN]}), args.sweeps)
    future = engine.forecast(begun, length=FRAMES - SEEN)
    shown, predicted = mean_frames(engine, whole.particles), mean_frames(engine, {**begun.particles, **future})
    scores = reconstruction_scores(shown, whole, test, position)
    scores |= prediction_scores(predicted, future["position"], test, position)
    seconds = {"cpu_seconds_learning": learned, "cpu_seconds_in_all": time.process_time() - start}
    print(json.dumps({"seed": args.seed, **{name: round(value, 5) for name, value in (scores | seconds).items()}}))
    draw(args.figures / f"films_{args.seed}.png", test, shown, predicted)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--films", type=int, default=6000, help="to learn from")
    parser.add_argument("--test-films", type=int, default=100)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--visits", type=int, default=1, help="steps on a batch before the next one")
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--latents", type=int, default=24)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--candidates", type=int, default=3)
    parser.add_argument("--sweeps", type=int, default=60, help="of held-out films")
    parser.add_argument("--appearance", type=Path, help="file to read what was learned from, or to keep it in")
    parser.add_argument("--figures", type=Path, default=Path(__file__).parent / "figures")
    return parser.parse_args()


def films(digits: Tensor) -> tuple[Tensor, Tensor]:
    """Films `(B, T, 1, 32, 32)` of digits scaled to 16 x 16, and their unfolded positions `(B, T, 2)`."""
    small = interpolate(unit(digits), (PATCH, PATCH), mode="bilinear", antialias=True)
    return bounce(small, frames=FRAMES, canvas=CANVAS)


def appearance(model: GraphicalModel, train: Tensor, args: argparse.Namespace) -> Tensor:
    """Learn (or read) the parameters; returns the embeddings `(films, latents)` of the films learned from."""
    if args.appearance and args.appearance.exists():
        known = torch.load(args.appearance, weights_only=True)
        model.load_state_dict(known["parameters"])
        return torch.as_tensor(known["what"])
    what = learn(model, train, args)
    if args.appearance:
        torch.save({"parameters": model.state_dict(), "what": what}, args.appearance)
    return what


def learn(model: GraphicalModel, train: Tensor, args: argparse.Namespace) -> Tensor:
    """Particles of every film start from the prior and persist between its visits."""
    engine = DCPC(model, num_particles=1, moves=MOVES, seed=args.seed)
    template = engine.init({"frame": train[:2]})
    store = ParticleStore.like(template, len(train))
    Learner.fill(engine, store, {"frame": train[: args.batch_size]}, torch.arange(len(train)).split(args.batch_size))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    learner = Learner(engine, optimizer, template, store, visits=args.visits)
    for step in range(args.steps):
        indices = torch.randint(len(train), (args.batch_size,))
        info = learner.step({"frame": train[indices]}, indices)
        schedule.step()
        if step % 100 == 0:
            pixel = model.get_parameter("modules_of_sites.frame:kernel.log_scale").exp().item()
            print(step, round(pixel, 4), {n: round(a.item(), 2) for n, a in info.acceptance.items()}, flush=True)
    return torch.as_tensor(store.values["what"])[:, 0]


def mean_frames(engine: DCPC, latents: dict[str, Tensor]) -> Tensor:
    """Posterior mean of the frames, `(B, T, 1, 32, 32)`."""
    renderer = engine.model.sites["frame"].kernel
    assert renderer is not None
    with torch.no_grad():
        return renderer(latents["what"].unsqueeze(2), latents["position"]).mean.mean(0)


def reconstruction_scores(shown: Tensor, state: State, test: Tensor, position: Tensor) -> dict[str, float]:
    """Error of the frames, and of the folded positions."""
    error = pixels_off(state.particles["position"], position)
    return {
        "mse": mse(shown, test),
        "within_2_pixels": (error <= 2).double().mean().item(),
        "position_error": error.mean().item(),
        "mse_of_black": test.square().mean().item(),
    }


def prediction_scores(predicted: Tensor, ahead: Tensor, test: Tensor, position: Tensor) -> dict[str, float]:
    """Frames that were not seen, beside a film that stands still after the last one seen."""
    error = pixels_off(ahead, position[:, SEEN:])
    still = position[:, SEEN - 1 : SEEN].expand(-1, FRAMES - SEEN, -1)
    return {
        "predicted_mse": mse(predicted, test[:, SEEN:]),
        "predicted_within_2_pixels": (error <= 2).double().mean().item(),
        "predicted_position_error": error.mean().item(),
        "still_mse": mse(test[:, SEEN - 1 : SEEN].expand(-1, FRAMES - SEEN, -1, -1, -1), test[:, SEEN:]),
        "still_position_error": pixels_off(still[None], position[:, SEEN:]).mean().item(),
    }


def pixels_off(found: Tensor, truth: Tensor) -> Tensor:
    """Distance `(B, T)` between the mean folded centre of the particles and the true one, pixels."""
    return (fold(found).mean(0) - fold(truth)).norm(dim=-1) * HALF_WIDTH


def mse(found: Tensor, truth: Tensor) -> float:
    """Per-pixel mean squared error."""
    return (found - truth).square().mean().item()


def draw(path: Path, test: Tensor, shown: Tensor, predicted: Tensor, number: int = 4) -> None:
    """Of each film three rows: truth, reconstruction, and what was predicted of its last two frames (else empty)."""
    ahead = torch.zeros_like(test)
    ahead[:, SEEN:] = predicted
    rows = torch.stack([test, shown, ahead], 1)[:number].flatten(0, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, png_bytes(image_grid(rows.numpy(), columns=FRAMES, scale=2)))


if __name__ == "__main__":
    main()
