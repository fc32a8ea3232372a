"""`aif-rollout run=RUN_DIR [episodes=50] [seed=10000] [policy=greedy|sampled] [video=true] [env.id=...]`.

Plays a trained agent with frozen parameters. The last line of standard output is one JSON object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aif_dcpc.commands.command import run_command
from aif_dcpc.commands.run_choice import chosen_run
from aif_dcpc.errors import ConfigError
from aif_dcpc.notes import say
from aif_dcpc.schema import rollout_config


def main() -> None:
    """Run the command `aif-rollout`."""
    run_command("rollout", rollout)


def rollout(values: Mapping[str, Any], given: Sequence[str]) -> None:
    """Play the episodes, then print a table and the line of JSON."""
    config = rollout_config(values)
    if config.run is None:
        raise ConfigError("which run? Write run=RUN_DIR, or run=latest.")
    config = replace(config, run=str(chosen_run(config.run, images=False)))

    from aif_dcpc.agent_runs import rollouts
    from aif_dcpc.metrics import as_json
    from aif_dcpc.progress import print_table

    result = rollouts.rollout(config)
    print_table(
        f"{config.run}",
        {
            key: f"{value:.3f}" if isinstance(value, float) else f"{value}"
            for key, value in result.items()
        },
    )
    say(as_json(result))


if __name__ == "__main__":
    main()
