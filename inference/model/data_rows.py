"""Clouds of some of their data: one of several worlds, or several that begin alike."""

from torch import Tensor

from aif_dcpc.inference.model.state import State


def of_data(state: State, indices: Tensor) -> State:
    """Return the cloud of the data `indices` `(B',)` alone; an index may come several times.

    Global sites, which all data share, stay as they are: what they were learned from is not undone.
    """
    sites = state.conditioning.factor_graph.model.sites

    def chosen(name: str, value: Tensor) -> Tensor:
        shared = sites[name].scope == "global" or value.shape[1] != state.batch_size
        return value if shared else value.index_select(1, indices)

    return state.replace(
        values={name: chosen(name, value) for name, value in state.values.items()},
        masks={name: chosen(name, mask) for name, mask in state.masks.items()},
        log_weights=state.log_weights.index_select(1, indices),
        ancestors=state.ancestors.index_select(1, indices),
        log_evidence=state.log_evidence.expand(state.batch_size).index_select(0, indices),
        cache={},
    )
