"""Data sets of images: `(N, C, H, W)` uint8 with labels, training and test parts.

`digits` comes with scikit-learn and needs no download. The others are torchvision's and lie under
`data_dir`; where they are missing they are downloaded, and where that fails one sentence says what
to put where. `folder` takes any folder of pictures; where they lie in subfolders, such as `cats/`
and `dogs/`, these give the labels 0, 1, ... in order of their names; `train/` and `test/` above
them are the two parts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.errors import ConfigError
from aif_dcpc.image_runs.picture_files import SUFFIXES, one_line, open_picture
from aif_dcpc.image_runs.picture_folders import PictureFolder, by_class, find_pictures, parts_of
from aif_dcpc.image_runs.request import check_folder, check_known

T = TypeVar("T")


@dataclass(frozen=True)
class ImageData:
    """Images of one kind.

    Attributes:
        train, test: `(N, C, H, W)` uint8.
        train_labels, test_labels: `(N,)` int64, or empty where there are none.
    """

    train: Tensor
    test: Tensor
    train_labels: Tensor
    test_labels: Tensor

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape `(C, H, W)` of one image."""
        return tuple(self.train.shape[1:])

    def first(self, number: int | None) -> "ImageData":
        """The same with at most `number` training images."""
        return ImageData(
            self.train[:number], self.test, self.train_labels[:number], self.test_labels
        )

    def hold_out(self, number: int) -> "ImageData":
        """The last `number` training images in the place of the test images, for choosing settings; 0: unchanged."""
        if not number:
            return self
        images = self.train
        labels = self.train_labels
        return ImageData(images[:-number], images[-number:], labels[:-number], labels[-number:])


def unit(images: Tensor) -> Tensor:
    """Pixels uint8 0..255 to float 0..1."""
    return images.float() / 255


def load_images(
    name: str, data_dir: str, *, image_size: int | None = None, folder: str | None = None
) -> ImageData:
    """Load a data set by name.

    Args:
        name: one of `DATA_SETS`.
        data_dir: where data sets are kept.
        image_size: side of the images after centre-cropping and scaling (celeba, folder).
        folder: the folder of pictures, for `folder`.

    Raises:
        ConfigError: unknown, not there and not to be had, or damaged.
    """
    check_known("data set", name, DATA_SETS)
    data = DATA_SETS[name](Path(data_dir), image_size or 64, folder)
    for images, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        if len(labels) not in (0, len(images)):
            raise ConfigError(
                f"the files of {name} hold {len(labels)} labels of {len(images)} images: load them again."
            )
    return data


def _digits(data_dir: Path, image_size: int, folder: str | None) -> ImageData:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.randperm(
        len(images), generator=torch.Generator().manual_seed(0)
    )  # the split, always the same
    test = order[:297]
    train = order[297:]
    return ImageData(images[train], images[test], labels[train], labels[test])


def _torchvision(
    kind: str, where: str, **options: Any
) -> Callable[[Path, int, str | None], ImageData]:
    def load(data_dir: Path, image_size: int, folder: str | None) -> ImageData:
        train, test = (_part(kind, where, data_dir, train, options) for train in (True, False))
        images = [_channels_first(np.asarray(part.data)) for part in (train, test)]
        labels = [
            torch.as_tensor(np.asarray(part.targets), dtype=torch.int64) for part in (train, test)
        ]
        if kind == "EMNIST":  # its files hold the letters lying on their side
            images = [i.transpose(-1, -2).contiguous() for i in images]
        return ImageData(images[0], images[1], labels[0], labels[1])

    return load


def _part(kind: str, where: str, data_dir: Path, train: bool, options: dict[str, Any]) -> Any:
    from torchvision import datasets

    make = getattr(datasets, kind)
    try:
        return make(str(data_dir), train=train, download=False, **options)
    except RuntimeError:
        return _downloaded(make, kind, where, data_dir, train=train, **options)
    except Exception as error:  # whatever a reader meets in a damaged file
        raise ConfigError(
            f"{data_dir}/{where} is damaged: {one_line(error)} Remove it and load it again."
        ) from None


def _downloaded(make: Any, kind: str, where: str, data_dir: Path, **options: Any) -> Any:
    try:
        return make(str(data_dir), download=True, **options)
    except Exception as error:  # whatever the network does
        if any((data_dir / where).glob("*")):
            raise ConfigError(
                f"{data_dir}/{where} is damaged: {one_line(error)} Remove it and load it again."
            ) from None
        raise ConfigError(
            f"{kind} is not in {data_dir}/{where} and cannot be downloaded here ({one_line(error)}) Load it on another "
            f"machine with torchvision.datasets.{kind}('{data_dir}', download=True) and copy the folder {where}, "
            "or say where it is with data_dir=."
        ) from None


def _channels_first(images: np.ndarray) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(images))
    return found[:, None] if found.ndim == 3 else found.permute(0, 3, 1, 2).contiguous()


def _cifar10_subset(data_dir: Path, image_size: int, folder: str | None) -> ImageData:
    path = data_dir / "cifar10_subset.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = [_checked_images(arrays[f"{part}_images"]) for part in ("train", "test")]
            labels = [_checked_labels(arrays[f"{part}_labels"]) for part in ("train", "test")]
        for shown, named in zip(images, labels, strict=True):
            if len(shown) != len(named):
                raise ValueError(f"{len(named)} labels of {len(shown)} images")
    except Exception as error:  # whatever a damaged archive holds
        raise ConfigError(
            f"{path} cannot be read ({one_line(error)}) It holds train_images and test_images (N, 32, 32, 3) uint8 and "
            "train_labels and test_labels (N,); say where it is with data_dir=."
        ) from None
    return ImageData(*images, *labels)


def _checked_images(images: np.ndarray) -> Tensor:
    """Images `(N, C, H, W)` of an array `(N, H, W, C)` of bytes."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images of shape {images.shape}, {images.dtype}")
    return _channels_first(images)


def _checked_labels(labels: np.ndarray) -> Tensor:
    """Labels `(N,)`, whole numbers from 0."""
    if not np.issubdtype(labels.dtype, np.integer) or (labels < 0).any():
        raise ValueError(f"labels that are no whole numbers from 0, but {labels.dtype}")
    return torch.from_numpy(labels.reshape(-1).astype(np.int64))


def _celeba(data_dir: Path, image_size: int, folder: str | None) -> ImageData:
    """Aligned faces: the central 148 x 148 pixels, scaled; parts by the authors' list, where it lies beside them."""
    place = data_dir / "celeba" / "img_align_celeba"
    if not place.is_dir():
        raise ConfigError(
            f"CelebA is not in {place}: load img_align_celeba.zip from its authors' page (they ask for consent, so "
            "that no program can do it for you), unpack it there, or say where it is with data_dir=."
        )
    parts = _parts(data_dir / "celeba" / "list_eval_partition.txt")
    paths = find_pictures(place)
    train, test = _last_tenth_out(paths)
    if parts:
        train = [path for path in paths if parts.get(path.name) == "0"]
        test = [path for path in paths if parts.get(path.name) == "2"]
    return _read(place, train, test, image_size, crop=148)


def _parts(path: Path) -> dict[str, str]:
    """Name of a file -> "0" (training), "1" (validation) or "2" (test); empty without a list."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    entries = [line.split() for line in lines if line.strip()]
    if any(len(entry) != 2 or entry[1] not in ("0", "1", "2") for entry in entries):
        raise ConfigError(
            f"{path} is damaged: expected a name and 0, 1 or 2 on every line. Remove it or load it again."
        )
    return {name: part for name, part in entries}


def _folder(data_dir: Path, image_size: int, folder: str | None) -> ImageData:
    """Any pictures; where all lie in subfolders, these are the classes, by name.

    Parts are `train/` and `test/`, where there are just these; else a tenth by chance is held out.
    """
    check_folder(folder)
    place = Path(str(folder))
    parts = parts_of(place)
    if parts is not None:
        return _given_parts(place, by_class(parts[0]), by_class(parts[1]), image_size)
    found = by_class(place)
    always_the_same = torch.Generator().manual_seed(0)
    order = torch.randperm(len(found.paths), generator=always_the_same).tolist()
    train, test = _last_tenth_out(order)
    data = _read(
        place,
        [found.paths[i] for i in train],
        [found.paths[i] for i in test],
        image_size,
        crop=None,
    )
    if len(found.classes) < 2:
        return data
    labels = torch.tensor(found.labels)
    return ImageData(data.train, data.test, labels[train], labels[test])


def _given_parts(
    place: Path, train: PictureFolder, test: PictureFolder, image_size: int
) -> ImageData:
    """Pictures whose parts are folders of their own."""
    data = _read(place, train.paths, test.paths, image_size, crop=None)
    if train.classes != test.classes:
        raise ConfigError(
            f"{place}: the classes of {train.place.name} ({', '.join(train.classes) or 'none'}) are not those of "
            f"{test.place.name} ({', '.join(test.classes) or 'none'}): give both the same subfolders."
        )
    labels = [torch.tensor(part.labels, dtype=torch.int64) for part in (train, test)]
    return ImageData(data.train, data.test, *labels)


def _last_tenth_out(entries: list[T]) -> tuple[list[T], list[T]]:
    held_out = max(1, len(entries) // 10)
    return entries[:-held_out], entries[-held_out:]


def _read(
    place: Path, train: list[Path], test: list[Path], image_size: int, *, crop: int | None
) -> ImageData:
    """Read pictures that have no labels."""
    if not train or not test:
        raise ConfigError(
            f"{place} holds {len(train) + len(test)} pictures, {len(train)} to learn from and {len(test)} held out: "
            f"expected at least one of each, files ending in {', '.join(SUFFIXES)}."
        )
    none = torch.zeros(0, dtype=torch.int64)
    return ImageData(
        _stacked(train, image_size, crop), _stacked(test, image_size, crop), none, none
    )


def _stacked(paths: list[Path], size: int, crop: int | None) -> Tensor:
    """All pictures, each written into its place: twice the memory would be needed to stack them."""
    images = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    for place, path in zip(images, paths, strict=True):
        place.copy_(_picture(path, size, crop))
    return images


def _picture(path: Path, size: int, crop: int | None) -> Tensor:
    """One picture `(3, size, size)`: the centre square, scaled."""
    from PIL import Image

    picture = open_picture(path)
    side = min(*picture.size, crop or min(picture.size))
    if side < size:
        raise ConfigError(
            f"{path} is {picture.size[0]} x {picture.size[1]} pixels: expected at least {size} a side."
        )
    left = (picture.size[0] - side) // 2
    top = (picture.size[1] - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize(
        (size, size), Image.Resampling.BOX
    )
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


DATA_SETS: dict[str, Callable[[Path, int, str | None], ImageData]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST", "MNIST/raw"),
    "emnist": _torchvision("EMNIST", "EMNIST/raw", split="balanced"),
    "fashion_mnist": _torchvision("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": _torchvision("CIFAR10", "cifar-10-batches-py"),
    "cifar10_subset": _cifar10_subset,
    "celeba": _celeba,
    "folder": _folder,
}
