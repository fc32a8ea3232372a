"""The programs of the pages for those who come from elsewhere run, are short, and print what is right.

Oracles: quadrature, the closed form of two Gaussian latents, the binomial law, Bayes' rule.
"""

import re
from pathlib import Path

import pytest
import torch
from notebook_scripts import executed
from torch.distributions import HalfNormal, MultivariateNormal

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs/coming_from").glob("*.md"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def blocks(page, kind):
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def numbers(text):
    return [float(number) for number in NUMBER.findall(text)]


def arm_that_pays(shown, names):
    """After n wins of the second arm and none lost: 1 / (1 + 9^-n)."""
    chance, place = shown
    assert place == 2 and chance >= 0.99


def slope_and_noise(shown, names):
    """Given the noise the slope is Gaussian; the noise is summed over a grid."""
    height = names["height"].double()
    weight = names["weight"].double()
    noise = torch.linspace(0.01, 4.0, 4000, dtype=torch.float64)
    total = height.outer(height) + noise.square()[:, None, None] * torch.eye(5)
    law = MultivariateNormal(torch.zeros(5).double(), total)
    chances = (law.log_prob(weight) + HalfNormal(1.0).log_prob(noise)).softmax(0)
    slope = (height @ weight) / (height.square().sum() + noise.square())
    table = torch.tensor(shown[3:19]).view(2, 8)  # after "5 %", "50 %", "95 %"
    for row, exact in zip(table.tolist(), ((chances @ slope), (chances @ noise)), strict=True):
        mean, sd, *_, bulk, _tail = row
        assert abs(mean - float(exact)) < 5 * sd / bulk**0.5 + 5e-4


def rewards(shown, names):
    """The cue is right 95 times in 100."""
    episodes, share = shown
    assert share >= 0.95 - 4 * (0.95 * 0.05 / episodes) ** 0.5


def variances(shown, names):
    """2/3 for both; 8,000 draws: five standard errors of a variance are 5 sqrt(2 / 8000) of it."""
    paper, exact = shown[1:4:2], shown[5:8:2]
    assert all(abs(value / (2 / 3) - 1) < 5 * (2 / 8000) ** 0.5 + 0.01 for value in exact)
    assert all(value < 0.55 for value in paper)


ORACLES = {
    "official_dcpc": variances,
    "pymdp": arm_that_pays,
    "pyro_numpyro": slope_and_noise,
    "torchrl_cleanrl": rewards,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_ends_with_a_short_program_that_prints_what_it_shows(page, capsys):
    (program,), (shown,) = blocks(page, "python"), blocks(page, "text")
    assert len([line for line in program.splitlines() if line.strip()]) <= 15
    assert page.read_text(encoding="utf-8").rstrip().endswith("```")
    names = executed(program)
    printed = capsys.readouterr().out
    words = [NUMBER.sub("#", " ".join(text.split())) for text in (shown, printed)]
    assert words[0] == words[1]
    for text in (shown, printed):
        found = numbers(re.sub(r"\bz[12]\b", "1", text))
        ORACLES[page.stem](numbers(text) if page.stem == "pyro_numpyro" else found, names)
