"""Active-inference agents on a divide-and-conquer predictive-coding engine.

Importing this package imports nothing heavy; `Agent`, `load_agent` and `__version__` arrive when they
are first used.
"""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from aif_dcpc.checkout import refuse_mixture
from aif_dcpc.former_paths import install

__all__ = ["Agent", "load_agent"]

refuse_mixture(__name__, Path(__file__).parent)
install()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in __all__:
        return resolve_name(f"aif_dcpc.agent_runs.loading:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
