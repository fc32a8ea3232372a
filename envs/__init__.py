"""Environments by name: of this package by a line in `ADAPTERS`, from anywhere else as `module:name`."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError("import aif_dcpc.envs, not envs: the folder is installed as part of aif_dcpc")

from aif_dcpc.envs.errors import (
    BadSetting,
    EnvironmentError_,
    UnknownEnvironment,
    UnsupportedEnvironment,
)
from aif_dcpc.envs.registry import NAMES, make, make_vector

__all__ = [
    "NAMES",
    "BadSetting",
    "EnvironmentError_",
    "UnknownEnvironment",
    "UnsupportedEnvironment",
    "make",
    "make_vector",
]
