"""Pictures and folders as people have them are read right, or refused by name.

Oracle: the pixels that were written, by the formats' own definitions.
"""

import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from aif_dcpc.errors import ConfigError, DataWarning
from aif_dcpc.image_runs.data import load_images
from aif_dcpc.image_runs.picture_files import open_picture

SIZE = 8


def pixels(path):
    return np.asarray(open_picture(path))


def test_grey_of_sixteen_bits_is_scaled_not_cut_off(tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(4, 0)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        read = pixels(tmp_path / name)
        assert (read == np.round(ramp[..., None] / 257)).all(), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_the_camera_says(orientation, tmp_path):
    """The eight orientations of EXIF, undone one by one: the bright corner ends at the top left."""
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :12] = 255
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    picture = Image.fromarray(np.ascontiguousarray(turned))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif.tobytes())
    assert (pixels(tmp_path / "a.png") == upright).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_white(mode, tmp_path):
    colours = np.zeros((4, 4, 4), np.uint8)
    colours[..., 0] = 200
    colours[:2, :, 3] = 255
    picture = Image.fromarray(colours)
    if mode == "P":
        picture = picture.convert("RGB").quantize(4)
        picture.info["transparency"] = bytes([0] * 4)
        picture.save(tmp_path / "a.png", transparency=bytes([0] * 4))
        assert (pixels(tmp_path / "a.png") == 255).all()
        return
    picture.convert(mode).save(tmp_path / "a.png")
    read = pixels(tmp_path / "a.png")
    assert (read[2:] == 255).all() and (read[:2] < 255).any(-1).all()


def test_numbers_without_an_agreed_white_are_refused(tmp_path):
    Image.fromarray(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(ConfigError, match=r"a\.tif is not a whole picture .*floating-point"):
        open_picture(tmp_path / "a.tif")
    Image.fromarray(np.full((8, 8), 70000, np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(ConfigError, match="more than 16 bits"):
        open_picture(tmp_path / "b.tif")


@pytest.fixture
def root(tmp_path):
    """Twenty pictures each of cats and dogs; a dog is brighter than every cat."""
    for shift, name in ((0, "cats"), (100, "dogs")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (12, 12), (shift + i,) * 3).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def loaded(root):
    return load_images("folder", "data", folder=str(root), image_size=SIZE)


def right(data):
    """Tell whether all forty are there, each with its own label."""
    for images, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        assert (labels == (images[:, 0, 0, 0] >= 100)).all()
    return len(data.train) + len(data.test) == 40


@pytest.mark.parametrize(
    "place",
    [
        ".ipynb_checkpoints/1.png",
        "cats/.ipynb_checkpoints/1.png",
        "cats/._1.png",
        "__MACOSX/cats/1.png",
        ".hidden.png",
        "cats/Thumbs.db",
    ],
)
def test_hidden_files_and_litter_do_not_count(root, place):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "cats/1.png", root / place)
    assert right(loaded(root))


def test_other_formats_of_pictures_count(root):
    for path in list((root / "dogs").iterdir()):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    assert right(loaded(root))


def test_files_that_are_left_out_are_told(root):
    (root / "cats" / "clip.mp4").write_bytes(b"film")
    with pytest.warns(DataWarning, match=r"1 of 41 files are left out.*1 \.mp4"):
        assert right(loaded(root))


def test_a_class_that_cannot_be_read_is_refused(root):
    (root / "birds").mkdir()
    (root / "birds" / "a.heic").write_bytes(b"?")
    with pytest.raises(ConfigError, match=r"birds holds no picture that is read \(a\.heic\)"):
        loaded(root)


def test_labels_that_one_stray_picture_takes_away_are_told(root):
    shutil.copy(root / "cats/1.png", root / "logo.png")
    with pytest.warns(DataWarning, match=r"1 of 41 pictures lie beside .*logo\.png"):
        assert not len(loaded(root).train_labels)


@pytest.mark.parametrize("test", ["test", "val"])
def test_parts_above_the_classes_are_parts(root, test):
    for i, path in enumerate(sorted(root.rglob("*.png"))):
        to = root / (test if i % 4 == 0 else "train") / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        path.rename(to)
    (root / "cats").rmdir()
    (root / "dogs").rmdir()
    data = loaded(root)
    assert right(data) and len(data.test) == 10
    shutil.rmtree(root / test / "cats")
    with pytest.raises(ConfigError, match=r"classes of train \(cats, dogs\) are not those of"):
        loaded(root)


def test_plain_folders_warn_of_nothing(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert right(loaded(root))


def subset(place, **changes):
    arrays = {
        "train_images": np.zeros((6, 32, 32, 3), np.uint8),
        "test_images": np.zeros((2, 32, 32, 3), np.uint8),
        "train_labels": np.arange(6),
        "test_labels": np.arange(2),
    }
    np.savez(place / "cifar10_subset.npz", **(arrays | changes))
    return load_images("cifar10_subset", str(place))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": np.zeros((6, 32, 32, 3), np.float32)}, "float32"),
        ({"train_images": np.zeros((6, 3, 32, 32), np.uint8)}, r"\(6, 3, 32, 32\)"),
        ({"train_labels": np.arange(5)}, "5 labels of 6 images"),
        ({"test_labels": np.array([0.5, 1.0])}, "no whole numbers"),
        ({"test_labels": np.array([-1, 1])}, "no whole numbers"),
        ({"test_labels": np.array([{}, 1], dtype=object)}, "cannot be read"),
    ],
)
def test_arrays_of_another_kind_are_refused(changes, words, tmp_path):
    assert subset(tmp_path).train.shape == (6, 3, 32, 32)
    with pytest.raises(ConfigError, match=words):
        subset(tmp_path, **changes)


def test_files_with_too_few_labels_are_refused(image_files):
    place = image_files("mnist")
    labels = next(place.rglob("train-labels*"))
    content = bytearray(labels.read_bytes()[:-4])
    content[4:8] = (20).to_bytes(4, "big")
    labels.write_bytes(content)
    with pytest.raises(ConfigError, match="20 labels of 24 images"):
        load_images("mnist", str(place))
