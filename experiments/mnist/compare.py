"""Methods on the published deep latent Gaussian model: `python -m aif_dcpc.experiments.mnist.compare --data-dir ...`.

Seven methods learn the same graph (K = 4) from the same 10,000 images for the same processor time.
Each chooses among four learning rates by the marginal of held-out training images, then learns from
three seeds; every model is measured in the same way on test images, particles inferred afresh by
exact sweeps. `--results` holds a line a run, so that a second invocation goes on; several may run
at a time with different `--methods`. `--table` prints what is there; `--figure` lays samples from
the prior side by side, which needs the run folders.
"""

import argparse
from pathlib import Path

import numpy as np

from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.comparison import Comparison, Protocol, evaluations, rates, table
from aif_dcpc.pictures import Picture, captioned_file, png_bytes, same_size, save
from aif_dcpc.results import Results

HERE = Path(__file__).parent
AFRESH = [
    "images.visits=1",
    "images.recycle=false",
]  # particles that start anew at every visit have nothing to recycle
METHODS = {
    "exact": ["images.paper_share=0"],
    "paper first": [],
    "paper": ["inference.update=paper", "images.paper_share=0"],
    "pgd": ["images.method=pgd", "images.langevin_step=0.01"],
    "mcpc": [
        "images.method=mcpc",
        "images.langevin_step=0.01",
        "images.langevin_steps=20",
        *AFRESH,
    ],
    "lpc": ["images.method=lpc", "images.langevin_step=0.01", "images.langevin_steps=20", *AFRESH],
    "vae": ["images.method=vae", *AFRESH],
}
SETTINGS = {
    **dict.fromkeys(
        ("exact", "paper first", "paper", "pgd", "mcpc"), rates(0.01, 0.02, 0.04, 0.08)
    ),
    **dict.fromkeys(
        ("lpc", "vae"), rates(0.001, 0.003, 0.01, 0.03)
    ),  # their encoders learn with the same rate
}
MARGINAL = ["annealed_images=100", "chains=4", "samples=0", "seeds=1"]
COLUMNS = {
    "steps": 0,
    "cpu_seconds": 0,
    "reconstruction_bce": 1,
    "mse": 4,
    "neg_log_marginal": 1,
    "neg_log_marginal_simulated_gap": 1,
}


def main() -> None:
    """Run the comparison, or show it."""
    asked = parse()
    results = Results(asked.results)
    if not asked.table:
        Comparison(protocol(asked), results, asked.runs).run(asked.methods, number=asked.setting)
    if asked.figure:
        save(asked.figure, png_bytes(side_by_side(asked.runs, asked.methods, asked.seeds[0])))
    print(
        table(results.rows(stage="tuning"), {"neg_log_marginal": 1}, order="neg_log_marginal"),
        end="\n\n",
    )
    print(table(results.rows(stage="final"), COLUMNS, order="neg_log_marginal"))


def side_by_side(runs: Path, methods: list[str], seed: int) -> Picture:
    """Samples from the prior of each method's final run, two methods a row."""
    shown = []
    for method in methods:
        name = method.replace(" ", "-")
        found = sorted(runs.glob(f"final-{name}-[0-9]-{seed}-*/figures/samples.png"))
        shown += [captioned_file(path, method) for path in found]
    if not shown:
        raise ConfigError(
            f"no run folders of seed {seed} in {runs}: run the comparison first, with the same --runs."
        )
    shown += [np.full_like(shown[0], 255)] * (len(shown) % 2)
    rows = [np.concatenate(same_size(shown[i : i + 2]), 1) for i in range(0, len(shown), 2)]
    return np.concatenate(same_size(rows), 0)


def parse() -> argparse.Namespace:
    """Read the command line of the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--runs", type=Path, default=Path("runs/mnist"), help="run folders")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--setting",
        type=int,
        choices=range(len(SETTINGS["exact"])),
        help="number of the setting to learn with, in the place of the best one",
    )
    parser.add_argument("--tuning-seconds", type=float, default=30)
    parser.add_argument("--final-seconds", type=float, default=120)
    parser.add_argument(
        "--figure", type=Path, help="where to draw samples of the final runs of the first seed"
    )
    parser.add_argument("--table", action="store_true", help="only print what was measured")
    return parser.parse_args()


def protocol(asked: argparse.Namespace) -> Protocol:
    """What is the same for all methods."""
    return Protocol(
        experiment="mnist",
        methods=METHODS,
        settings=SETTINGS,
        common=[
            f"data_dir={asked.data_dir}",
            "images.train_images=10000",
            "images.warmup_steps=20",
        ],
        seeds=asked.seeds,
        tuning_seconds=asked.tuning_seconds,
        final_seconds=asked.final_seconds,
        measure=evaluations(
            tuning=[
                "held_out=100",
                "sweeps=50",
                "temperatures=100",
                "simulated_images=0",
                *MARGINAL,
            ],
            final=[
                "held_out=200",
                "sweeps=100",
                "temperatures=1000",
                "simulated_images=50",
                *MARGINAL,
            ],
        ),
    )


if __name__ == "__main__":
    run_script(main)
