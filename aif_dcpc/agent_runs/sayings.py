"""What agents say of themselves, if they do: what they were given, and what they have not understood."""

from collections.abc import Sequence


def knowledge_of(agent: object) -> Sequence[str]:
    """What an agent is given before it has seen anything, in sentences."""
    return _said(agent, "knowledge")


def doubts_of(agent: object) -> Sequence[str]:
    """What an agent has not understood of its world, in sentences."""
    return _said(agent, "doubts")


def _said(agent: object, of: str) -> Sequence[str]:
    found: Sequence[str] = getattr(agent, of, ())
    return found
