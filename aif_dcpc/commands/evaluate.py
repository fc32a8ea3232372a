"""`aif-evaluate run=RUN_DIR [held_out=1000] [sweeps=100] [annealed_images=200] [samples=10000] [seed=20000]`.

Measures a trained image model on held-out images and leaves figures in the run folder. The last line of standard output
is one JSON object.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aif_dcpc.commands.command import run_command
from aif_dcpc.schema import evaluate_config


def main() -> None:
    """Run the command."""
    run_command("evaluate", evaluate)


def evaluate(values: Mapping[str, Any], given: Sequence[str]) -> None:
    """Measure, then print a table and the line of JSON."""
    config = evaluate_config(values)

    from aif_dcpc import image_evaluation
    from aif_dcpc.progress import print_table

    result = image_evaluation.evaluate(config)
    print_table(f"{config.run}", {k: f"{v:.4g}" if isinstance(v, float) else f"{v}" for k, v in result.items()})
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
