"""Every graph of the project, found by what it returns, at its smallest: a new one is tried as soon as it is there."""

import importlib
import inspect
import json
import pkgutil

import torch

from aif_dcpc import experiments
from aif_dcpc.image_runs import assembly
from aif_dcpc.inference import DCPC, GraphicalModel, images

FIGURES = {  # that `aif-evaluate` leaves in a run folder
    "evaluation-reconstructions.png",
    "evaluation-recall-from-half.png",
    "evaluation-inpainting.png",
    "evaluation-traversals.png",
    "evaluation-samples-prior.png",
    "evaluation-samples-mixture.png",
    "free-energy.png",
}

# small values of arguments, by the words that graphs share; other arguments keep their defaults
SMALLEST = {
    "sizes": (3, 6),
    "latents": 2,
    "hidden": 4,
    "label_hidden": 4,
    "width": 16,
    "num_classes": 3,
}


def builds_a_graph(function):
    """Whether a public function makes a `GraphicalModel` out of anything but another one."""
    if not inspect.isfunction(function) or function.__name__.startswith("_"):
        return False
    signature = inspect.signature(function, eval_str=True)
    taken = [parameter.annotation for parameter in signature.parameters.values()]
    return signature.return_annotation is GraphicalModel and GraphicalModel not in taken


def graph_modules():
    """The modules of `inference/images`, and the modules `graph` of the experiments."""
    for module in pkgutil.iter_modules(images.__path__):
        yield importlib.import_module(f"{images.__name__}.{module.name}")
    for package in pkgutil.iter_modules(experiments.__path__):
        folder = importlib.import_module(f"{experiments.__name__}.{package.name}")
        if "graph" in [module.name for module in pkgutil.iter_modules(folder.__path__)]:
            yield importlib.import_module(f"{folder.__name__}.graph")


GRAPHS = {
    name: function
    for module in graph_modules()
    for name, function in sorted(vars(module).items())
    if builds_a_graph(function) and function.__module__ == module.__name__
}


def small_options(graph):
    """The small values of those arguments that a graph takes."""
    taken = inspect.signature(graph).parameters
    return {name: value for name, value in SMALLEST.items() if name in taken}


def small_overrides(name):
    """The same as a command is told them, for a graph that `images.model` can name."""
    options = small_options(assembly.find_graph(name))
    return [f"++images.options.{key}={json.dumps(value)}" for key, value in options.items()]


def smallest(graph, **options):
    """The graph with small arguments, its parameters the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return graph(**small_options(graph), **options)


def drawn_data(model, *, batch_size=3, length=4):
    """Values of the sites without children, drawn from the model itself, `(B, [T], *event)`."""
    timed = any(site.period for site in model.sites.values())
    engine = DCPC(model, num_particles=1)
    drawn = engine.init(batch_size=batch_size, length=length if timed else None, seed=0).natural
    return {name: value[0] for name, value in drawn.items() if not model.children_of(name)}
