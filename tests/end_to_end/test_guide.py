"""The guides' programs run as they stand, are short, and learn.

Oracles: the share of the most frequent label; the conjugate posterior of how far a cue can be
    trusted.
"""

import ast

import numpy as np
import pytest
import torch
from notebook_scripts import executed, program
from PIL import Image

from aif_dcpc.agents import Agent

PROPER = {
    "digits": slice(5),
    "tmaze": slice(3),
}  # cells of a graph and its use; what follows looks at it


@pytest.mark.parametrize(("guide", "most"), [("digits", 59), ("tmaze", 25)])
def test_a_graph_and_its_use_stay_short(guide, most):
    """Lines of code, however they are broken and explained: imports and comments aside."""
    code = ast.unparse(ast.parse(program(guide, PROPER[guide])))
    lines = [line for line in code.splitlines() if not line.startswith(("import", "from"))]
    assert len([line for line in lines if line.strip()]) <= most


def test_the_program_classifies_held_out_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = executed(program("digits"))
    # 297 pictures, ten labels: guessing the most frequent one is right about 12 times in 100
    assert names["accuracy"] > 0.7
    probabilities = names["class_probabilities"](names["state"])
    assert torch.allclose(probabilities.sum(-1), torch.ones(297), atol=1e-4)
    assert names["rows"].shape == (30, 1, 8, 8) and float(names["rows"].std()) > 0.1


def test_the_program_takes_cats_and_dogs_from_their_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    # cats are bright on the left, dogs on the right
    for name, left in (("cats", True), ("dogs", False)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(140):
            pixels = generator.integers(0, 60, (20, 24, 3), dtype=np.uint8)
            pixels[:, :12] += np.uint8(150 * left)
            pixels[:, 12:] += np.uint8(150 * (not left))
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    first, second = (
        line
        for line in program("digits", PROPER["digits"]).splitlines()
        if "data = load_images(" in line
    )
    text = (
        program("digits", PROPER["digits"])
        .replace(f"{first}\n", "")
        .replace(second, second.replace("# data", "data").replace("32", "8"))
    )
    names = executed(text)
    assert names["images"].shape == (252, 3, 8, 8) and names["classes"] == 2
    # 28 pictures: a coin names 24 of them right about once in ten thousand times
    assert names["accuracy"] >= 24 / 28


def test_the_agent_asks_the_cue_and_learns_how_far_to_trust_it():
    names = executed(program("tmaze", PROPER["tmaze"]))
    agent = names["agent"]
    seen = {name: agent.life.state.values[name][0, 0] for name in ("location", "cue", "outcome")}
    ends = (seen["outcome"] > 0).nonzero()[:, 0]
    assert len(ends) == 40
    assert bool((seen["location"][ends - 1] == names["CUE"]).all())  # the last thing before the arm
    baited_right = (seen["location"][ends] == names["RIGHT"]) == (seen["outcome"][ends] == 2)
    honest = int(((seen["cue"][ends - 1] == 2) == baited_right).sum())
    # Beta(2, 1) and 40 draws; 32 independent particles: 5 standard errors, one false alarm in a
    # million
    mean = (2 + honest) / 43
    trust = float(names["trust"])
    assert abs(trust - mean) < 5 * (mean * (1 - mean) / 44 / 32) ** 0.5
    won = sum(episode.success for episode in names["episodes"])
    # a coin wins more than 28 times in 40 less than once in 300 runs of the program
    assert won == honest > 28
    executed(program("tmaze", slice(3, None)), names)  # one episode more, step by step
    assert names["chosen"][0] == "cue" and len(names["frames"]) == 2
    before, after = names["beliefs"]
    # what is believed of the bait is what is believed of the cue, within its sd and the particles'
    assert abs(before - 0.5) < 5 * (0.25 / 32) ** 0.5
    assert abs(max(after, 1 - after) - mean) < 5 * (mean * (1 - mean) * (1 / 44 + 1 / 32)) ** 0.5


def test_the_agent_goes_on_from_what_it_saved(tmp_path):
    text = program("tmaze", PROPER["tmaze"])
    names = executed(text.replace("range(40)", "range(2)"))
    agent = names["agent"]
    again = names["cue_agent"]()
    env = names["env"]
    assert isinstance(agent, Agent)
    torch.save(agent.state_dict(), tmp_path / "agent.pt")
    again.load_state_dict(torch.load(tmp_path / "agent.pt", weights_only=True))
    learned = agent.life.state.length
    for one in (agent, again):
        one.freeze()
        names["play"](env, one, seed=7, greedy=True)
    for name, value in agent.life.state.values.items():
        assert torch.equal(value, again.life.state.values[name])
    again.begin(seed=8)  # the frozen agent keeps the two episodes that it had learned from
    assert again.life.state.length == learned
