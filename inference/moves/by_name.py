"""Moves of one's own by name: `package.module:name`, from any module that can be imported."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from aif_dcpc.inference.errors import MoveError, cause
from aif_dcpc.inference.moves import Move
from aif_dcpc.named_code import NotThere, import_named


def find_moves(moves: Mapping[str, str | Move]) -> dict[str, str | Move]:
    """Import the moves that are given as `package.module:name`; leave all others as they are.

    Args:
        moves: site -> a move, a short name of `schedule.KINDS`, or `package.module:name`.

    Raises:
        MoveError: a move cannot be imported or made, or what was found is no move.
    """
    if not isinstance(moves, Mapping):
        raise MoveError(f"moves={moves!r}: expected site -> move, such as {{'z': 'mala'}}.")
    return {
        site: find_move(site, move) if isinstance(move, str) and ":" in move else move
        for site, move in moves.items()
    }


def find_move(site: str, path: str) -> Move:
    """Import the move of a site.

    Args:
        site: name of the site.
        path: `package.module:name` of a move, or of a class or function that is called with the
            site's name and returns one.

    Raises:
        MoveError: it cannot be imported or made, or what was found is no move.
    """
    try:
        found = import_named(path)
        move = found if _is_move(found) else found(site)
    except NotThere as error:
        raise MoveError(f"site {site!r}: move {path!r}: {error}") from error
    except Exception as error:  # the user's own code may fail in any way
        raise MoveError(f"site {site!r}: move {path!r} cannot be made: {cause(error)}") from error
    if not _is_move(move):
        raise MoveError(
            f"site {site!r}: {path!r} is no move: expected a callable with `sites`, or a class "
            f"or function of the site's name that gives one, found {type(move).__name__}."
        )
    return move


def _is_move(thing: Any) -> TypeGuard[Move]:
    """Whether something can be called and names the sites that it changes.

    A class does not: what it makes may.
    """
    if isinstance(thing, type) or not callable(thing):
        return False
    return isinstance(getattr(thing, "sites", None), tuple)
