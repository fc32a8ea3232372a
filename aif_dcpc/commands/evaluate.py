"""`aif-evaluate run=RUN_DIR [seeds=5] [held_out=1000] [sweeps=100] [annealed_images=100] [samples=10000]`.

Measures a trained image model on held-out images, under several seeds of inference, and leaves
figures in the run folder; `'run=[A,B,C]'` averages runs that were trained with different seeds, and
lays runs that differ in more, such as their method, side by side. The last line of standard output
is one JSON object: means, and standard deviations under `<key>_sd`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aif_dcpc.commands.command import run_command
from aif_dcpc.commands.run_choice import chosen_run
from aif_dcpc.devices import check_device
from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.reconstruction import find_metrics
from aif_dcpc.notes import say
from aif_dcpc.schema import evaluate_config


def main() -> None:
    """Run the command `aif-evaluate`."""
    run_command("evaluate", evaluate)


def evaluate(values: Mapping[str, Any], given: Sequence[str]) -> None:
    """Measure, then print a table and the line of JSON; figures come last."""
    config = evaluate_config(values)
    if not config.run:
        raise ConfigError("which run? Write run=RUN_DIR, or run=latest.")
    config = replace(config, run=[str(chosen_run(run, images=True)) for run in config.run])
    check_device(config.device)
    find_metrics("metrics", config.metrics)

    from aif_dcpc.image_runs import evaluation as image_evaluation
    from aif_dcpc.metrics import as_json
    from aif_dcpc.progress import duration, print_columns, print_table

    start = time.monotonic()

    def tell(result: Mapping[str, Any]) -> None:
        took = duration(time.monotonic() - start)
        by_method = result.get(image_evaluation.BY_METHOD)
        if by_method is None:
            print_table(", ".join(config.run), {**rows(result), "time": took})
        else:
            title = f"means, and deviations over seeds or runs; {took}"
            print_columns(title, by_method_rows(by_method))
        say(as_json(result))

    image_evaluation.evaluate(config, tell)


def rows(result: Mapping[str, Any]) -> dict[str, str]:
    """One row a key, means beside their standard deviations."""
    rows = {}
    for key, value in result.items():
        spread = result.get(f"{key}_sd")
        if not key.endswith("_sd"):
            shown = f"{value:.4g}" if isinstance(value, float) else f"{value}"
            rows[key] = shown if spread is None else f"{shown} (sd {spread:.2g})"
    return rows


def by_method_rows(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """One row a key, one column a method."""
    columns = {method: rows(result) for method, result in results.items()}
    keys = dict.fromkeys(key for column in columns.values() for key in column if key != "run")
    return {
        key: {method: column.get(key, "") for method, column in columns.items()} for key in keys
    }


if __name__ == "__main__":
    main()
