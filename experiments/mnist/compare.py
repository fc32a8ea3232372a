"""Methods on the very same graph, data and budget of processor time: `python -m aif_dcpc.experiments.mnist.compare`.

Each method learns the published deep latent Gaussian model (K = 4) from the same images for the same processor time
(`experiments.image_budget`), with the same rates and schedule; every model is then measured in the same way, particles
of held-out images inferred afresh by exact sweeps. One JSON line a method.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from aif_dcpc.experiments.image_budget import evaluation, learn_for, training
from aif_dcpc.image_evaluation import evaluate

METHODS = {
    "exact": ["inference.update=exact", "images.paper_share=0"],
    "paper first": ["inference.update=exact"],
    "paper": ["inference.update=paper"],
    "pgd": ["images.method=pgd", "images.langevin_step=0.01"],
    "vae": ["images.method=vae", "images.rate=0.001"],
    "mcpc": ["images.method=mcpc", "images.langevin_step=0.01", "images.langevin_steps=20"],
    "map": ["images.method=map", "images.langevin_step=0.01", "images.langevin_steps=20"],
}


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="mnist")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cpu-seconds", type=float, default=150)
    parser.add_argument("--train-images", type=int, default=10_000)
    parser.add_argument("--evaluate", nargs="*", default=[], help="overrides of aif-evaluate")
    asked = parser.parse_args()
    for seed in asked.seeds:
        for method in asked.methods:
            print(json.dumps(one(method, seed, asked)), flush=True)


def one(method: str, seed: int, asked: argparse.Namespace) -> dict[str, object]:
    """Learn and measure with one method."""
    place = asked.out / f"{method}-{seed}"
    overrides = [
        f"experiment={asked.experiment}",
        f"seed={seed}",
        f"data_dir={asked.data_dir}",
        f"run_dir={place}",
        "device=cpu",
        f"images.train_images={asked.train_images}",
        "images.batch_size=256",
        *METHODS[method],
    ]
    spent = learn_for(training(overrides), asked.cpu_seconds)
    result = evaluate(evaluation([f"run={place}", *asked.evaluate]))
    return {"method": method, "seed": seed, **asdict(spent), **result}


if __name__ == "__main__":
    main()
