"""What missions mean and what has to be done first, found from how steps ended; evidence by hand."""

import itertools
from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch

from aif_dcpc.agents.gridworld.deeds import Deeds, seen_twice
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import History, Trajectory
from aif_dcpc.agents.gridworld.model.task import (
    COLOUR,
    EITHER,
    FIRST,
    KIND,
    NO,
    SECOND,
    UNKNOWN,
    YES,
    Task,
    named,
    paired,
)
from aif_dcpc.agents.gridworld.task_discovery import (
    CONCENTRATION,
    discover,
    log_odds_of_names,
    log_prior_of,
    split_evidence,
)
from aif_dcpc.agents.protocol import EgocentricView

COLOURS, KINDS = 4, 2
KIND_OF, COLOUR_OF = (part.ravel() for part in np.mgrid[:KINDS, :COLOURS])
LOOKS = Looks(KIND_OF, COLOUR_OF, np.zeros(KINDS * COLOURS, np.int64))
GET, A = 900, 901  # words that say nothing
WORD = {(COLOUR, 0): 10, (COLOUR, 1): 11, (COLOUR, 2): 12, (COLOUR, 3): 13, (KIND, 0): 20, (KIND, 1): 21}  # fmt: skip
NOTHING, LOST, WON = 1, 4, 5
SAME = -1


def one_step(token: int, outcome: int, mission: tuple[int, ...], written: int = SAME) -> Deeds:
    arrays = (np.array([value]) for value in (7, token, token, outcome, written))
    return Deeds(*arrays, mission)


def fetching(number: int, seed: int) -> list[Deeds]:
    """Each mission names a colour and a kind; something is taken at random, and wins if it is that."""
    source = np.random.default_rng(seed)
    deeds = []
    for _ in range(number):
        wanted, other = source.choice(KINDS * COLOURS, 2, replace=False)
        words = WORD[KIND, KIND_OF[wanted]], WORD[COLOUR, COLOUR_OF[wanted]]
        taken = source.choice([wanted, other])
        outcome = WON if taken == wanted else LOST
        deeds.append(one_step(int(taken), outcome, (*sorted(words), GET, A)))
    return deeds


@pytest.mark.parametrize("seed", range(5))
def test_words_are_learned_from_what_was_rewarded(seed: int) -> None:
    """Eighty trials of eight things, with five seeds: no word is wrong, and all things are told apart."""
    task = discover(Task(), fetching(80, seed), LOOKS)
    assert task.lexicon.items() <= WORD.items()
    assert task.milestone == SAME
    every = np.arange(KINDS * COLOURS)
    for thing in every:
        words = {WORD[KIND, KIND_OF[thing]], WORD[COLOUR, COLOUR_OF[thing]]}
        verdict = named(task.lexicon, LOOKS, every, words)
        assert verdict[thing] != NO
        others = verdict[every != thing]
        assert (others == NO).mean() > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_words_are_learned_from_few_rewards(seed: int) -> None:
    """Of twenty trials some ten were rewarded: what was wanted twice or oftener has its words, and none is wrong."""
    deeds = fetching(20, seed)
    lexicon = discover(Task(), deeds, LOOKS).lexicon
    assert lexicon.items() <= WORD.items()
    won = [int(d.token[0]) for d in deeds if d.outcome[0] == WON]
    for of, values in ((KIND, KIND_OF), (COLOUR, COLOUR_OF)):
        value, times = np.unique(values[won], return_counts=True)
        assert {(of, v) for v in value[times > 1].tolist()} <= set(lexicon)


def test_the_odds_of_a_name_are_those_of_its_missions() -> None:
    """Against the product, one mission after the other, of what each urn foretells."""

    def foretold(missions: list[int], has: float, has_not: float) -> float:
        total = 0.0
        for word in missions:
            total += log((has if word else has_not) / (has + has_not))
            has, has_not = has + word, has_not + 1 - word
        return total

    there, elsewhere = [1, 1, 0, 1], [0, 0, 1, 0, 0]
    by_hand = foretold(there, 1.0, 0.1) + foretold(elsewhere, 0.1, 1.0)
    by_hand -= foretold(there + elsewhere, 1.0, 1.0)
    found = log_odds_of_names(np.array([3, 1]), np.array([1, 4]))
    assert float(found) == pytest.approx(by_hand)


@pytest.mark.parametrize("won", [WON, NOTHING])
def test_names_on_which_no_outcome_hangs_are_left_alone(won: int) -> None:
    """Missions name the colour of what there is one of: all that is taken is rewarded, or nothing is."""
    deeds = [one_step(colour, won, (WORD[COLOUR, colour], GET)) for colour in range(COLOURS)] * 10
    assert discover(Task(), deeds, LOOKS).lexicon == {}


@pytest.mark.parametrize("seed", range(5))
def test_where_missions_say_nothing_no_word_is_believed(seed: int) -> None:
    """Outcomes drawn without looking at the mission: a word is believed in none of five seeds."""
    source = np.random.default_rng(seed)
    deeds = [
        one_step(d.token[0], int(source.choice([WON, LOST])), d.mission) for d in fetching(80, seed)
    ]
    assert discover(Task(), deeds, LOOKS).lexicon == {}


def test_the_last_word_names_the_last_colour() -> None:
    """Where the mission names colour 3, only others were tried: its word is the one that is left."""
    source = np.random.default_rng(0)
    deeds = []
    for _ in range(80):
        wanted = int(source.choice(COLOURS))
        tried = int(source.choice(COLOURS - 1))
        outcome = WON if tried == wanted else LOST
        deeds.append(one_step(tried, outcome, (WORD[COLOUR, wanted], GET)))
    deeds.append(one_step(COLOURS - 1, LOST, (WORD[COLOUR, 0], GET)))  # seen it has been
    lexicon = discover(Task(), deeds, LOOKS).lexicon
    assert lexicon == {(COLOUR, colour): WORD[COLOUR, colour] for colour in range(COLOURS)}


@pytest.mark.parametrize("seed", range(5))
def test_words_are_learned_within_fifteen_missions_that_are_said_in_many_ways(seed: int) -> None:
    """Three colours and two kinds are asked for, in one of four phrases; a fourth colour is named once, in vain."""
    source = np.random.default_rng(seed)
    phrases = [(900,), (901,), (902,), (903, 904)]
    deeds = [one_step(1, LOST, (WORD[KIND, 0], WORD[COLOUR, 3], 900))]
    for _ in range(15):
        wanted = int(source.choice(np.flatnonzero(COLOUR_OF != 3)))
        taken = int(source.choice([wanted, int(source.integers(KINDS * COLOURS))]))
        words = WORD[KIND, KIND_OF[wanted]], WORD[COLOUR, COLOUR_OF[wanted]]
        mission = (*sorted(words), *phrases[source.integers(4)])
        deeds.append(one_step(taken, WON if taken == wanted else LOST, mission))
    lexicon = discover(Task(), deeds, LOOKS).lexicon
    assert len(lexicon) >= 5 and lexicon.items() <= WORD.items()


@pytest.mark.parametrize(("num_words", "enough"), [(1, 1 / 2), (2, 5 / 6), (4, 1.0)])
def test_the_prior_of_lexicons_is_a_distribution(num_words: int, enough: float) -> None:
    """Two colours (none, one or both named: a third each) and one kind: it sums to how often words are enough."""
    values = {COLOUR: 2, KIND: 1}
    names = [(of, value) for of, number in values.items() for value in range(number)]
    total = 0.0
    for words in itertools.product([None, *range(num_words)], repeat=len(names)):
        lexicon = {name: word for name, word in zip(names, words, strict=True) if word is not None}
        if len(set(lexicon.values())) == len(lexicon):
            total += exp(log_prior_of(lexicon, values, num_words))
    assert total == pytest.approx(enough)


def test_named_things() -> None:
    tokens = np.arange(KINDS * COLOURS)
    lexicon = {(COLOUR, 0): 10, (COLOUR, 1): 11}
    verdict = named(lexicon, LOOKS, tokens, {10, 20})
    assert (verdict == [YES, NO, NO, NO] * 2).all()
    silent = named(lexicon, LOOKS, tokens, {12, 20})
    assert (silent == [NO, NO, UNKNOWN, UNKNOWN] * 2).all()
    both = named({**lexicon, (KIND, 0): 20}, LOOKS, tokens, {10, 20})
    assert (both == [YES, NO, NO, NO, NO, NO, NO, NO]).all()
    assert (named({}, LOOKS, tokens, {10}) == UNKNOWN).all()


def test_the_milestone_is_what_had_to_be_written_first() -> None:
    """The same deed wins after token 3 was written, and loses before; token 5 is written at random."""
    source = np.random.default_rng(0)
    deeds = []
    for episode in range(12):
        first = episode % 2 == 0
        written = np.array([3 if first else SAME, 5 if source.random() < 0.5 else SAME, 2])
        row, token = np.array([4, 4, 6]), np.array([1, 1, 2])
        outcome = np.array([NOTHING, NOTHING, WON if first else LOST])
        deeds.append(Deeds(row, token, token, outcome, written, ()))
    assert discover(Task(), deeds, LOOKS).milestone == 3
    assert (deeds[0].before(3) == [0, 1, 1]).all() and not deeds[1].before(3).any()
    assert discover(Task(), deeds[:1], LOOKS).milestone == SAME


def test_deeds_that_are_not_alike_need_no_milestone() -> None:
    """One deed always wins, and comes after token 3 was written; another always loses, and comes before."""
    deeds = []
    for _ in range(12):
        row, token = np.array([3, 4]), np.array([2, 1])
        written, outcome = np.array([3, SAME]), np.array([LOST, WON])
        deeds.append(Deeds(row, token, token, outcome, written, ()))
    assert discover(Task(), deeds, LOOKS).milestone == SAME


def remembering(number: int, seed: int, *, matters: bool, one: bool = False) -> list[Deeds]:
    """The episode begins before one of two things, and ends before either, or always one: that one wins that was seen first."""
    source = np.random.default_rng(seed)
    deeds = []
    for _ in range(number):
        first, end = source.choice(2, 2)
        end = 0 if one else end
        wins = first == end if matters else source.random() < 0.5
        row = np.array([9, 9, 9])
        token = np.array([2, 2, 2])
        after = np.array([first, 2, end])
        outcome = np.array([NOTHING, NOTHING, WON if wins else LOST])
        twice = np.array([[2, 0], [first, 2]])
        nothing = np.full(3, SAME)
        places = np.array([[1, 5], [0, 2]])
        deeds.append(Deeds(row, token, after, outcome, nothing, (), np.arange(3), twice, places))
    return deeds


@pytest.mark.parametrize("seed", range(5))
def test_the_thing_with_a_like_of_it_elsewhere_is_wanted(seed: int) -> None:
    """Forty episodes of each kind, with five seeds: believed where it is so, dropped where it is not."""
    task = discover(Task(), remembering(40, seed, matters=True), LOOKS)
    assert task.twins == (0, 1)
    assert discover(Task(), remembering(40, seed, matters=False), LOOKS).twins == ()


@pytest.mark.parametrize("seed", range(5))
def test_a_thing_that_was_never_tried_is_wanted_at_times_if_that_explains_it(seed: int) -> None:
    """Forty episodes that all end before one thing: it wins where it was seen first, the other having been so else."""
    deeds = remembering(40, seed, matters=True, one=True)
    assert discover(Task(), deeds, LOOKS).twins == (0, 1)
    assert discover(Task(), deeds[:2], LOOKS).twins == ()
    lucky = remembering(40, seed, matters=False, one=True)
    assert discover(Task(), lucky, LOOKS).twins == ()
    loses = [replace(d, outcome=np.where(d.outcome == WON, LOST, WON)) for d in deeds]
    loses = [replace(d, outcome=np.where(d.after == 2, NOTHING, d.outcome)) for d in loses]
    assert discover(Task(), loses, LOOKS).twins == ()  # the one seen twice is not wanted


def matching(number: int, seed: int, wanted: int) -> list[Deeds]:
    """A sample and two things; the sample's like is seen before it or after it, and one of both places is wanted.

    Some go to the other place on the way, where nothing comes of it.
    """
    source = np.random.default_rng(seed)
    deeds = []
    for _ in range(number):
        like, other = source.permutation(2)
        first, second = source.permutation(3)[:2]
        cells = {FIRST: first, SECOND: second}
        wrong = cells[FIRST + SECOND - wanted]
        tries = [(like, wrong, NOTHING)] * source.integers(2)
        end = [(like, cells[wanted], WON), (other, 5, LOST)][source.integers(2)]
        after, cell, outcome = np.array([(2, 7, NOTHING), *tries, end]).T
        same = np.full(len(after), SAME)
        deeds.append(
            Deeds(
                9 + 0 * after, 2 + 0 * after, after, outcome, same, (), cell,
                np.array([[2, 0], [like, 1]]), np.array([[7, 8], [first, second]]),
            )
        )  # fmt: skip
    return deeds


@pytest.mark.parametrize("wanted", [FIRST, SECOND])
@pytest.mark.parametrize("seed", range(3))
def test_which_of_two_places_is_wanted(wanted: int, seed: int) -> None:
    """Forty episodes each; where both are rewarded nothing is told apart."""
    deeds = matching(40, seed, wanted)
    assert discover(Task(), deeds, LOOKS) == Task({}, SAME, (0, 1), wanted)
    even = [replace(d, outcome=np.where(d.after == d.twice[1, 0], WON, d.outcome)) for d in deeds]
    assert discover(Task(), even, LOOKS) == Task({}, SAME, (0, 1), EITHER)
    assert discover(Task(), deeds[:2], LOOKS).sighting == EITHER
    third = [replace(d, places=np.where(d.places == d.cell[-2], -1, d.places)) for d in deeds]
    assert discover(Task(), third, LOOKS).sighting in (
        EITHER,
        wanted,
    )  # tried in vain at a third place


def test_a_twin_elsewhere_is_none() -> None:
    steps = Deeds(
        *np.array([[9] * 5, [2] * 5, [0, 0, 1, 0, 2], [NOTHING] * 5, [SAME] * 5]), (),
        np.array([3, 4, 6, 8, 3]), np.array([[0, 2], [2, 0]]), np.array([[4, 3], [3, 4]]),
    )  # fmt: skip
    assert steps.sighting().tolist() == [2, 1, 0, 0, 1]
    assert steps.paired((0, 1)).tolist() == [UNKNOWN, YES, NO, YES, UNKNOWN]
    assert steps.paired((0, 1), FIRST).tolist() == [UNKNOWN, YES, NO, NO, UNKNOWN]
    assert steps.paired((0, 1), SECOND).tolist() == [UNKNOWN, NO, NO, NO, UNKNOWN]
    assert steps.elsewhere((0, 1), FIRST) == [(0, 3)] and steps.elsewhere((0, 1), SECOND) == [
        (0, 4)
    ]
    assert steps.elsewhere((0, 1), EITHER) == []


def test_what_is_known_of_twins_at_every_step() -> None:
    deeds = remembering(1, 0, matters=True)[0]
    first, end = int(deeds.after[0]), int(deeds.after[2])
    assert (deeds.paired((0, 1)) == [UNKNOWN, UNKNOWN, YES if first == end else NO]).all()
    assert (paired((0, 1), np.array([0, 1, 2]), {1, 2}) == [NO, YES, UNKNOWN]).all()
    assert (paired((0, 1), np.array([0, 1]), {2}) == UNKNOWN).all()
    again = replace(deeds, cell=np.array([4, 5, 4]), after=np.array([0, 2, 0]))
    none = np.zeros(3, np.int64)
    assert sorted(again.first_arrivals(none, none)) == [0, 1]
    assert sorted(again.first_arrivals(np.array([0, 0, 2]), none)) == [0, 1, 2]


def log_sequence(counts: list[int]) -> float:
    """Log probability of a sequence of outcomes with these counts, one draw after the other."""
    total = 0.0
    for outcome, count in enumerate(counts):
        for have in range(count):
            seen = sum(counts[:outcome]) + have
            total += log((CONCENTRATION / 6 + have) / (CONCENTRATION + seen))
    return total


def test_the_evidence_of_a_split_is_that_of_its_sequences() -> None:
    group = np.array([0, 0, 0, 0, 1, 1])
    side = np.array([1, 1, 2, 2, 0, 2])
    outcome = np.array([WON, WON, LOST, LOST, WON, WON])
    expected = 0.0
    for of in (0, 1):
        inside = group == of
        count = [np.bincount(outcome[inside & (side == s)], minlength=6) for s in range(3)]
        apart = sum(log_sequence(c.tolist()) for c in count)
        joint = log_sequence(sum(count).tolist())
        expected += np.logaddexp(apart, joint) - log(2) - joint
    assert split_evidence(group, side, outcome) == pytest.approx(expected, abs=1e-9)


def test_what_was_seen_in_two_places_by_when() -> None:
    """Random walks over a map of random tokens: slots and slices by plain loops over what was seen."""
    source = np.random.default_rng(3)
    view = EgocentricView(
        rows=3, columns=3, own_cell=(2, 1), num_tokens=9, unseen_token=8, empty_hand_token=0
    )
    geometry = geometry_of(view, 16)
    torus = geometry.torus
    position = torch.as_tensor(np.cumsum(source.integers(-1, 2, (1, 12, 2)), 1) + 5)
    heading = torch.as_tensor(source.integers(0, 4, 12))
    anchor = torus.anchor(position)
    cells = torus.cell(anchor[0][:, None] + torus.views[heading])
    world = torch.as_tensor(source.integers(0, 6, 16 * 16))
    codes = torch.where(torch.as_tensor(source.random((12, 9)) < 0.3), world[cells], -1)
    none = torch.zeros(12, dtype=torch.long)
    history = History(none, heading, none, codes, none, none, none)
    trajectory = Trajectory(position, anchor, none[None], none[None], none[None])
    where: dict[int, set[int]] = {}
    order: dict[int, list[tuple[int, int]]] = {}
    expected: dict[int, int] = {}
    for time in range(12):
        for code, cell in zip(codes[time].tolist(), cells[time].tolist(), strict=True):
            if code >= 0:
                if cell not in where.setdefault(code, set()):
                    order.setdefault(code, []).append((time, cell))
                where[code].add(cell)
                if len(where[code]) == 2:
                    expected.setdefault(code, time)
    found, places = seen_twice(history, trajectory, torus, 0)
    assert dict(found.tolist()) == expected and len(expected) > 2
    for (code, _), pair in zip(found.tolist(), places.tolist(), strict=True):
        # those of a slice by their cells
        assert pair == [cell for _, cell in sorted(order[code])[:2]]
