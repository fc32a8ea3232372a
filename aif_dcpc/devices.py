"""Where tensors live and how many threads compute."""

from aif_dcpc.errors import ConfigError


def set_up(device: str, threads: int | None) -> str:
    """Resolve `auto | cpu | cuda` and set the number of CPU threads.

    `auto` is the CPU: agents work step by step on small tensors, where an accelerator only adds
        delays.

    Raises:
        ConfigError: cuda is asked for and there is none.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device=cuda, but torch finds no CUDA device here: use device=cpu or device=auto."
        )
    return "cpu" if device == "auto" else device
