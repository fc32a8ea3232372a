"""Random discrete models in arrays, and all their histories written out."""

from itertools import product
from types import SimpleNamespace

import numpy as np

from aif_dcpc.agents.discrete.model import DiscreteModel


def columns(rng, *shape):
    """Random probabilities along the first axis."""
    table = rng.dirichlet(np.ones(shape[0]), size=shape[1:])
    return np.moveaxis(table, -1, 0)


def coupled(rng):
    """Two factors, of which the second follows the first, and three modalities."""
    return DiscreteModel(
        A=[columns(rng, 3, 2), columns(rng, 2, 2, 3), columns(rng, 2, 3)],
        B=[columns(rng, 2, 2, 2), columns(rng, 3, 2, 3, 2)],
        D=[columns(rng, 2), columns(rng, 3)],
        A_dependencies=[[0], [0, 1], [1]],
        B_dependencies=[[0], [0, 1]],
    )


def histories(model, outcomes, actions):
    """All histories of states `(N, T, F)` and their joint probability with the outcomes, `(N,)`."""
    states = list(product(*(range(n) for n in model.num_states)))
    paths = np.array(list(product(states, repeat=len(outcomes))))
    chances = np.ones(len(paths))
    for f, first in enumerate(model.D):
        chances *= first[paths[:, 0, f]]
    for t, seen in enumerate(outcomes):
        for m, table in enumerate(model.A):
            read = tuple(paths[:, t, f] for f in model.A_dependencies[m])
            chances *= table[(seen[m], *read)]
    for t in range(1, len(outcomes)):
        controls = model.controls(actions[t - 1])
        for f, table in enumerate(model.B):
            read = tuple(paths[:, t - 1, g] for g in model.B_dependencies[f])
            chances *= table[(paths[:, t, f], *read, controls[f])]
    return paths, chances


def pymdp_agent(model, *, batched):
    def laid(arrays):
        if batched:
            return [np.asarray(array)[None] for array in arrays]
        found = np.empty(len(arrays), object)
        for n, array in enumerate(arrays):
            found[n] = array
        return found

    arrays = {letter: laid(getattr(model, letter)) for letter in "ABCD"}
    reads = {"A_dependencies": model.A_dependencies, "B_dependencies": model.B_dependencies}
    return SimpleNamespace(**arrays, **(reads if batched else {}), E=None)
