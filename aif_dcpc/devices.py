"""Where tensors live and how many threads compute."""

import ctypes
import sys
from pathlib import Path

from aif_dcpc.errors import ConfigError

NO_CUDA = "device=cuda, but torch finds no CUDA device here: use device=cpu or device=auto."
AGENTS_DEVICE = (
    "device=cuda is for image models: agents stay on the CPU, use device=cpu or device=auto."
)


def check_device(device: str) -> None:
    """Refuse `cuda` where there is not even a driver, before torch is imported, which takes seconds.

    Raises:
        ConfigError: cuda is asked for and there is none.
    """
    if device == "cuda" and not _may_have_accelerator():
        raise ConfigError(NO_CUDA)


def check_agent_device(device: str) -> None:
    """Refuse `cuda` for an agent, none of which computes there.

    Raises:
        ConfigError: cuda is asked for.
    """
    if device == "cuda":
        raise ConfigError(AGENTS_DEVICE)


def _may_have_accelerator() -> bool:
    """Tell whether torch could find a CUDA or ROCm device: it opens this library, or this file."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def set_up(device: str, threads: int | None) -> str:
    """Resolve `auto | cpu | cuda` and set the number of CPU threads.

    `auto` is the CPU: agents work step by step on small tensors, where an accelerator only adds
        delays.

    Raises:
        ConfigError: cuda is asked for and there is none.
    """
    check_device(device)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(NO_CUDA)
    return resolved(device)


def resolved(device: str) -> str:
    """Name the device that `auto` stands for: the CPU."""
    return "cpu" if device == "auto" else device
