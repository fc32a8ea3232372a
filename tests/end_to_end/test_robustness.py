"""A fixed sample of what `experiments/robustness` tries at random: no traceback, no wait for ever, nothing left behind."""

import random

import pytest

from aif_dcpc.experiments.robustness import models, overrides


def test_random_words_are_done_or_refused_in_one_sentence():
    draw = random.Random(11)
    found = [overrides.tried(*overrides.random_words(draw)) for _ in range(40)]
    assert [finding for finding in found if finding is not None] == []


def test_random_models_are_inferred_or_refused():
    assert [found for found in map(models.tried, range(40)) if found is not None] == []


def test_a_traceback_and_what_is_left_behind_would_be_found(monkeypatch):
    """The fuzzer is itself checked, by commands that do what it looks for."""

    def crash():
        raise KeyError("planted")

    def litter():
        open("left", "w").close()
        raise SystemExit(2)

    for command, words in ((crash, "planted"), (litter, "not one sentence")):
        monkeypatch.setitem(overrides.MAINS, "train", command)
        assert words in overrides.tried("train", ["seed=1"]).what


@pytest.mark.parametrize("words", [("~policy=true",), ("seed=1=2",), ("++seed=inf",), ("name=",)])
def test_what_the_fuzzer_found(words):
    assert overrides.tried("train", (*overrides.QUICK, *words)) is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate", ("-m",)),
        ("rollout", ("-m", "run=nowhere")),
        ("train", (*overrides.QUICK, "-m", "agent=hierarchical", "agent.map_size=-3,-4")),
    ],
    ids=str,
)
def test_a_sweep_that_is_refused_leaves_nothing_behind(command, words):
    assert overrides.tried(command, words) is None
