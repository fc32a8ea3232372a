"""The examples in docstrings, README and guides run and print what they say; importing a module does no work."""

import ast
import doctest
import importlib
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
OPTIONAL = {
    "arviz",
    "cosmic_ray",
    "coverage",
    "jax",
    "numpyro",
    "torch_fidelity",
    "torchmetrics",
}


def modules_of(package):
    """The package itself and the modules that lie in its folder, not those of packages within it."""
    within = pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}.")
    return [package, *(module.name for module in within if not module.ispkg)]


MODULES = [name for package in PACKAGES for name in modules_of(package)]


def imported(name):
    """The module, or a skipped test where it needs what only an extra of the project installs."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs {error.name}")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    assert doctest.testmod(imported(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_the_examples_are_found():
    """Of every part of the project, so that a walk that finds nothing does not pass for a success."""
    finder = doctest.DocTestFinder()
    parts = {
        name.split(".")[1]
        for name in MODULES
        if name.count(".") and not name.startswith("aif_dcpc.experiments")
        for found in finder.find(importlib.import_module(name))
        if found.examples
    }
    assert parts >= {"agents", "inference", "schema", "pictures", "image_runs"}


def is_work(statement):
    """Whether a statement of a module does more than to name, define or import something."""
    if isinstance(statement, (ast.For, ast.While, ast.With)):
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "experiments").rglob("*.py")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_importing_an_experiment_does_no_work(path):
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    work = [ast.unparse(statement) for statement in statements if is_work(statement)]
    assert [call for call in work if not call.startswith("matplotlib.use(")] == []


SCRIPTS = [
    ".".join(("aif_dcpc", *path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted((ROOT / "experiments").rglob("*.py"))
    if "if __name__ ==" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_does_and_does_nothing_else(name, monkeypatch, capsys):
    main = imported(name).main
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    shown, *more = capsys.readouterr()
    assert shown.startswith("usage: ") and more == [""]


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_runs_its_engine(capsys):
    """It prints what is shown, which is the exact posterior; a series of 4 slices has 5 in the end."""
    programs = [text for text in blocks(ROOT / "README.md") if "engine" in text]
    names = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for program in programs:
            exec(compile(program, "README.md", "exec"), names)
    assert len(programs) == 2
    draws = names["draws"]
    assert draws["level"].shape[2:] == (1, 4)
    assert not draws.warnings
    state = names["state"]
    assert state.particles["level"].shape == (64, 1, 5)
    assert 0 < names["info"].acceptance["level"] <= 1
    printed = capsys.readouterr().out.splitlines()
    (text,) = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    shown = text.splitlines()
    assert [line.split()[0] for line in printed] == [line.split()[0] for line in shown]
    mean, sd = exact_levels(torch.tensor([1.2, 0.3, 0.8, 2.1], dtype=torch.float64))
    for lines in (shown[1:5], printed[1:5]):
        table = torch.tensor([[float(cell) for cell in line.split()[1:]] for line in lines])
        error = sd / table[:, 6].sqrt()  # of a mean: the sd over the root of its effective draws
        assert bool(((table[:, 0] - mean).abs() < 5 * error + 5e-4).all())
        assert bool(((table[:, 1] / sd - 1).abs() < 5 / (2 * table[:, 7]).sqrt() + 5e-4).all())


def exact_levels(seen):
    """Means and sds of the README's levels, by conditioning a Gaussian."""
    steps = torch.arange(len(seen))
    variances = [1.0]
    for _ in steps[1:]:
        variances.append(0.81 * variances[-1] + 0.25)
    earlier = torch.minimum(steps[:, None], steps)
    apart = (steps[:, None] - steps).abs()
    levels = torch.tensor(variances, dtype=torch.float64)[earlier] * 0.9**apart
    gain = levels @ torch.linalg.inv(levels + torch.eye(len(seen), dtype=torch.float64))
    return gain @ seen, (levels - gain @ levels).diagonal().sqrt()


def test_every_program_of_the_documentation_has_a_test_that_runs_it():
    """README: the engine twice, above, and a trained agent's, `end_to_end/test_commands.py`; pages:
    `end_to_end/test_pages.py`, `test_discrete_guides.py`, `test_gaussian_guide.py`.

    All of docs/notebooks: `end_to_end/test_guides.py`, which says where.
    """
    found = {
        str(path.relative_to(ROOT)): len(blocks(path))
        for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    }
    assert {name: number for name, number in found.items() if number} == {
        "README.md": 3,
        "docs/coming_from/official_dcpc.md": 1,
        "docs/coming_from/pymdp.md": 1,
        "docs/coming_from/pyro_numpyro.md": 1,
        "docs/coming_from/torchrl_cleanrl.md": 1,
        "docs/discrete.md": 1,
        "docs/gaussian.md": 1,
    }
