"""Does the posterior lie where numbers cannot tell a value from the edge of its support?"""

import warnings

from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.bijections import at_edge
from aif_dcpc.inference.model.state import State

MAX_SHARE = 0.05


def warn_at_edge(state: State) -> None:
    """Warn of sites with particles at the edge (reads from the device: call it outside sweeps).

    Warns:
        ConvergenceWarning: one sentence for each such site, with its remedy.
    """
    for name, bijection in state.conditioning.bijections.items():
        value = state.values[name]
        share = float(at_edge(bijection, value).double().mean((0, 1)).max())
        if share > MAX_SHARE:
            warnings.warn(
                f"site {name!r}: {share:.0%} of its particles lie closer to the edge of its support "
                f"than {value.dtype} can tell, where the posterior is cut off; "
                "clamp torch.float64 data, or give it a prior with less mass at the edge.",
                ConvergenceWarning,
                stacklevel=3,
            )
