"""How every command starts: Hydra composes and sweeps; what a user can get wrong is told in one sentence, exit code 2.

Overrides are checked before Hydra sees them, so that a misspelt group, choice, key or a value of
the wrong type never reaches a job, not even the third of a sweep. A signal before there is
anything to save leaves without a trace.
"""

import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aif_dcpc.errors import ConfigError, UserError, told
from aif_dcpc.interruption import exit_code, stopping_at_once
from aif_dcpc.misspelt import unknown_name
from aif_dcpc.notes import note

if TYPE_CHECKING:
    from omegaconf import DictConfig

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
NO_MEMORY = (
    "this takes more memory than there is: ask for fewer particles, smaller batches or images"
)
SWEEP_NOTE = "multirun.yaml"  # that Hydra writes before the first job
SWEEP_PLACES = ("runs/sweeps", "runs")  # made for sweeps, the inner one first
HELP = ("--help", "-h", "help")
FAMILIES = {
    "aif_dcpc.agents.errors": "AgentError",
    "aif_dcpc.envs.errors": "EnvironmentError_",
}  # module -> error beside `UserError` whose message is a sentence for the user


def run_command(config_name: str, job: Job) -> None:
    """Run `job(resolved configuration, names of the keys given on the command line)` as a Hydra application.

    Raises:
        SystemExit: 2 after a `UserError`, 128 + its number after a signal.
    """
    try:
        with stopping_at_once():
            _run(config_name, job)
    except UserError as error:
        fail(error)
    except KeyboardInterrupt as error:
        note("interrupted.")
        raise SystemExit(exit_code(getattr(error, "number", None))) from None


def _run(config_name: str, job: Job) -> None:
    """Compose and run; Hydra is imported here, so that a signal is heard before."""
    if set(sys.argv[1:]) & set(HELP):
        from aif_dcpc.commands.help_text import print_help

        print_help(config_name, sys.argv[1:])
        return

    if "--version" in sys.argv[1:]:
        print(version("aif_dcpc"))
        return

    import hydra

    from aif_dcpc.commands.overrides import check_overrides
    from aif_dcpc.configuration import offer_outside_choices

    arguments = _sorted_arguments()
    warnings.showwarning = _as_note(warnings.showwarning)
    offer_outside_choices(arguments.overrides)
    _let_own_modules_be_found(arguments.overrides)
    if arguments.config_dir is None and arguments.config_name is None:
        check_overrides(config_name, arguments.overrides, sweep=arguments.multirun)

    def task(config: "DictConfig") -> None:
        try:
            job(_resolved(config), _given_keys())
        except UserError as error:
            _clear_sweep()
            fail(error)
        except ValueError as error:
            from aif_dcpc.agents.errors import AgentError

            if not isinstance(error, AgentError):
                raise
            fail(ConfigError(str(error)))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            fail(ConfigError(f"{NO_MEMORY} ({told(error)[:120]})."))

    hydra.main(config_path="pkg://aif_dcpc.configs", config_name=config_name, version_base="1.3")(
        task
    )()


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether there was too little memory, on whichever device."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words


def _sorted_arguments() -> Any:
    """Parse the command line, flags anywhere in it and paths as they are typed; Hydra gets it flags first."""
    from hydra._internal.utils import get_args_parser

    from aif_dcpc.commands.launching import launched
    from aif_dcpc.commands.words import literal

    parser = get_args_parser()
    arguments, unknown = parser.parse_known_intermixed_args()
    for flag in unknown:
        key = flag.lstrip("-").partition("=")[0]
        raise ConfigError(
            f"unknown flag {flag}: write {key}=VALUE, without dashes; --help lists all keys."
        )
    words = [literal(word) for word in launched(arguments.overrides, sweep=arguments.multirun)]
    flags = [word for word in sys.argv[1:] if word not in arguments.overrides]
    sys.argv = [sys.argv[0], *flags, *words]
    return parser.parse_args()


def _as_note(shown: Callable[..., None]) -> Callable[..., None]:
    """Show warnings of the project as notes: the sentence, without the line of code that it comes from."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category.__module__.startswith("aif_dcpc"):
            note(" ".join(str(message).split()))
        else:
            shown(message, category, *where, **more)

    return show


def _let_own_modules_be_found(overrides: Sequence[str]) -> None:
    """Look for modules in the working folder as well, after all others, where a command names one."""
    from aif_dcpc.configuration import OUTSIDE

    given = [override.partition("=") for override in overrides]
    if any(key in NAMES_CODE and OUTSIDE.search(value) for key, _, value in given):
        sys.path.append(os.getcwd())


def run_script(main: Callable[[], None]) -> None:
    """Run the main function of an experiment: what a user can get wrong is one sentence here too, and so is Ctrl-C.

    Raises:
        SystemExit: 2 after a `UserError` or an error of an agent or an environment, 130 after an
            interruption.
    """
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr, flush=True)
        raise SystemExit(130) from None
    except Exception as error:
        if not isinstance(error, (UserError, *_families())):
            raise
        fail(error)


def _families() -> list[type[Exception]]:
    """Return the errors in `FAMILIES` of the parts that are loaded: no other part can have raised one."""
    loaded = [module for module in FAMILIES if module in sys.modules]
    return [getattr(sys.modules[module], FAMILIES[module]) for module in loaded]


def check_names(kind: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse a name of a command line that is not known.

    Raises:
        ConfigError: with the closest match, and all that are known.
    """
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name(kind, name, known))


def fail(error: Exception) -> NoReturn:
    """Print the sentence and leave with exit code 2."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def _clear_sweep() -> None:
    """Remove what Hydra left of a sweep whose first job was refused, if it is nothing but its own note."""
    from hydra.core.hydra_config import HydraConfig

    config = HydraConfig.get()
    if sweep_folder() is None or config.job.num:
        return
    folder = Path(config.sweep.dir)
    if [path.name for path in folder.rglob("*") if path.is_file()] != [SWEEP_NOTE]:
        return
    (folder / SWEEP_NOTE).unlink()
    inside = sorted((path for path in folder.rglob("*")), reverse=True)
    above = [place for place in folder.parents if str(place) in SWEEP_PLACES]
    with suppress(OSError):  # a folder with something in it stays, and those above it
        for place in (*inside, folder, *above):
            place.rmdir()


def sweep_folder() -> str | None:
    """Return the name of this job's own folder inside a sweep, None outside a sweep."""
    from hydra.core.hydra_config import HydraConfig

    config = HydraConfig.get()
    return config.job.override_dirname if str(config.mode).endswith("MULTIRUN") else None


def _resolved(config: "DictConfig") -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"the configuration cannot be resolved: {str(error).splitlines()[0]}."
        ) from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _given_keys() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return [override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task]
