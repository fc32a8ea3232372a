"""Methods on the very same graph, data and budget of processor time: `python -m aif_dcpc.experiments.mnist.compare`.

Each method learns the published deep latent Gaussian model (K = 4) from the same images for the same processor time
(its number of epochs is chosen from the measured time of a few steps), with the same rates and schedule; every model is
then measured in the same way, particles of held-out images inferred afresh by exact sweeps. One JSON line a method.
"""

import argparse
import json
import time
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from aif_dcpc.image_evaluation import evaluate
from aif_dcpc.schema import TrainConfig, evaluate_config, train_config
from aif_dcpc.training.image_assembly import make_data, make_model
from aif_dcpc.training.image_loop import ImageLoop
from aif_dcpc.training.image_run import continue_image_run, create_image_run

METHODS = {
    "exact": ["inference.update=exact", "images.paper_share=0"],
    "paper first": ["inference.update=exact"],
    "paper": ["inference.update=paper"],
    "pgd": ["images.method=pgd", "images.langevin_step=0.01"],
    "vae": ["images.method=vae", "images.rate=0.001"],
    "mcpc": ["images.method=mcpc", "images.langevin_step=0.01", "images.langevin_steps=20"],
    "map": ["images.method=map", "images.langevin_step=0.01", "images.langevin_steps=20"],
}
TIMED = 6  # steps


def composed(name: str, overrides: list[str]) -> dict[str, object]:
    """A configuration as plain values."""
    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        values = OmegaConf.to_container(compose(name, overrides=overrides), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def epochs_within(config: TrainConfig, cpu_seconds: float) -> int:
    """Epochs that fit into a budget, from the time of a few steps."""
    data = make_data(config)
    loop = ImageLoop(config, make_model(config, data), data)
    loop.step()
    start = time.process_time()
    for _ in range(TIMED):
        loop.step()
    seconds = (time.process_time() - start) / TIMED
    return max(1, round(cpu_seconds / (seconds * loop.epoch_steps)))


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
        "checkpoint_every=100000",
        "picture_every=0",
        *METHODS[method],
    ]
    config = train_config(composed("train", overrides))
    epochs = epochs_within(config, asked.cpu_seconds)
    config = train_config(composed("train", [*overrides, f"epochs={epochs}"]))
    if not place.exists():
        folder = create_image_run(config)
        start = time.process_time()
        outcome = continue_image_run(folder, folder.config())
        spent = {"steps": outcome.steps, "cpu_seconds": time.process_time() - start}
    else:
        spent = {}
    result = evaluate(evaluate_config(composed("evaluate", [f"run={place}", *asked.evaluate])))
    return {"method": method, "seed": seed, "epochs": epochs, **spent, **result}


if __name__ == "__main__":
    main()
