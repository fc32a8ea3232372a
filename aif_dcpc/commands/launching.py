"""Where the jobs of a sweep run: one after the other here, or as `+launch=` says.

    aif-train -m seed=1,2,3 +launch=cores
    aif-train -m seed=1,2,3 +launch=slurm hydra.launcher.partition=NAME

Each is a plugin of Hydra with settings that fit; any of them may be said anew as hydra.launcher.KEY=VALUE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from aif_dcpc.errors import ConfigError
from aif_dcpc.misspelt import unknown_name

KEY = "launch"
SUBMITIT = (
    "hydra.launcher.submitit_folder=${hydra.sweep.dir}/.submitit/%j",  # logs of the jobs
    "hydra.launcher.timeout_min=720",  # then they are asked to save, by SIGUSR1
)


@dataclass(frozen=True)
class Launcher:
    """A way to run jobs.

    Attributes:
        about: what it does.
        plugin: the module that must be installed.
        extra: of this package, which installs it.
        overrides: of Hydra's own keys.
    """

    about: str
    plugin: str
    extra: str
    overrides: tuple[str, ...]


LAUNCHERS = {
    "cores": Launcher(
        "side by side on the cores of this machine",
        "hydra_plugins.hydra_joblib_launcher",
        "cores",
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=-1", "hydra.launcher.batch_size=1"),
    ),
    "processes": Launcher(
        "as background processes of this machine: a rehearsal of slurm",
        "hydra_plugins.hydra_submitit_launcher",
        "slurm",
        ("hydra/launcher=submitit_local", *SUBMITIT),
    ),
    "slurm": Launcher(
        "as jobs of a Slurm cluster",
        "hydra_plugins.hydra_submitit_launcher",
        "slurm",
        ("hydra/launcher=submitit_slurm", *SUBMITIT, "hydra.launcher.cpus_per_task=1"),
    ),
}


def launched(words: Sequence[str], *, sweep: bool) -> list[str]:
    """Replace `+launch=NAME` by what it stands for, ahead of all other words.

    Raises:
        ConfigError: there is no such way, it is not installed, or there are no jobs.
    """
    asked = [word for word in words if word.lstrip("+").startswith(f"{KEY}=")]
    others = [word for word in words if word not in asked]
    for word in asked:
        name = word.partition("=")[2]
        if name not in LAUNCHERS:
            raise ConfigError(unknown_name(f"+{KEY}", name, LAUNCHERS))
        if not sweep:
            raise ConfigError(f"{word} launches the jobs of a sweep: add -m and KEY=A,B,C.")
        launcher = LAUNCHERS[name]
        if find_spec(launcher.plugin.partition(".")[0]) is None or not find_spec(launcher.plugin):
            raise ConfigError(f"{word} needs pip install 'aif_dcpc[{launcher.extra}]'.")
        others = [*launcher.overrides, *others]
    return others
