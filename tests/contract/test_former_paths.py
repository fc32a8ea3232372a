"""Import paths that documentation named before the folders moved lead to the same modules."""

import importlib
import subprocess
import sys

import pytest

from aif_dcpc.former_paths import FORMER_PATHS


@pytest.mark.parametrize("former", FORMER_PATHS)
def test_a_former_path_is_the_same_module(former):
    now = importlib.import_module(FORMER_PATHS[former])
    assert importlib.import_module(former) is now
    assert now.__name__ == now.__spec__.name == FORMER_PATHS[former]


def test_a_former_path_may_come_first():
    asked = "from aif_dcpc.agents.planning import expected_free_energy as e; print(e.__name__)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "aif_dcpc.agents.expected_free_energy"
