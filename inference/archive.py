"""Clouds as plain tensors, numbers, strings, lists and dicts, to be written to disk and read again.

What is packed names the records that it consists of; only those of `RECORDS` are made again, so
that nothing in a file can name code to run. Which sites are latent is not packed: a cloud is
unpacked for one that was made from the same model and the same kinds of data.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("z", lambda: Normal(0.0, 1.0))
    >>> model.add_site("x", lambda z: Normal(z, 0.5), parents=["z"])
    >>> state = DCPC(model, num_particles=4).init({"x": torch.tensor([1.0])})
    >>> again = unpack(pack(state), like=state)
    >>> torch.equal(again.particles["z"], state.particles["z"])
    True
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from aif_dcpc.inference.model.factor_graph import Argument
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.inference.model.state import FactorValue, State
from aif_dcpc.inference.moves.adaptation import Secant, SiteAdaptation
from aif_dcpc.inference.moves.paper import SiteEvidence

RECORDS = {kind.__name__: kind for kind in (SiteAdaptation, Secant, SiteEvidence, FactorValue)}
FOLLOWS = ("conditioning", "snapshot")  # fields of a state that follow from its model
SINCE = {
    "doubled": "opened",
    "doubled_length": "opened_length",
}  # what older files mean by another field


def pack(state: State) -> dict[str, Any]:
    """Turn a cloud into plain tensors, numbers, strings, lists and dicts.

    Raises:
        TypeError: a move has learned something of a kind that cannot be packed.
    """
    wanted = [field.name for field in fields(state) if field.name not in FOLLOWS]
    packed = {name: _pack(getattr(state, name)) for name in wanted}
    return {**packed, "known_parameters": state.snapshot is not None}


def unpack(packed: Mapping[str, Any], *, like: State) -> State:
    """Make the cloud again that `pack` was given.

    Args:
        packed: what `pack` returned.
        like: a cloud of the same model with the same sites observed, of any length.

    Raises:
        KeyError: something is missing.
        TypeError: something is of a kind that is not known here.
    """
    wanted = [field.name for field in fields(State) if field.name not in FOLLOWS]
    packed = {**{new: packed[old] for new, old in SINCE.items()}, **packed}
    values = {name: _unpack(packed[name]) for name in wanted}
    snapshot = None
    if packed["known_parameters"]:
        snapshot = Snapshot.of(like.conditioning.factor_graph.model)
    return like.replace(**values, snapshot=snapshot)


def _pack(thing: Any) -> Any:
    """Turn anything that a cloud holds into plain things."""
    if thing is None or isinstance(thing, int | float | str):
        return thing
    if isinstance(thing, Tensor):
        return thing.detach().clone()
    if isinstance(thing, Argument):
        return {"record": "Argument", "site": thing.site, "lag": thing.lag}
    if isinstance(thing, Mapping):
        return {"record": "mapping", "items": [[_pack(k), _pack(v)] for k, v in thing.items()]}
    if isinstance(thing, tuple):
        return {"record": "tuple", "items": [_pack(part) for part in thing]}
    return _pack_record(thing)


def _pack_record(thing: Any) -> dict[str, Any]:
    """Turn a record into its fields and its name."""
    if not is_dataclass(thing):
        raise TypeError(f"a cloud with a {type(thing).__name__} in it cannot be packed.")
    parts = {field.name: _pack(getattr(thing, field.name)) for field in fields(thing)}
    return {"record": _known(type(thing).__name__), **parts}


def _unpack(packed: Any) -> Any:
    """Make again what `_pack` was given."""
    if not isinstance(packed, Mapping):
        return packed
    kind = packed["record"]
    if kind == "Argument":
        return Argument(packed["site"], packed["lag"])
    if kind == "mapping":
        return {_unpack(key): _unpack(value) for key, value in packed["items"]}
    if kind == "tuple":
        return tuple(_unpack(part) for part in packed["items"])
    parts = {name: _unpack(part) for name, part in packed.items() if name != "record"}
    return RECORDS[_known(kind)](**parts)


def _known(kind: str) -> str:
    """Return a record's name, if there is one of that name."""
    if kind not in RECORDS:
        raise TypeError(f"a record of kind {kind!r} is not one of {', '.join(RECORDS)}.")
    return kind
