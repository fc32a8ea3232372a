"""The programs of docs/discrete.md and of the notebook on behaviour run as they stand, and find what they say."""

import re
from pathlib import Path

import pytest
from notebook_scripts import executed, program

DOCS = Path(__file__).resolve().parents[2] / "docs"


def program_of(page):
    (found,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    return found


def test_the_second_arm_is_found(capsys):
    names = executed(program_of("discrete.md"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("the second arm pays: 0.50")
    # an arm that loses or wins tells by .9 to .1
    first = names["context"][1]
    assert first > 0.9 * 0.9**4 / (0.9 * 0.9**4 + 0.1 * 0.1**4) - 0.01
    assert names["place"] == 2


def test_parameters_are_found(capsys):
    names = executed(program("behaviour"))
    assert "log evidence for a habit" in capsys.readouterr().out
    for name, values in names["truth"].items():
        draws = names["fit"].draws[name].flatten(0, 1)
        assert ((draws.mean(0) - values).abs() < 4 * draws.std(0)).all()


@pytest.mark.parametrize("page", ["discrete.md"])
def test_links_lead_somewhere(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert all((DOCS / target).exists() for target in targets)
