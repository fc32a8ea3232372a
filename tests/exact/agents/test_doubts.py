"""What a grid agent says that it has not understood: nothing where all is, and why where it stays at chance."""

from collections.abc import Sequence

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.deeds import Deeds
from aif_dcpc.agents.gridworld.doubts import MANY, RECENT, SHARE, doubts_of
from aif_dcpc.agents.gridworld.lessons import Lessons
from aif_dcpc.agents.gridworld.model.counts import NOTHING, TablePrior, rewarded, terminated
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.vocabulary import SAME

FLOOR, DOOR, BALL, KEY = range(4)
LOST, WON = 4, 5
GO = 7  # a word that every mission has


def episode(
    token: int,
    outcome: int,
    *,
    after: int = FLOOR,
    words: tuple[int, ...] = (),
    written: int = SAME,
    twice: Sequence[Sequence[int]] = (),
) -> Deeds:
    """Two steps: nothing came of the first; the second ended before a token."""
    pairs = ((2, 2), (FLOOR, token), (FLOOR, after), (NOTHING, outcome), (written, SAME))
    doubled = np.array(twice, np.int64).reshape(-1, 2)
    return Deeds(
        *(np.array(pair) for pair in pairs),
        (GO, *words),
        cell=np.zeros(2, np.int64),
        twice=doubled,
        places=np.full_like(doubled, -1),
    )


def lessons(every: Sequence[Deeds], capacity: int = 200) -> Lessons:
    """Keep them as an agent does that has room for so many."""
    known = Lessons(Looks.apart(4), TablePrior(), 3)
    for number, deeds in enumerate(every):
        known.keep(number % capacity, deeds)
    return known


def by_turns(number: int, turn: int = 2) -> list[Deeds]:
    """The same deed, rewarded by turns."""
    return [episode(DOOR, WON if n % turn else LOST) for n in range(number)]


def test_where_like_deeds_are_rewarded_now_and_then_it_says_so():
    (sentence,) = doubts_of(lessons(by_turns(MANY)))
    assert sentence.startswith(f"{MANY // 2} of its last {MANY} episodes")
    assert "model of your own" in sentence
    assert doubts_of(lessons(by_turns(MANY - 1))) == ()


def test_it_says_so_from_a_quarter_on():
    """Forty episodes, of which ten or nine were lost."""
    every = [episode(DOOR, LOST if n < SHARE * RECENT else WON) for n in range(RECENT)]
    assert doubts_of(lessons(every))
    assert doubts_of(lessons([*every[1:], episode(DOOR, WON)])) == ()


@pytest.mark.parametrize("after", [False, True])
def test_what_the_thing_ahead_tells_is_understood(after):
    """The door wins, the ball loses; ahead before the last step, or after it."""
    ends = [(DOOR, WON), (BALL, LOST)] * MANY
    told = [episode(KEY, o, after=t) if after else episode(t, o) for t, o in ends]
    assert doubts_of(lessons(told)) == ()


def test_what_the_mission_tells_is_understood_once_its_words_are():
    """Door and ball by turns, and a word for one of them; a word that says nothing is no excuse."""
    source = np.random.default_rng(0)

    def told(word_of: dict[int, int]) -> list[Deeds]:
        found = []
        for _ in range(RECENT):
            tried, wanted = source.choice([DOOR, BALL], 2)
            words = (word_of[int(wanted)],)
            found.append(episode(int(tried), WON if tried == wanted else LOST, words=words))
        return found

    assert doubts_of(lessons(told({DOOR: 20, BALL: 21}))) == ()
    assert doubts_of(lessons(told({DOOR: 20, BALL: 20})))


def test_what_was_done_first_is_understood():
    every = [episode(DOOR, WON, written=KEY) if n % 2 else episode(DOOR, LOST) for n in range(MANY)]
    assert doubts_of(lessons(every)) == ()


def test_likes_seen_elsewhere_are_understood():
    """Ball or key is wanted, whichever was seen twice."""
    every = []
    for n in range(RECENT):
        seen, tried = ((BALL, KEY)[(n + turn * (n // 2)) % 2] for turn in (0, 1))
        won = WON if seen == tried else LOST
        every.append(episode(FLOOR, won, after=tried, twice=[[seen, 0]]))
    known = lessons(every)
    assert known.task.twins == (BALL, KEY)
    assert doubts_of(known) == ()


def test_where_nothing_was_rewarded_it_says_that():
    (sentence,) = doubts_of(lessons([episode(DOOR, NOTHING)] * MANY))
    assert sentence.startswith(f"nothing was rewarded in any of its last {MANY} episodes")
    late = [*[episode(DOOR, NOTHING)] * MANY, episode(DOOR, WON)]
    assert doubts_of(lessons(late)) == ()


def test_what_was_not_understood_long_ago_does_not_count():
    """Also where later episodes have taken the places of earlier ones."""
    every = [*by_turns(60), *[episode(DOOR, WON)] * RECENT]
    assert doubts_of(lessons(every)) == ()
    assert doubts_of(lessons(every, capacity=70)) == ()
    kept = lessons(every, capacity=70).latest(RECENT)
    assert all(deeds.outcome[-1] == WON for deeds in kept)
    assert doubts_of(lessons([*[episode(DOOR, WON)] * 60, *by_turns(RECENT)], capacity=70))


def test_episodes_that_ran_out_of_time_are_no_ends():
    every = [*by_turns(MANY - 1), *[episode(DOOR, NOTHING)] * 10]
    assert doubts_of(lessons(every)) == ()


def test_outcomes_say_whether_they_were_rewarded_and_ended():
    outcome = np.arange(6)
    assert rewarded(outcome).tolist() == [False, False, True, False, False, True]
    assert terminated(outcome).tolist() == [False, False, False, True, True, True]
