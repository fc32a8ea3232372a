"""How every command starts: Hydra composes and sweeps; what a user can get wrong is told in one sentence, exit code 2.

Overrides are checked before Hydra sees them, so that a misspelt group, choice, key or a value of
the wrong type never reaches a job, not even the third of a sweep.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aif_dcpc.commands.overrides import check_overrides
from aif_dcpc.configuration import OUTSIDE, offer_outside_choices
from aif_dcpc.errors import ConfigError, UserError

Job = Callable[[Mapping[str, Any], list[str]], None]
NAMES_CODE = (
    "agent",
    "env",
    "env.id",
    "images.model",
    "images.metrics",
    "metrics",
    "trust",
)  # keys that may name code as `module:Name`


def run_command(config_name: str, job: Job) -> None:
    """Run `job(resolved configuration, names of the keys given on the command line)` as a Hydra application."""

    def task(config: DictConfig) -> None:
        try:
            job(_resolved(config), _given_keys())
        except UserError as error:
            fail(error)

    arguments, _ = get_args_parser().parse_known_args()
    offer_outside_choices(arguments.overrides)
    _let_own_modules_be_found(arguments.overrides)
    try:
        if arguments.config_dir is None and arguments.config_name is None:
            check_overrides(config_name, arguments.overrides, sweep=arguments.multirun)
    except UserError as error:
        fail(error)
    hydra.main(config_path="pkg://aif_dcpc.configs", config_name=config_name, version_base="1.3")(
        task
    )()


def _let_own_modules_be_found(overrides: Sequence[str]) -> None:
    """Look for modules in the working folder as well, after all others, where a command names one."""
    given = [override.partition("=") for override in overrides]
    if any(key in NAMES_CODE and OUTSIDE.search(value) for key, _, value in given):
        sys.path.append(os.getcwd())


def run_script(main: Callable[[], None]) -> None:
    """Run the main function of an experiment: what a user can get wrong is one sentence here too, and so is Ctrl-C.

    Raises:
        SystemExit: 2 after a `UserError`, 130 after an interruption.
    """
    try:
        main()
    except UserError as error:
        fail(error)
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr, flush=True)
        raise SystemExit(130) from None


def fail(error: UserError) -> NoReturn:
    """Print the sentence and leave with exit code 2."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def sweep_folder() -> str | None:
    """Return the name of this job's own folder inside a sweep, None outside a sweep."""
    config = HydraConfig.get()
    return config.job.override_dirname if str(config.mode).endswith("MULTIRUN") else None


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"the configuration cannot be resolved: {str(error).splitlines()[0]}."
        ) from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _given_keys() -> list[str]:
    return [override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task]
