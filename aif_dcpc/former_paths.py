"""Import paths from before the folders had their present plan: they lead to the same modules."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {  # folder of the engine -> modules that stood beside it
    "checks": "geweke",
    "frontends": "pyro_import pyro_statements sequential tensor_graphs tracing",
    "model": "clamping graph parameters resampling state supports",
    "moves": "adaptation schedule",
    "queries": "diagnostics evidence exogenous gauss_markov predictions",
    "smc": "annealing recent tempering",
}
FORMER_PATHS = {
    "aif_dcpc.agents.planning": "aif_dcpc.agents",
    "aif_dcpc.agents.planning.expected_free_energy": "aif_dcpc.agents.expected_free_energy",
    "aif_dcpc.agents.hierarchical": "aif_dcpc.agents.gridworld.agent",
    "aif_dcpc.comparison": "aif_dcpc.image_runs.comparison",
    "aif_dcpc.data": "aif_dcpc.image_runs.data",
    "aif_dcpc.image_distances": "aif_dcpc.image_runs.distances",
    "aif_dcpc.image_evaluation": "aif_dcpc.image_runs.evaluation",
    "aif_dcpc.image_figures": "aif_dcpc.image_runs.figures",
    "aif_dcpc.image_inference": "aif_dcpc.image_runs.inference",
    "aif_dcpc.image_samples": "aif_dcpc.image_runs.samples",
    "aif_dcpc.inference.chains": "aif_dcpc.inference.moves.forward_backward",
    "aif_dcpc.inference.checking": "aif_dcpc.inference.checks.check_model",
    "aif_dcpc.inference.factors": "aif_dcpc.inference.model.densities",
    "aif_dcpc.inference.lowering": "aif_dcpc.inference.model.factor_graph",
    "aif_dcpc.inference.moves.supplied": "aif_dcpc.inference.moves.user_conditional",
    "aif_dcpc.inference.online": "aif_dcpc.inference.smc.append",
    "aif_dcpc.inference.sampling": "aif_dcpc.inference.model.ancestral",
    "aif_dcpc.inference.setup": "aif_dcpc.inference.model.conditioning",
    "aif_dcpc.loading": "aif_dcpc.agent_runs.loading",
    "aif_dcpc.rollouts": "aif_dcpc.agent_runs.rollouts",
    "aif_dcpc.trained_images": "aif_dcpc.image_runs.trained",
    "aif_dcpc.training": "aif_dcpc.agent_runs",
    "aif_dcpc.training.agent_loop": "aif_dcpc.agent_runs.loop",
    "aif_dcpc.training.agent_run": "aif_dcpc.agent_runs.run",
    "aif_dcpc.training.assembly": "aif_dcpc.agent_runs.assembly",
    "aif_dcpc.training.image_assembly": "aif_dcpc.image_runs.assembly",
    "aif_dcpc.training.image_loop": "aif_dcpc.image_runs.loop",
    "aif_dcpc.training.image_run": "aif_dcpc.image_runs.run",
    "aif_dcpc.training.recorder": "aif_dcpc.agent_runs.recorder",
    **{
        f"aif_dcpc.inference.{name}": f"aif_dcpc.inference.{folder}.{name}"
        for folder, names in MOVED.items()
        for name in names.split()
    },
}


class FormerPaths(MetaPathFinder, Loader):
    """Finds a module under the path that it used to have."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A specification for a former path; None for every other name."""
        return ModuleSpec(fullname, self) if fullname in FORMER_PATHS else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its present path."""
        module = import_module(FORMER_PATHS[spec.name])
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own specification back, which the import system has just replaced."""
        module.__spec__ = self.own_spec


def install() -> None:
    """Let former paths be imported; ahead of other finders, which would load a second copy."""
    if not any(isinstance(finder, FormerPaths) for finder in sys.meta_path):
        sys.meta_path.insert(0, FormerPaths())
