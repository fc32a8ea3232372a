"""What runs and keeps the notebooks, a script of docs/, which is no package."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import matplotlib.pyplot as plt
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "docs/notebooks/notebooks.py"


def script(path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


notebooks = script(SCRIPT)


def program(stem, cells=slice(None)):
    """The code of a notebook, or of some of its cells of code."""
    found = notebooks.parts(SCRIPT.parent / f"{stem}.ipynb")
    return "\n".join(part.code for part in found[cells])


def executed(code, names=None):
    """The names after a program; figures are drawn nowhere."""
    names = {} if names is None else names
    plt.switch_backend("Agg")
    with torch.random.fork_rng():
        exec(compile(code, "notebook", "exec"), names)
    plt.close("all")
    return names
