"""Files of every data set's own format, made on the spot, and image models learned from them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

IDX = {
    "mnist": ("MNIST/raw", "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte", "t10k"),
    "emnist": (
        "EMNIST/raw",
        "emnist-balanced-{}-images-idx3-ubyte",
        "emnist-balanced-{}-labels-idx1-ubyte",
        "test",
    ),
    "fashion_mnist": ("FashionMNIST/raw", "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte", "t10k"),
}
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def write_idx(path, array):
    """The format of the MNIST family: magic number, big-endian sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(
        size.to_bytes(4, "big") for size in array.shape
    )
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_pictures(folder, number=20, size=(178, 218)):
    """JPEG files of coloured noise."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(1, number + 1):
        pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06d}.jpg")


def write_digits(name, place):
    """24 training and 6 test images of a vertical bar, in the files of one of the MNIST family."""
    where, images_name, labels_name, test_name = IDX[name]
    upright = np.zeros((24, 28, 28), np.uint8)
    upright[:, 4:24, 6:9] = 255
    stored = (
        upright.transpose(0, 2, 1) if name == "emnist" else upright
    )  # EMNIST's letters lie on their side
    for part, number in (("train", 24), (test_name, 6)):
        write_idx(place / where / images_name.format(part), stored[:number])
        write_idx(place / where / labels_name.format(part), np.arange(number) % 10)
    return upright


def write_faces(place):
    """CelebA as torchvision lays it out: 18 pictures to learn from, 1 for validation, 3 held out."""
    write_pictures(place / "celeba" / "img_align_celeba", 22)
    parts = ["0"] * 18 + ["1"] + ["2"] * 3
    lines = [f"{i:06d}.jpg {part}" for i, part in enumerate(parts, start=1)]
    (place / "celeba" / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")


def write_cifar(place):
    """CIFAR-10's batches, four images each."""
    folder = place / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in BATCHES:
        data = generator.integers(0, 256, (4, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 2, 3]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))


def write_cifar_subset(place):
    """`cifar10_subset.npz` of 20 training and 4 test images."""
    generator = np.random.default_rng(0)
    parts = {"train": 20, "test": 4}
    images = {
        f"{k}_images": generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        for k, n in parts.items()
    }
    np.savez(
        place / "cifar10_subset.npz",
        **images,
        **{f"{k}_labels": np.arange(n) % 10 for k, n in parts.items()},
    )


@pytest.fixture
def image_files(tmp_path, monkeypatch):
    """Write the files of a data set and return the folder to give as data_dir."""

    def write(name):
        place = Path(tmp_path / f"data-{name}")
        place.mkdir()
        if name in IDX:
            write_digits(name, place)
        if name == "celeba":
            write_faces(place)
        if name == "cifar10":
            write_cifar(place)
            monkeypatch.setattr(
                "torchvision.datasets.cifar.check_integrity",
                lambda path, md5=None: Path(path).exists(),
            )
        if name == "cifar10_subset":
            write_cifar_subset(place)
        return place

    return write
