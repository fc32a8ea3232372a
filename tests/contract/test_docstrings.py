"""The examples in the engine's docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import aif_dcpc.inference

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(aif_dcpc.inference.__path__, "aif_dcpc.inference.")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
