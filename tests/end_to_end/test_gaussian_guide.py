"""The program of docs/gaussian.md runs, in small, and what it learned is right within what it says."""

import re
from pathlib import Path

import torch

from aif_dcpc.agents.gaussian.preferences import WISHES
from aif_dcpc.agents.gaussian.requirements import DEFAULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gaussian.md"
STEPS = 60  # enough for an error of a hundredth; the page takes more


def program():
    text = PAGE.read_text(encoding="utf-8")
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return found


def test_the_program_learns_a_pendulum(capsys):
    code = program().replace("steps = 150", f"steps = {STEPS}")
    assert f"steps = {STEPS}" in code
    names = {}
    try:
        with torch.random.fork_rng():
            exec(compile(code, "gaussian.md", "exec"), names)
    finally:
        WISHES.pop("to_the_right", None)
    assert "novelty" in capsys.readouterr().out
    errors = torch.stack(names["errors"])
    # the equations of Pendulum are smooth: sd of cosine, sine about 0.7; speed reaches 8
    assert float(errors[-20:, :2].mean()) < 0.02
    assert float(errors[-20:, 2].mean()) < 0.1
    assert float(errors[-20:].mean()) < 0.2 * float(errors[1:6].mean())


def test_the_commands_name_experiments():
    text = PAGE.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if "experiment=pendulum" in line)
    named = ["pendulum", *line.partition("# or ")[2].split(", ")]
    folder = PAGE.parents[1] / "configs" / "experiment"
    assert len(named) == 5 and all((folder / f"{name}.yaml").exists() for name in named)


def test_settings_that_are_named_exist():
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`agent\.(\w+)(?:=\w+)?`", text)) - {"predict"}
    assert named and named <= set(DEFAULTS)
