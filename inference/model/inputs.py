"""Inputs of one slice, such as the action that is chosen once the slice has been seen.

Whatever follows from an action stands in the next slice and reads it by `lag`. While a slice is the
last, nobody has read its action: it can be set without anything being evaluated again.
"""

from collections.abc import Mapping

from torch import Tensor

from aif_dcpc.inference.errors import ClampError
from aif_dcpc.inference.model.clamping import check_tensor
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.misspelt import unknown_name


def check_input(sites: Mapping[str, Site], name: str) -> Site:
    """Look up an input that has a value in every slice.

    Raises:
        ClampError: for anything else.
    """
    known = [site.name for site in sites.values() if site.kind == "input" and site.period == 1]
    if name not in known:
        raise ClampError(unknown_name("input with a value a slice", name, known))
    return sites[name]


def like_past(name: str, value: Tensor, past: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Give new values of an input the kind of number that it has had.

    Args:
        name: of the input.
        value: the new ones.
        past: its values so far.
        shape: what is expected of the new ones.

    Raises:
        ClampError: for no tensor, another shape, or fractions where the past holds whole numbers.
    """
    check_tensor(name, value)
    if tuple(value.shape) != shape:
        raise ClampError(f"input {name!r}: expected shape {shape}, found {tuple(value.shape)}.")
    if value.is_floating_point() and not past.is_floating_point():
        raise ClampError(
            f"input {name!r}: expected whole numbers as in its past ({past.dtype}), found "
            f"{value.dtype}; pass value.long(), or begin with an input of real numbers."
        )
    return value.to(past)
