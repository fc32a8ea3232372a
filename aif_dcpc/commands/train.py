"""`aif-train [agent=NAME] [env=NAME] [experiment=NAME] [key=value ...]`: learn, and leave a run folder."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aif_dcpc.commands.command import run_command, sweep_folder
from aif_dcpc.commands.renewing import refuse_own
from aif_dcpc.commands.run_choice import chosen_run
from aif_dcpc.commands.words import as_typed
from aif_dcpc.devices import check_device
from aif_dcpc.errors import ConfigError, UserError, told
from aif_dcpc.image_runs.request import check_request, refuse_ignored
from aif_dcpc.interruption import exit_code
from aif_dcpc.notes import note, say
from aif_dcpc.outside import as_trust, outside_names
from aif_dcpc.runs import refuse_taken
from aif_dcpc.schema import RENEWABLE, TrainConfig, train_config

if TYPE_CHECKING:
    from aif_dcpc.agent_runs.run import Outcome
    from aif_dcpc.image_runs.run import ImageOutcome
    from aif_dcpc.image_runs.team import Team
    from aif_dcpc.runs import RunFolder

OF_AGENTS = (
    "agent",
    "env",
    "total_env_steps",
    "num_envs",
    "stop_after_successes_in_a_row",
    "policy",
)  # keys and groups that an image model does not read
OF_IMAGES = {
    "epochs": "epochs is the budget of image models: an agent's is total_env_steps.",
    "data_dir": "data_dir changes nothing about an agent, which reads no data set: leave it away.",
}  # keys that an agent does not read, and what is said of them


def main() -> None:
    """Run the command `aif-train`."""
    run_command("train", train)


def train(values: Mapping[str, Any], given: Sequence[str]) -> None:
    """Train as configured, or go on with a run, and print how it ended.

    Args:
        values: the composed configuration.
        given: keys that stood on the command line.
    """
    config = _in_sweep(train_config(values), given)
    resumed = config.resume is not None
    if resumed:
        folder, config = reopened(config, given)
    else:
        _refuse_ignored(config, given)
        _refuse_idle_trust(config)
    if config.images is not None:
        learn_images(config, folder if resumed else None)
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("an agent learns in one process: start aif-train without torchrun.")
    if not resumed:
        folder, config = create_agent(config)
    continue_agent(folder, config)


def learn_images(config: TrainConfig, folder: "RunFolder | None") -> None:
    """Let an image model learn, in one process or as one of those that `torchrun` started.

    Args:
        config: of the run.
        folder: of a run that is resumed; None begins a new one.
    """
    _refuse_at_sight(config, new=folder is None)

    from aif_dcpc.image_runs.team import join_team, leave_team

    team = join_team(config.device)
    try:
        if folder is None:
            folder, config = team.told(lambda: create_images(config))
        continue_images(folder, config, team)
    finally:
        leave_team(team)


def _refuse_at_sight(config: TrainConfig, *, new: bool) -> None:
    """Refuse what can be refused before torch is imported; of several processes the first one says so.

    Raises:
        UserError: there is such a thing.
        SystemExit: of the other processes.
    """
    try:
        check_device(config.device)
        if new and config.images is not None:
            refuse_taken(config.run_dir)
            check_request(config, config.images)
    except UserError:
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(2) from None
        raise


def create_agent(config: TrainConfig) -> "tuple[RunFolder, TrainConfig]":
    """Begin a new run of an agent."""
    from aif_dcpc.agent_runs.run import create_agent_run

    folder = create_agent_run(config)
    return folder, folder.config(trust=outside_names(config))


def create_images(config: TrainConfig) -> "tuple[RunFolder, TrainConfig]":
    """Begin a new run of an image model, and print its sites."""
    from aif_dcpc.image_runs.run import create_image_run

    folder = create_image_run(config)
    say(folder.model())
    return folder, folder.config(trust=outside_names(config))


def continue_agent(folder: "RunFolder", config: TrainConfig) -> None:
    """Let an agent learn until a budget ends, and print how it ended."""
    from aif_dcpc.agent_runs.run import continue_agent_run

    outcome = continue_agent_run(folder, config)
    print_outcome(outcome)
    _print_next(config, folder, outcome, f"aif-rollout {as_typed('run', folder)} video=true")


def continue_images(folder: "RunFolder", config: TrainConfig, team: "Team") -> None:
    """Let an image model learn until a budget ends, and print how it ended."""
    from aif_dcpc.image_runs.run import continue_image_run
    from aif_dcpc.progress import duration, print_table

    try:
        outcome = continue_image_run(folder, config, team)
    except RuntimeError as error:
        if team.size == 1:
            raise
        raise ConfigError(
            f"one of the processes that share {folder} has stopped: {told(error)[:200]}; go on with "
            f"{as_typed('resume', folder)}, on any number of processes."
        ) from None
    if not team.leads:
        return
    rows = {"learning steps": str(outcome.steps), "time": duration(outcome.seconds)}
    rows |= {name: f"{value:.4g}" for name, value in outcome.numbers.items()}
    print_table(f"{outcome.reason}: {folder}", rows)
    _print_next(config, folder, outcome, f"aif-evaluate {as_typed('run', folder)}")


def reopened(asked: TrainConfig, given: Sequence[str]) -> "tuple[RunFolder, TrainConfig]":
    """Open a run to go on under its own configuration, with the budgets given anew."""
    refuse_own(given)
    folder = chosen_run(str(asked.resume))
    renewed: dict[str, Any] = {key: getattr(asked, key) for key in RENEWABLE if key in given}
    own = folder.config(trust=asked.trust)
    if "epochs" in renewed and own.images is not None and own.images.steps is not None:
        raise ConfigError(
            f"epochs does not change how long {folder} learns: its budget is images.steps={own.images.steps}."
        )
    _refuse_ignored(own, [*renewed])
    return folder, replace(own, run_dir=str(folder), **renewed)


def _refuse_ignored(config: TrainConfig, given: Sequence[str]) -> None:
    """Refuse what stands on the command line and would change nothing.

    Raises:
        ConfigError: there is such a key.
    """
    if config.images is None:
        for key in filter(OF_IMAGES.__contains__, given):
            raise ConfigError(OF_IMAGES[key])
        return
    for key in given:
        group = key.partition(".")[0]
        if group in OF_AGENTS or (key == "video_every" and config.video_every):
            raise ConfigError(
                f"{group} changes nothing about an image model: leave it away, or the experiment."
            )
    refuse_ignored(config, config.images, given)


def _refuse_idle_trust(config: TrainConfig) -> None:
    """Refuse to trust code that a new run does not name.

    Raises:
        ConfigError: there is such code.
    """
    idle = sorted(set(config.trust) - set(outside_names(config)))
    if idle:
        raise ConfigError(
            f"{as_trust(idle)} changes nothing: this run names no such code; leave it away."
        )


def _in_sweep(config: TrainConfig, given: Sequence[str]) -> TrainConfig:
    """Give every job of a sweep its own folder under a run_dir named on the command line."""
    job = sweep_folder()
    if job is None or config.run_dir is None:
        return config
    return replace(config, run_dir=str(Path(config.run_dir) / job))


def print_outcome(outcome: "Outcome") -> None:
    """Print how a run of an agent ended."""
    from aif_dcpc.agent_runs.episode_statistics import STREAK
    from aif_dcpc.progress import print_table

    statistics = outcome.statistics
    folder = outcome.folder
    rows = {
        "environment steps": str(statistics.step),
        "episodes": str(statistics.episode),
        "success rate (last 20)": f"{statistics.success_rate:.2f}",
        "mean return (last 20)": f"{statistics.mean_return:.3f}",
        f"steps to {STREAK} successes in a row": str(statistics.steps_to_streak or "not reached"),
        "time": f"{outcome.seconds:.0f} s",
        **outcome.times.summary(),
    }
    print_table(f"{outcome.reason}: {folder}", rows)
    for doubt in outcome.doubts:
        note(doubt)


def _print_next(
    config: TrainConfig, folder: "RunFolder", outcome: "Outcome | ImageOutcome", command: str
) -> None:
    """Print what to type next; after an interruption leave with the code of its signal.

    Raises:
        SystemExit: it was interrupted; this also ends a sweep.
    """
    if outcome.reason == "interrupted":
        command = f"aif-train {as_typed('resume', folder)}"
    names = outside_names(config)
    if names:
        command = f"{command} {as_trust(names)}"
    say(f"next:    {command}")
    say(f"curves:  tensorboard --logdir {shlex.quote(str(folder))}")
    if outcome.reason == "interrupted":
        raise SystemExit(exit_code(outcome.signal))


if __name__ == "__main__":
    main()
