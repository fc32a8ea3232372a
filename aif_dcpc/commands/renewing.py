"""What may be said anew about a run that is resumed."""

from collections.abc import Sequence

from aif_dcpc.errors import ConfigError
from aif_dcpc.schema import RENEWABLE


def refuse_own(given: Sequence[str]) -> None:
    """Refuse keys that a resumed run has of its own.

    Raises:
        ConfigError: there is one, with the key that may have been meant.
    """
    allowed = (*RENEWABLE, "resume", "trust")
    for key in given:
        last = key.rpartition(".")[2]
        if key not in allowed and last in RENEWABLE:
            raise ConfigError(f"unknown key {key!r}. Did you mean {last!r}?")
        if key not in allowed:
            raise ConfigError(
                f"a resumed run keeps its own {key}: beside resume= only {', '.join(RENEWABLE)} may be set."
            )
