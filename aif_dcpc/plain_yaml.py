"""YAML that somebody else may have written, read as plain data of bounded size; a line at its end tells damage.

Reading runs no code, follows no alias, and ends: a few hundred bytes of YAML can otherwise stand for
gigabytes.

>>> read("seed: 3")
{'seed': 3}
>>> read("seed: &a [*a]")
Traceback (most recent call last):
    ...
aif_dcpc.errors.ConfigError: alias *a is not allowed in a run folder.
"""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from aif_dcpc.errors import ConfigError

MOST_BYTES = 1 << 17
DEEPEST = 32  # groups within groups
MOST_DIGITS = 400  # of a number
SEAL = "# checksum: "


def write(values: dict[str, Any]) -> str:
    """Return plain values as YAML with its seal.

    Raises:
        ConfigError: it would be too long to be read again.
    """
    text = sealed(yaml.dump(values, Dumper=_Dumper, sort_keys=False))
    if len(text.encode()) > MOST_BYTES:
        raise ConfigError(
            f"the configuration has {len(text.encode())} bytes, at most {MOST_BYTES} can be kept: put long "
            "lists into a file that your code reads."
        )
    return text


def sealed(text: str) -> str:
    """Append the line that tells whether a text was changed."""
    return f"{text}{SEAL}{_checksum(text)}\n"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def bounded_text(path: Path) -> str:
    """Return the text of a file that is not too long.

    Raises:
        ConfigError: it is too long.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ConfigError(f"it has more than {MOST_BYTES} bytes.")
    return path.read_text(encoding="utf-8")


def read(text: str) -> dict[str, Any]:
    """Read a group of keys: texts, numbers, true, false, null, lists and groups of such.

    Raises:
        ConfigError: it is something else, or too large.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
    except ConfigError:
        raise
    except Exception as error:  # whatever a scalar or the grammar cannot be
        raise ConfigError(_told(error)) from None
    if not isinstance(values, dict):
        raise ConfigError(f"it is no group of keys, but {type(values).__name__}.")
    _refuse_code(values)
    return values


def check_seal(text: str) -> None:
    """Refuse a text that was changed since it was sealed; one without a seal passes.

    Raises:
        ConfigError: it was changed.
    """
    body, seal, checksum = text.rstrip().rpartition(SEAL)
    if seal and checksum != _checksum(body):
        raise ConfigError(
            "it was changed since it was written (its checksum is another): put it back, or remove its "
            f"line {SEAL.strip()!r} to take it as it is."
        )


def _told(error: Exception) -> str:
    """What went wrong, in a line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else f"{words[:157]}..."


class _Loader(yaml.SafeLoader):
    """A safe loader that ends."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ConfigError(f"alias *{self.peek_event().anchor} is not allowed in a run folder.")
        self.depth += 1
        if self.depth > DEEPEST:
            raise ConfigError(f"its groups are nested more than {DEEPEST} deep.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":str"):
            _check_digits(node.value)
        return node


def _check_digits(scalar: str) -> None:
    if len(scalar) > MOST_DIGITS:
        raise ConfigError(f"a number in it has {len(scalar)} digits.")


class _Dumper(yaml.SafeDumper):
    """A safe dumper that writes what is there twice, twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _refuse_code(values: Any) -> None:
    """Refuse what a configuration library could take for an instruction, `_target_` keys and `${...}`, and odd kinds."""
    if isinstance(values, dict):
        for key in values:
            if not isinstance(key, str) or key.startswith("_"):
                raise ConfigError(f"key {key!r} is not allowed in a run folder.")
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            _refuse_code(value)
    else:
        _refuse_leaf(values)


def _refuse_leaf(value: Any) -> None:
    if isinstance(value, str) and "${" in value:
        raise ConfigError(f"value {value!r} is not allowed in a run folder.")
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise ConfigError(f"value {value!r} is not allowed in a run folder: write it as a text.")
