"""The 35 posteriors as Pyro programs, by name.

>>> from aif_dcpc.experiments.posteriordb.programs import POSTERIORS
>>> from aif_dcpc.inference import DCPC, GraphicalModel
>>> posterior = POSTERIORS["eight_schools-eight_schools_centered"]
>>> model, data = GraphicalModel.from_pyro(posterior.build())
>>> state = DCPC(model, num_particles=4).init(data, seed=0)
>>> sorted(posterior.parameters(state.particles))[:3]
['mu', 'tau', 'theta[1]']
"""

from aif_dcpc.experiments.posteriordb.hierarchies import HIERARCHIES
from aif_dcpc.experiments.posteriordb.posterior import Posterior
from aif_dcpc.experiments.posteriordb.processes import PROCESSES
from aif_dcpc.experiments.posteriordb.regressions import REGRESSIONS
from aif_dcpc.experiments.posteriordb.series import SERIES

POSTERIORS: dict[str, Posterior] = {
    p.name: p for p in (*REGRESSIONS, *SERIES, *HIERARCHIES, *PROCESSES)
}
