"""A sequence of MNIST images, memorised by a state-space model and recalled from its first image.

    python -m aif_dcpc.experiments.sequential_memory.run --data-dir ... --seed 0

For each length: learn one sequence, infer the first state from the cue (whole, noisy, or its upper
half), forecast the rest. An image is recalled if, of all images of the sequence, the right one is
nearest to it. Baselines: asymmetric Hopfield networks, linear and with softmax. Prints one JSON
line per length and draws `recall_<length>_<seed>.png`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from aif_dcpc.commands.command import run_script
from aif_dcpc.image_runs.data import load_images, unit
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.images import sequential_memory, with_visible
from aif_dcpc.inference.learning import learn_step
from aif_dcpc.inference.moves.schedule import UPDATES
from aif_dcpc.pictures import image_grid, png_bytes, save

CUES = ("whole", "noisy", "half")
SHOWN = 16  # images of a sequence in a figure


def main() -> None:
    """Learn and recall sequences of several lengths."""
    args = parse()
    torch.set_num_threads(1)
    images = unit(load_images("mnist", args.data_dir).train)
    for length in args.lengths:
        torch.manual_seed(
            args.seed
        )  # each length by itself; a short sequence is the beginning of a long one
        sequence = images[torch.randperm(len(images))[:length]]
        start = time.process_time()
        model = memorise(sequence, args)
        record: dict[str, object] = {"seed": args.seed, "length": length}
        cues = {kind: cue_of(sequence[0], kind, args.noise) for kind in CUES}
        recalled = {kind: recall(model, sequence, cue, kind, args) for kind, cue in cues.items()}
        record |= {kind: scores(found, sequence) for kind, found in recalled.items()}
        record |= {
            "cpu_seconds": round(time.process_time() - start, 1),
            **hopfield_scores(sequence, cues["noisy"]),
        }
        print(json.dumps(record), flush=True)
        rows = {kind: torch.cat([cues[kind][None], found]) for kind, found in recalled.items()}
        draw(args.figures / f"recall_{length}_{args.seed}.png", sequence, rows)


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
    parser.add_argument("--lengths", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--sweeps", type=int, default=200, help="of the cue")
    parser.add_argument(
        "--noise", type=float, default=0.3, help="standard deviation of the noisy cue"
    )
    parser.add_argument("--figures", type=Path, default=Path(__file__).parent / "figures")
    return parser.parse_args()


def memorise(sequence: Tensor, args: argparse.Namespace) -> GraphicalModel:
    """The graph after learning from one sequence `(T, 1, 28, 28)`."""
    model = sequential_memory(sequence.shape[1:])
    engine = DCPC(model, num_particles=4, update=args.update, seed=args.seed)
    state = engine.init({"image": sequence[None]})
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    for _ in range(args.steps):
        state, _ = learn_step(engine, state, optimizer)
        schedule.step()
    return model


def cue_of(image: Tensor, kind: str, noise: float) -> Tensor:
    """The first image as it is shown: whole, with Gaussian noise, or with its lower half hidden (grey)."""
    if kind == "noisy":
        return image + noise * torch.randn_like(image)
    return torch.where(visible(image, kind) == 1, image, 0.5)


def visible(image: Tensor, kind: str) -> Tensor:
    """1 where a pixel of the cue is seen, else 0, `(1, 28, 28)`."""
    rows = torch.arange(image.shape[1])[:, None].expand_as(image)
    return (rows < image.shape[1] // 2).to(image) if kind == "half" else torch.ones_like(image)


def recall(
    model: GraphicalModel, sequence: Tensor, cue: Tensor, kind: str, args: argparse.Namespace
) -> Tensor:
    """Recall the images after the first, `(T - 1, 1, 28, 28)`.

    Means over 16 forecasts from the state that the cue tells.
    """
    masked = with_visible(
        model, "image", visible(cue, kind)
    )  # hidden pixels do not matter, whatever their value
    engine = DCPC(masked, num_particles=16, seed=args.seed + 1)
    state, _ = engine.run(engine.init({"image": cue[None, None]}), args.sweeps)
    states = engine.forecast(state, length=len(sequence) - 1)["state"]
    with torch.no_grad():
        found: Tensor = model.sites["image"].kernel(states).mean  # type: ignore[misc]
    return found.mean(0)[0]


def scores(found: Tensor, sequence: Tensor) -> dict[str, float]:
    """Per-pixel error of the recalled images, and the share that is nearest to the right one."""
    distance = torch.cdist(found.flatten(1), sequence.flatten(1))
    right = distance.argmin(1) == torch.arange(1, len(sequence))
    return {
        "mse": round((found - sequence[1:]).square().mean().item(), 5),
        "recalled": right.double().mean().item(),
    }


def hopfield_scores(sequence: Tensor, cue: Tensor) -> dict[str, dict[str, float]]:
    """Score networks with linear and with softmax strengths, from the noisy cue, on binary images."""
    binary = (sequence > 0.5).float()
    kinds = {"hopfield": None, "softmax_hopfield": 20.0}
    return {
        name: scores(asymmetric_hopfield(sequence, cue, len(sequence) - 1, sharpness=kind), binary)
        for name, kind in kinds.items()
    }


def draw(path: Path, sequence: Tensor, rows: dict[str, Tensor]) -> None:
    """Truth, then a row for each cue: the cue as it was shown, and what was recalled from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = torch.cat([row[:SHOWN] for row in (sequence, *rows.values())]).numpy()
    save(path, png_bytes(image_grid(pictures, columns=min(SHOWN, len(sequence)), scale=1)))


def asymmetric_hopfield(
    sequence: Tensor, cue: Tensor, length: int, *, sharpness: float | None = None
) -> Tensor:
    """The plain baseline: recall by an asymmetric Hopfield network, pixels taken as -1 and 1.

    x_{t+1} = sign(sum_m f(x_m . x_t / N) x_{m+1}), with f the identity (Sompolinsky and Kanter
    1986), or the softmax with inverse temperature `sharpness` (Chaudhry et al. 2023), which keeps
    every image apart.

    Args:
        sequence: `(T, *image_shape)` in [0, 1], stored.
        cue: `(*image_shape)`.
        length: images to recall.
        sharpness: None for the identity.

    Returns:
        `(length, *image_shape)`, pixels 0 and 1.
    """
    stored = signs(sequence).flatten(1)
    now = signs(cue).flatten()
    recalled = []
    for _ in range(length):
        overlap = stored[:-1] @ now / len(now)
        strength = overlap if sharpness is None else torch.softmax(sharpness * overlap, 0)
        now = signs(strength @ stored[1:], 0.0)
        recalled.append((now + 1) / 2)
    return torch.stack(recalled).unflatten(1, sequence.shape[1:])


def signs(images: Tensor, threshold: float = 0.5) -> Tensor:
    """Turn grey values into -1 and 1."""
    return torch.where(images > threshold, 1.0, -1.0)


if __name__ == "__main__":
    run_script(main)
