"""Active-inference agents on a divide-and-conquer predictive-coding engine.

Importing this package imports nothing heavy; `Agent` and `load_agent` arrive when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aif_dcpc.loading import Agent, load_agent

__all__ = ["Agent", "load_agent"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from aif_dcpc import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
