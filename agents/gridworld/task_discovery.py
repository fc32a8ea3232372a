"""Finding out what missions mean and what has to be done first, from how steps ended.

Both are structure: whether to split the outcomes of like steps in two. The evidence of a split is a
ratio of Dirichlet-multinomial likelihoods in closed form, summed over like steps. Words are told by
missions themselves, too: they were made from what is wanted, so that what was rewarded tells what
words of its mission may mean, though it may have been rewarded by chance.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import betaln, gammaln

from aif_dcpc.agents.arrays import Bools, Floats, Ints
from aif_dcpc.agents.gridworld.deeds import Deeds
from aif_dcpc.agents.gridworld.model.counts import NOTHING, NUM_OUTCOMES, rewarded
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.task import (
    COLOUR,
    EITHER,
    FIRST,
    KIND,
    NO,
    SECOND,
    UNKNOWN,
    YES,
    Name,
    Task,
    named,
)
from aif_dcpc.agents.gridworld.model.vocabulary import SAME

CONCENTRATION = 0.2  # of the outcomes of like steps: they mostly end alike
# Beta parameters: how often missions have a word, and have not
NAMED = np.array([1.0, 0.1])  # of names, where the thing is wanted; the other way round elsewhere
OTHERWISE = np.array([1.0, 1.0])  # of words that are no names
WORTH = 3.0  # nats by which a milestone or a lexicon must be better than none, or twins worse
SIDES = 3  # of a split: not known, no, yes
ROUNDS = 3  # passes over all words


def discover(task: Task, deeds: Sequence[Deeds], looks: Looks) -> Task:
    """The task under which the outcomes of all deeds are likeliest, searched from a known one.

    Outcomes hang on the token ahead before a step, or on that after it.
    """
    milestone = _milestone(deeds, looks)
    tellings = [_telling(deeds, looks, after=after) for after in (False, True)]
    found = [_lexicon(task, telling, deeds, looks) for telling in tellings]
    _, lexicon = max(found, key=lambda one: one[0])
    twins = () if lexicon else _twins(deeds, tellings[1])
    return Task(lexicon, milestone, twins, _sighting(deeds, twins))


def split_evidence(group: Ints, side: Ints, outcome: Ints) -> float:
    """Log evidence of outcomes `(N,)` of like steps (group 0, 1, ...) that differ by `side`, 0 to 2.

    It is relative to that of outcomes that do not; in every group either may be so, evenly.
    """
    split, joint = _both_ways(group, side, outcome)
    return float((np.logaddexp(split, joint) - np.log(2) - joint).sum())


def _both_ways(group: Ints, side: Ints, outcome: Ints) -> tuple[Floats, Floats]:
    """Log evidence of every group of like steps, split by side and not."""
    if not len(group):
        return np.zeros(0), np.zeros(0)
    size = int(group.max()) + 1
    index = (SIDES * group + side) * NUM_OUTCOMES + outcome
    counts = np.bincount(index, minlength=SIDES * size * NUM_OUTCOMES)
    counts = counts.reshape(size, SIDES, NUM_OUTCOMES)
    return _log_evidence(counts).sum(1), _log_evidence(counts.sum(1))


def _log_evidence(counts: Ints) -> Floats:
    """Of a symmetric Dirichlet-multinomial, `(...)` for counts `(..., O)`."""
    total = counts.sum(-1)
    share = CONCENTRATION / NUM_OUTCOMES
    cells = (gammaln(share + counts) - gammaln(share)).sum(-1)
    evidence: Floats = gammaln(CONCENTRATION) - gammaln(CONCENTRATION + total) + cells
    return evidence


# -- milestones ------------------------------------------------------------------------------------


def _milestone(deeds: Sequence[Deeds], looks: Looks) -> int:
    """The token that explains best why the same deed ended otherwise; SAME if none is worth it."""
    candidates = sorted({int(t) for d in deeds for t in np.unique(d.written)} - {SAME})
    if not candidates:
        return SAME
    _, group = np.unique(
        np.concatenate([d.row * len(looks.kind) + d.token for d in deeds]), return_inverse=True
    )
    outcome = np.concatenate([d.outcome for d in deeds])
    gains = [
        split_evidence(group, np.concatenate([d.before(token) for d in deeds]), outcome)
        for token in candidates
    ]
    best = int(np.argmax(gains))
    return candidates[best] if gains[best] - np.log(len(candidates)) > WORTH else SAME


# -- words -----------------------------------------------------------------------------------------


def _lexicon(
    task: Task, telling: "Telling", deeds: Sequence[Deeds], looks: Looks
) -> tuple[float, dict[Name, int]]:
    """Which word names which kind or colour: one value after the other takes the word that explains most.

    Returns its evidence, too, relative to that of none.
    """
    words = sorted(_varying(d.mission for d in deeds))
    if not words or not len(telling.token):
        return 0.0, {}
    explained = telling.scorer(looks)
    names = _names(telling.token, looks)
    gain = telling.said(names, words, looks)
    said = dict(zip(itertools.product(names, words), gain.ravel().tolist(), strict=True))
    known = {name: word for name, word in task.lexicon.items() if word in words}
    values = Counter(aspect for aspect, _ in {*names, *known})

    def score(lexicon: dict[Name, int]) -> float:
        by_missions = sum(said.get(pair, 0.0) for pair in lexicon.items())
        return explained(lexicon) + by_missions + log_prior_of(lexicon, values, len(words))

    starts = known, _likeliest(gain, names, words)
    found = [_climb(start, names, words, score) for start in starts]
    best = max(found, key=score)
    worth = score(best) - score({})
    # names of which no outcome hangs would only part what is alike
    return (worth, best) if min(worth, explained(best)) > WORTH else (0.0, {})


def _climb(
    lexicon: dict[Name, int],
    names: Sequence[Name],
    words: Sequence[int],
    score: Callable[[dict[Name, int]], float],
) -> dict[Name, int]:
    """Better a lexicon until no other word for a single value explains more."""
    for _ in range(ROUNDS):
        before = lexicon
        for name in names:
            lexicon = _best_word(lexicon, name, words, score)
        if lexicon == before:
            break
    return lexicon


def log_prior_of(lexicon: Mapping[Name, int], values: Mapping[int, int], num_words: int) -> float:
    """Log prior of a lexicon: where most colours have a word, the others have one, and likeliest one that is left.

    The values of an aspect have words with a chance of its own, evenly spread; which, of those that
    no other value has, is even.

    Args:
        lexicon: the word for a kind or colour.
        values: how many of each aspect there are.
        num_words: how many words there are.
    """
    named = Counter(aspect for aspect, _ in lexicon)
    whether = sum(betaln(1 + named[of], 1 + number - named[of]) for of, number in values.items())
    which = gammaln(num_words + 1) - gammaln(num_words - len(lexicon) + 1)
    return float(whether - which)


def _best_word(
    lexicon: dict[Name, int],
    name: Name,
    words: Sequence[int],
    score: Callable[[dict[Name, int]], float],
) -> dict[Name, int]:
    """Give one value the word that explains most, or none, taking it from whatever had it."""
    rest = {of: word for of, word in lexicon.items() if of != name}
    trials = [lexicon, rest]
    trials += [{**{o: w for o, w in rest.items() if w != word}, name: word} for word in words]
    return trials[int(np.argmax([score(trial) for trial in trials]))]


def _likeliest(gain: Floats, names: Sequence[Name], words: Sequence[int]) -> dict[Name, int]:
    """The lexicon that missions alone speak for, see `Telling.said`.

    A word for one value alone may explain no outcome where things have a kind and a colour.
    """
    pairs = zip(*linear_sum_assignment(gain.clip(0), maximize=True), strict=True)
    return {names[name]: words[word] for name, word in pairs if gain[name, word] > 0}


def _varying(missions: Iterable[tuple[int, ...]]) -> set[int]:
    """Words of some missions, not of all."""
    every = [set(mission) for mission in missions]
    always = set[int]().union(*every).intersection(*every)
    return set[int]().union(*every) - always


def _names(tokens: Ints, looks: Looks) -> list[Name]:
    """Kinds and colours of tokens."""
    kinds = np.unique(looks.kind[tokens]).tolist()
    colours = np.unique(looks.colour[tokens]).tolist()
    return [*((COLOUR, c) for c in colours), *((KIND, k) for k in kinds)]


@dataclass(frozen=True)
class Telling:
    """Steps like those with which an episode ended, or which were rewarded.

    Attributes:
        which: which of all steps they are, of one episode after the other, true at `N`.
        group: `(N,)` number of the steps that are alike: their row and the class of the token.
        token, outcome: `(N,)`, see `Deeds`.
        mission: `(N,)` number of the mission of each.
        missions: all of them.
    """

    which: Bools
    group: Ints
    token: Ints
    outcome: Ints
    mission: Ints
    missions: tuple[tuple[int, ...], ...]

    def said(self, names: Sequence[Name], words: Sequence[int], looks: Looks) -> Floats:
        """How much the missions under which something was rewarded speak for each word as a name, `(names, words)` nats.

        A name is in most missions where what was rewarded has the value, and in few others
        (`NAMED`); any other word is in as many of these as of those.
        """
        won = rewarded(self.outcome)
        has = np.array([[word in mission for word in words] for mission in self.missions], int)
        has = has[self.mission[won]]
        counted = np.stack([has, 1 - has], -1)  # (N, words, has it | has not)
        values = {KIND: looks.kind, COLOUR: looks.colour}
        shown = np.array([values[of][self.token[won]] == value for of, value in names], int)
        there, elsewhere = (np.tensordot(part, counted, 1) for part in (shown, 1 - shown))
        return log_odds_of_names(there, elsewhere)

    def scorer(self, looks: Looks) -> Callable[[dict[Name, int]], float]:
        """How much a lexicon explains: the evidence of telling apart what missions name."""
        tokens, of_token = np.unique(self.token, return_inverse=True)
        sets = [set(mission) for mission in self.missions]

        def score(lexicon: dict[Name, int]) -> float:
            if not lexicon:
                return 0.0
            table = np.stack([named(lexicon, looks, tokens, mission) for mission in sets])
            side = table[self.mission, of_token]
            if not _wanted(side, self.outcome):
                return -np.inf
            return split_evidence(self.group, side, self.outcome)

        return score


def log_odds_of_names(there: Ints, elsewhere: Ints) -> Floats:
    """How much likelier missions `(..., have the word | have not)` are if it is a name, nats."""
    counts = there, elsewhere, there + elsewhere
    name_there, name_elsewhere, other = (
        betaln(*np.moveaxis(count + prior, -1, 0)) - betaln(*prior)
        for count, prior in zip(counts, (NAMED, NAMED[::-1], OTHERWISE), strict=True)
    )
    found: Floats = name_there + name_elsewhere - other
    return found


def _wanted(side: Ints, outcome: Ints) -> bool:
    """Whether what is named is rewarded no less often than what is not: missions name what is wanted."""
    won = rewarded(outcome)
    yes, no = (won[side == verdict] for verdict in (YES, NO))
    return not (len(yes) and len(no)) or bool(yes.mean() >= no.mean())


def _twins(deeds: Sequence[Deeds], telling: Telling) -> tuple[int, ...]:
    """Things of which that one may be wanted that was seen in two places, unless it was found not to be so.

    Before it is certain it has to be tried; whether it matters the tables find out by themselves. A
    thing with which no episode ended yet is one of them if that explains which others were wanted.
    """
    everywhere = _everywhere(deeds)
    ended = set(telling.token[telling.outcome != NOTHING].tolist())
    seen_twice = {token for d in deeds for token in d.twice[:, 0].tolist()}
    for tokens, at_least in ((ended, -WORTH), (ended | seen_twice, WORTH)):
        twins = tuple(sorted(tokens - everywhere))
        if _explained(deeds, telling, twins) > at_least:
            return twins
    return ()


def _explained(deeds: Sequence[Deeds], telling: Telling, twins: tuple[int, ...]) -> float:
    """The evidence that it matters which of some twins were seen in two places, nats."""
    paired = np.concatenate([d.paired(twins) for d in deeds])[telling.which]
    if len(twins) < 2 or not _wanted(paired, telling.outcome):
        return -np.inf
    known = paired != UNKNOWN
    split, joint = _both_ways(telling.group[known], paired[known], telling.outcome[known])
    return float((split - joint).sum())


def _sighting(deeds: Sequence[Deeds], twins: tuple[int, ...]) -> int:
    """In which of the two places of a twin it is rewarded oftener, if there is evidence that it matters."""
    if not twins:
        return EITHER
    paired = np.concatenate([d.paired(twins) for d in deeds]) == YES
    row, outcome = (
        np.concatenate([getattr(d, name) for d in deeds]) for name in ("row", "outcome")
    )
    place = np.concatenate([d.sighting() for d in deeds])
    _, group = np.unique(row[paired], return_inverse=True)
    if split_evidence(group, place[paired], outcome[paired]) <= WORTH:
        return EITHER
    return max((FIRST, SECOND), key=lambda one: _share(rewarded(outcome)[paired & (place == one)]))


def _share(true: Bools) -> float:
    """How many are, of all; 0 of none."""
    return float(true.mean()) if len(true) else 0.0


def _everywhere(deeds: Sequence[Deeds]) -> set[int]:
    """Tokens that most episodes begin with two sights of: floors and walls."""
    first = [token for d in deeds for token, time in d.twice.tolist() if time == 0]
    tokens, times = np.unique(np.array(first, np.int64), return_counts=True)
    return set(tokens[2 * times > len(deeds)].tolist())


def _telling(deeds: Sequence[Deeds], looks: Looks, *, after: bool) -> Telling:
    """Gather the steps by the token ahead before them, or after."""
    missions = sorted({d.mission for d in deeds})
    row, token, outcome = (
        np.concatenate([getattr(d, name) for d in deeds])
        for name in ("row", "after" if after else "token", "outcome")
    )
    mission = np.concatenate([np.full(len(d.row), missions.index(d.mission)) for d in deeds])
    alike = row * (1 + int(looks.classes.max())) + looks.classes[token]
    which = np.isin(alike, alike[outcome != NOTHING])
    _, group = np.unique(alike[which], return_inverse=True)
    return Telling(which, group, token[which], outcome[which], mission[which], tuple(missions))
