"""Refuse to mix two checkouts: the folder that holds this package and the parts that are installed.

An editable install maps `aif_dcpc.inference` and the other parts to one checkout. At the root of a
second checkout, whose `aif_dcpc` comes first on Python's path, half of the code would silently be
that of the other.
"""

from importlib.util import find_spec
from pathlib import Path

PARTS = ("agents", "configs", "envs", "experiments", "inference")


def refuse_mixture(package: str, folder: Path) -> None:
    """Check that the parts of a package belong to the folder that it is loaded from; nothing is imported.

    They stand below that folder in a wheel, beside it in a checkout.

    Raises:
        ImportError: a part is installed from elsewhere.
    """
    for part in PARTS:
        spec = find_spec(f"{package}.{part}")
        if spec is None or spec.origin is None:
            continue
        found = Path(spec.origin).parent
        own = ((folder / part).resolve(), (folder.parent / part).resolve())
        if found.resolve() not in own:
            raise ImportError(
                f"two checkouts of {package} would mix: {folder} comes first on Python's path, but "
                f"{package}.{part} is installed from {found}; run `pip install -e .` in "
                f"{folder.parent}, or leave that folder."
            )
