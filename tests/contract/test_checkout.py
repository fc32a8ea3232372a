"""Two checkouts do not mix: the package that comes first on the path and its installed parts are of one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# what an editable install puts into the interpreter: a map from the names of parts to a checkout's folders
INSTALLED = """
import sys
from importlib.util import spec_from_file_location
from pathlib import Path

class Installed:
    def find_spec(fullname, path=None, target=None):
        part = Path({checkout!r}) / fullname.removeprefix("aif_dcpc.") / "__init__.py"
        if fullname.startswith("aif_dcpc.") and part.exists():
            return spec_from_file_location(fullname, part)

sys.meta_path.append(Installed)
import aif_dcpc, aif_dcpc.inference
print(aif_dcpc.inference.__file__)
"""


def copy_package(folder: Path) -> None:
    """Copy what `import aif_dcpc` needs."""
    folder.mkdir(parents=True)
    for name in ("__init__", "checkout", "former_paths"):
        shutil.copy(ROOT / "aif_dcpc" / f"{name}.py", folder)


def make_part(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()


def checkout(folder: Path) -> Path:
    copy_package(folder / "aif_dcpc")
    make_part(folder / "inference")
    return folder


def import_from(folder: Path, installed: Path) -> subprocess.CompletedProcess[str]:
    """Import from a folder, as if another were installed; without site packages, whose own install would count."""
    code = INSTALLED.format(checkout=str(installed))
    return subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=folder, capture_output=True, text=True
    )


def test_a_second_checkout_is_refused_in_one_sentence(tmp_path):
    first = checkout(tmp_path / "first")
    second = checkout(tmp_path / "second")
    done = import_from(second, installed=first)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    for words in (
        f"{second}/aif_dcpc",
        f"{first}/inference",
        "pip install -e .",
        "leave that folder",
    ):
        assert words in last


def test_the_installed_checkout_itself_is_not_refused(tmp_path):
    first = checkout(tmp_path / "first")
    done = import_from(first, installed=first)
    assert (done.returncode, done.stdout) == (0, f"{first}/inference/__init__.py\n")


def test_a_link_to_the_installed_checkout_is_not_refused(tmp_path):
    first = checkout(tmp_path / "first")
    link = tmp_path / "link"
    link.symlink_to(first)
    assert import_from(link, installed=first).returncode == 0


@pytest.mark.parametrize("links", [False, True], ids=["a wheel", "the tree for type checkers"])
def test_parts_inside_the_package_are_not_refused(tmp_path, links):
    first = checkout(tmp_path / "first")
    tree = tmp_path / "tree"
    copy_package(tree / "aif_dcpc")
    if links:
        (tree / "aif_dcpc" / "inference").symlink_to(first / "inference")
    else:
        make_part(tree / "aif_dcpc" / "inference")
    assert import_from(tree, installed=first).returncode == 0
