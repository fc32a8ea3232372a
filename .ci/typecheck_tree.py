"""Build `.typecheck/aif_dcpc`, a tree of links laid out as the package is installed.

Type checkers and editors do not follow the import hook by which the folders of the repository
become `aif_dcpc.*`; pointing them at this tree (`mypy_path` in pyproject.toml) lets them. Run it
from anywhere; it replaces the old tree.
"""

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / ".typecheck"


def main() -> None:
    """Replace the tree."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders: dict[str, str] = settings["tool"]["setuptools"]["package-dir"]
    shutil.rmtree(TREE, ignore_errors=True)
    package = TREE / "aif_dcpc"
    package.mkdir(parents=True)
    for child in (ROOT / folders.pop("aif_dcpc")).iterdir():
        (package / child.name).symlink_to(child)
    for name, folder in folders.items():
        (TREE / name.replace(".", "/")).symlink_to(ROOT / folder)


if __name__ == "__main__":
    main()
