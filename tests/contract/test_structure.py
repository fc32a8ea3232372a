"""The shape of the repository: imports point one way, every package is installed, commands start light."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
# import nothing of the project but each other, and may be imported by every part
LEAVES = ("aif_dcpc.misspelt", "aif_dcpc.named_code")
MAPPED = ("agents", "envs", "inference", "configs", "experiments")
MAY_IMPORT = {
    "inference": {"inference"},
    "agents": {"agents", "inference"},
    "envs": {"envs", "inference"},
    "configs": {"configs"},
    "aif_dcpc": {"", "agents", "envs", "inference", "configs"},
    "experiments": {"", "agents", "envs", "inference", "configs", "experiments"},
}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def project_imports(path: Path) -> Iterator[str]:
    """Names of the parts of the project that a file imports; "" is `aif_dcpc` itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            names = (
                [f"aif_dcpc.{alias.name}" for alias in node.names]
                if module == "aif_dcpc"
                else [module]
            )
        for name in names:
            if name in LEAVES:
                continue
            if name == "aif_dcpc" or name.startswith("aif_dcpc."):
                part = name.split(".")[1] if "." in name else ""
                yield part if part in MAPPED else ""


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_point_one_way(folder):
    wrong = {
        f"{path.relative_to(ROOT)} imports aif_dcpc.{part}"
        for path in sources(folder)
        for part in project_imports(path)
        if part not in MAY_IMPORT[folder]
    }
    assert not wrong


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_nothing_else_of_the_project(leaf):
    assert not list(project_imports(ROOT.joinpath(*leaf.split(".")).with_suffix(".py")))


def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]


def test_every_package_is_installed():
    folders = [ROOT / "aif_dcpc", *(ROOT / name for name in MAPPED)]
    found = {init.parent for folder in folders for init in folder.rglob("__init__.py")}
    names = {".".join(path.relative_to(ROOT).parts) for path in found}
    names = {name if name.split(".")[0] == "aif_dcpc" else f"aif_dcpc.{name}" for name in names}
    assert names == set(settings()["packages"])


@pytest.mark.parametrize("folder", MAPPED)
def test_folders_refuse_to_be_imported_from_the_root(folder):
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"import aif_dcpc.{folder}" in done.stderr


@pytest.mark.parametrize("folder", ["agents", "envs", "aif_dcpc"])
def test_gradients_stand_in_the_engine_alone(folder):
    wrong = [
        path.name
        for path in sources(folder)
        if "autograd.grad(" in path.read_text() or ".backward(" in path.read_text()
    ]
    assert not wrong


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, aif_dcpc, aif_dcpc.commands.train, aif_dcpc.commands.rollout;"
        "heavy = {'torch', 'gymnasium', 'matplotlib', 'scipy', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_told_by_the_package_and_every_command():
    """That of pyproject.toml; the import stays light."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = "import sys, aif_dcpc; print(aif_dcpc.__version__); assert 'torch' not in sys.modules"
    told = [subprocess.check_output([sys.executable, "-c", code], text=True)]
    for entry in project["scripts"].values():
        module, _, main = entry.partition(":")
        code = f"import sys; sys.argv = ['x', '--version']; from {module} import {main}; {main}()"
        told.append(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert told == [f"{project['version']}\n"] * (1 + len(project["scripts"]))


def test_the_engine_does_not_bring_a_compiler_along() -> None:
    """Inductor and what it imports take two seconds and 150 MB: only who compiles pays for them."""
    code = (
        "import sys, aif_dcpc.inference; from aif_dcpc.agents.gaussian import agent; "
        "assert 'torch._inductor' not in sys.modules and 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_citation_is_of_this_version():
    """With the fields that the format asks for (cff-version, message, title, authors)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert str(cited["version"]) == project["version"] and cited["license"] == project["license"]


def test_every_script_tells_what_went_wrong_in_one_sentence():
    """The entry of commands is `run_command`; that of experiments `run_script`, which keeps tracebacks from users."""
    scripts = [path for path in sources("experiments") if "if __name__ ==" in path.read_text()]
    assert len(scripts) > 10
    assert [path.name for path in scripts if "run_script(main)" not in path.read_text()] == []


def test_a_script_ends_without_a_traceback(capsys):
    def refuse():
        raise ConfigError("--seeds 0: at least 1.")

    def stop():
        raise KeyboardInterrupt

    for main, code, words in (
        (refuse, 2, "error: --seeds 0: at least 1.\n"),
        (stop, 130, "interrupted.\n"),
    ):
        with pytest.raises(SystemExit) as left:
            run_script(main)
        assert left.value.code == code and capsys.readouterr().err == words
    run_script(lambda: None)
