"""What is asked of an image model, checked before anything heavy is imported: names, folders, budgets."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Reader:
    """What reads a key.

    Attributes:
        neutral: value of the key by which nothing is asked for.
        setting: key of `images` that decides whether any other value is read.
        choices: values of that setting by which it is.
    """

    neutral: Any
    setting: str
    choices: tuple[str, ...]


SWEEPING = ("dcpc", "pgd", "mcpc", "map")  # methods without an encoder
READERS = {
    "images.folder": Reader(None, "data", ("folder",)),
    "images.image_size": Reader(None, "data", ("celeba", "folder")),
    "images.visits": Reader(1, "method", SWEEPING),
    "images.recycle": Reader(False, "method", SWEEPING),
    "inference.num_sweeps": Reader(1, "method", SWEEPING),
}


def check_request(config: TrainConfig, images: ImageConfig) -> None:
    """Refuse what can be refused at sight.

    Raises:
        ConfigError: a name is unknown, a folder holds no pictures, or there is no budget.
    """
    if config.epochs is None and images.steps is None:
        raise ConfigError("an image model's budget is epochs: set epochs=N, or images.steps=N.")
    check_known("data set", images.data, DATA_SETS)
    _check_graph(images.model)
    _check_update(config.inference)
    if images.data == "folder":
        check_folder(images.folder)
    find_metrics("images.metrics", images.metrics)


def refuse_ignored(config: TrainConfig, images: ImageConfig, given: Collection[str]) -> None:
    """Refuse keys of the command line that this image model does not read.

    Raises:
        ConfigError: there is such a key.
    """
    if "epochs" in given and images.steps is not None:
        raise ConfigError(
            f"epochs changes nothing beside images.steps={images.steps}: leave one of them away."
        )
    groups = {"images": asdict(images), "inference": config.inference}
    for key in filter(READERS.__contains__, given):
        group, name = key.split(".")
        reader = READERS[key]
        found = groups["images"][reader.setting]
        if groups[group].get(name) != reader.neutral and found not in reader.choices:
            raise ConfigError(
                f"{key} changes nothing where images.{reader.setting}={found}: leave it away, or choose "
                f"images.{reader.setting}={' or '.join(reader.choices)}."
            )


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
