"""Learning curves of all seeds in one plot.

    python -m aif_dcpc.experiments.minigrid.curves RUNS.json ... --out
    experiments/minigrid/curves.png

Each file holds what `steps_to_success --json` wrote. One panel per environment, one line per seed:
the length of every episode over the environment steps so far; a dot where the tenth success in a
row was reached, a cross where an episode failed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from aif_dcpc.commands.command import run_script


def main() -> None:
    """Draw the learning curves of some files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    asked = parser.parse_args()
    runs = [run for file in asked.files for run in json.loads(file.read_text())]
    ids = list(dict.fromkeys(run["id"] for run in runs))
    figure, panels = plt.subplots(
        1, len(ids), figsize=(3.2 * len(ids), 3), sharey=True, squeeze=False
    )
    for panel, id in zip(panels[0], ids, strict=True):
        for run in (run for run in runs if run["id"] == id):
            _draw(panel, run)
        panel.set(
            title=id.removeprefix("MiniGrid-").removesuffix("-v0"),
            xlabel="environment steps",
            yscale="log",
        )
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("steps of the episode")
    panels[0][-1].legend(title="seed", fontsize="small")
    figure.tight_layout()
    figure.savefig(asked.out, dpi=110)
    print(asked.out)


def _draw(panel: Any, run: dict[str, Any]) -> None:
    steps = [end for _, _, end in run["episodes"]]
    lengths = [length for _, length, _ in run["episodes"]]
    (line,) = panel.plot(steps, lengths, lw=1, label=run["seed"])
    failed = [(end, length) for success, length, end in run["episodes"] if not success]
    panel.plot(*zip(*failed, strict=True), "x", color=line.get_color()) if failed else None
    if run["steps_to_ten"] is not None:
        panel.plot(
            run["steps_to_ten"],
            lengths[steps.index(run["steps_to_ten"])],
            "o",
            color=line.get_color(),
        )


if __name__ == "__main__":
    run_script(main)
