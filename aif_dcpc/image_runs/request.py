"""What is asked of an image model, checked before anything heavy is imported: names, folders, budgets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.picture_files import SUFFIXES
from aif_dcpc.image_runs.reconstruction import find_metrics
from aif_dcpc.misspelt import unknown_name
from aif_dcpc.named_code import is_missing
from aif_dcpc.outside import is_outside
from aif_dcpc.schema import ImageConfig, TrainConfig

# name -> module:function, imported when it is asked for
GRAPHS = {
    "dlgm": "aif_dcpc.inference.images.dlgm:dlgm",
    "generator": "aif_dcpc.inference.images.generators:generator",
}
DATA_SETS = (
    "digits",
    "mnist",
    "emnist",
    "fashion_mnist",
    "cifar10",
    "cifar10_subset",
    "celeba",
    "folder",
)
UPDATES = ("exact", "paper")  # of the engine


def check_request(config: TrainConfig, images: ImageConfig) -> None:
    """Refuse what can be refused at sight.

    Raises:
        ConfigError: a name is unknown, a folder holds no pictures, or there is no budget.
    """
    if config.epochs is None:
        raise ConfigError("an image model's budget is epochs: set epochs=N.")
    check_known("data set", images.data, DATA_SETS)
    _check_graph(images.model)
    _check_update(config.inference)
    if images.data == "folder":
        check_folder(images.folder)
    find_metrics("images.metrics", images.metrics)


def check_known(what: str, name: str, known: Any) -> None:
    """Refuse a name that is not known, with the closest match."""
    if name not in known:
        raise ConfigError(unknown_name(what, name, known))


def _check_graph(name: str) -> None:
    if not is_outside(name):
        check_known("image model", name, GRAPHS)
        return
    if is_missing(name):
        module = name.partition(":")[0]
        raise ConfigError(f"images.model={name}: there is no module {module!r} on Python's path.")


def _check_update(inference: Mapping[str, Any]) -> None:
    check_known("inference.update", str(inference.get("update", "exact")), UPDATES)


def check_folder(folder: str | None) -> None:
    """Refuse a folder of pictures that is not there, or in which there is not one."""
    if folder is None:
        raise ConfigError("images.data=folder needs images.folder=PATH, a folder with pictures.")
    found = (path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if next(found, None) is None:
        raise ConfigError(
            f"{folder} holds 0 pictures: expected files ending in {', '.join(SUFFIXES)}."
        )
