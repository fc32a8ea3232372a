"""Import paths that documentation named before the folders had their present plan: they lead to the same modules."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER_PATHS = {
    "aif_dcpc.agents.planning": "aif_dcpc.agents",
    "aif_dcpc.agents.planning.expected_free_energy": "aif_dcpc.agents.expected_free_energy",
    "aif_dcpc.agents.hierarchical": "aif_dcpc.agents.gridworld.agent",
    "aif_dcpc.comparison": "aif_dcpc.image_runs.comparison",
    "aif_dcpc.data": "aif_dcpc.image_runs.data",
    "aif_dcpc.image_evaluation": "aif_dcpc.image_runs.evaluation",
    "aif_dcpc.image_figures": "aif_dcpc.image_runs.figures",
    "aif_dcpc.image_inference": "aif_dcpc.image_runs.inference",
    "aif_dcpc.rollouts": "aif_dcpc.agent_runs.rollouts",
    "aif_dcpc.trained_images": "aif_dcpc.image_runs.trained",
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
