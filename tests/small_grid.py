"""A grid world of nine cells whose posterior is enumerated: all trajectories and maps, tables integrated out in closed form.

Shared by tests of the posterior and of the tables.
"""

import itertools
from collections import Counter
from math import exp, lgamma, log

import torch

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals
from aif_dcpc.agents.gridworld.model.counts import TablePrior, no_counts
from aif_dcpc.agents.gridworld.model.geometry import MOTIONS, geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import History, effects_of
from aif_dcpc.agents.gridworld.model.vocabulary import UNCHANGED, Slots, Vocabulary
from aif_dcpc.agents.protocol import EgocentricView

SIZE = 3
ACTIONS = 2
TOKENS = 2
ALPHABET = 4
NUM_EVENTS = 9
ALPHAS = (0.001, 0.1, 1.0)  # with no past as likely as this:
SHARES = (0.6, 0.2, 0.2)
PRIOR = TablePrior(
    stay=0.4,
    stay_alike=0.4,
    effect_odds=1.0,
    ahead_odds=1.0,
    deterministic=0.6,
    nothing=0.6,
    token_concentration=3.0,
    misread=(1.0, 6.0),
)
FLOOR = 0
WALL = 1


VOCABULARY = Vocabulary(
    Looks.apart(ALPHABET),
    Slots(TOKENS, [0, 1]),
    Slots(1, [0]),
    effects=[(("token", FLOOR), UNCHANGED)],
    done_to=[[WALL]],
    max_events=NUM_EVENTS,
)


def small_world(depth: int = 1) -> GridConditionals:
    """A torus of nine cells, two tokens, one effect (it turns a wall ahead into floor), a view of `depth` cells ahead."""
    view = EgocentricView(
        rows=depth + 1,
        columns=1,
        own_cell=(depth, 0),
        num_tokens=ALPHABET,
        unseen_token=3,
        empty_hand_token=0,
    )
    geometry = geometry_of(view, SIZE)
    return GridConditionals(
        geometry, effects_of(geometry, VOCABULARY), PRIOR, no_counts(ACTIONS, VOCABULARY), ALPHABET
    )


def history(
    action: list[int], heading: list[int], view: list[list[int]], outcome: list[int]
) -> History:
    """An episode with an empty hand, whose faced tokens were never known."""
    still = torch.zeros(len(action), dtype=torch.long)
    nothing = torch.zeros(TOKENS, dtype=torch.long)
    seen = torch.tensor(action), torch.tensor(heading), still, torch.tensor(view)
    return History(*seen, torch.tensor(outcome), still - 2, nothing)


RECORDS = {
    "opened or moved": history([0, 1, 1, 0], [0, 0, 0, 0], [[1, -1], [0, -1], [0, -1], [1, -1]], [1, 1, 1, 5]),
    "turned and misread": history([0, 1, 0, 1], [0, 1, 1, 1], [[0, -1], [1, -1], [-2, -1], [0, -1]], [1, 1, 1, 1]),
    "two cells ahead": history([0, 1, 1], [0, 0, 0], [[1, 0, -1], [1, 1, -1], [0, -2, -1]], [1, 1, 1]),
}  # fmt: skip


def dirichlet_multinomial(counts: Counter[int], alpha: float, base: list[float]) -> float:
    """Log probability of a sequence with these counts; zero probability where the base is zero."""
    if any(base[x] == 0 for x in counts):
        return -float("inf")
    total = sum(counts.values())
    return lgamma(alpha) - lgamma(alpha + total) + sum(lgamma(alpha * base[x] + n) - lgamma(alpha * base[x])
                                                       for x, n in counts.items())  # fmt: skip


def log_mean_exp(terms: list[float]) -> float:
    top = max(terms)
    return top + log(sum(exp(t - top) for t in terms) / len(terms))


def event_base(front: int | None) -> list[float]:
    """Stay .4, the rest even over what is possible; the effect needs a wall, and to be allowed (None: motion only)."""
    possible = [True] * 8 + [front == WALL]
    rest = 0.6 / (sum(possible) - 1)
    return [0.4, *(rest if p else 0.0 for p in possible[1:])]


def log_transitions(steps: list[tuple[int, int, int]]) -> float:
    """Sum over actions of log mean over structures; steps are (action, token ahead, event)."""
    total = 0.0
    for action in {a for a, _, _ in steps}:
        own = [(f, e) for a, f, e in steps if a == action]
        terms = []
        for alpha, share in zip(ALPHAS, SHARES, strict=True):
            weight = log(len(ALPHAS) * share)
            alike = dirichlet_multinomial(Counter(e for _, e in own), alpha, event_base(None))
            rows = {f: Counter(e for g, e in own if g == f) for f, _ in own}
            by_token = sum(dirichlet_multinomial(c, alpha, event_base(f)) for f, c in rows.items())
            # with a single hand, "the hand matters" says the same
            terms += [weight + alike, weight + by_token, weight + by_token]
        total += log_mean_exp(terms)
    return total


def log_outcomes(steps: list[tuple[int, int, int]]) -> float:
    """As `log_transitions`; steps are (row, token ahead, outcome)."""
    base = [0.08, 0.6, 0.08, 0.08, 0.08, 0.08]
    total = 0.0
    for row in {r for r, _, _ in steps}:
        own = [(f, o) for r, f, o in steps if r == row]
        terms = []
        for alpha, share in zip(ALPHAS, SHARES, strict=True):
            weight = log(len(ALPHAS) * share)
            terms.append(weight + dirichlet_multinomial(Counter(o for _, o in own), alpha, base))
            rows = {f: Counter(o for g, o in own if g == f) for f, _ in own}
            by_token = sum(dirichlet_multinomial(c, alpha, base) for c in rows.values())
            terms.append(weight + by_token)
        total += log_mean_exp(terms)
    return total


def walk(
    events: tuple[int, ...], history: History
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Positions and cells ahead, by hand: heading 0 is +x, 1 is +y, and so on clockwise."""
    ahead = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    y = 1
    x = 1
    places = []
    fronts = []
    for t, event in enumerate((0, *events)):
        if t:
            _, forward, right = MOTIONS[event] if event < 8 else (0, 0, 0)
            h = int(history.heading[t - 1])
            y += forward * ahead[h][0] + right * ahead[(h + 1) % 4][0]
            x += forward * ahead[h][1] + right * ahead[(h + 1) % 4][1]
        dy, dx = ahead[int(history.heading[t])]
        places.append((y % SIZE, x % SIZE))
        fronts.append(((y + dy) % SIZE, (x + dx) % SIZE))
    return places, fronts


def cell_at(place: tuple[int, int], heading: int, ahead: int) -> tuple[int, int]:
    """The cell so many steps ahead of a place."""
    dy, dx = [(0, 1), (1, 0), (0, -1), (-1, 0)][heading]
    return (place[0] + ahead * dy) % SIZE, (place[1] + ahead * dx) % SIZE


def sightings(
    events: tuple[int, ...], history: History
) -> list[list[tuple[tuple[int, int], int, int]]]:
    """By slice: cell, code, and context (1 + the code of the next cell towards the agent, 0 if it shows none)."""
    places, _ = walk(events, history)
    seen = []
    for t, place in enumerate(places):
        here = []
        codes = history.view[t].tolist()[-2::-1]  # from the agent outwards
        for ahead, code in enumerate(codes, 1):
            nearer = codes[ahead - 2] if ahead > 1 else -1
            here.append((cell_at(place, int(history.heading[t]), ahead), code, max(nearer + 1, 0)))
        seen.append(here)
    return seen


def log_tokens(world: dict[tuple[int, int], int], firsts: dict[tuple[int, int], int]) -> float:
    """Log probability of the map: in every context of a first sighting, tokens have a prior of their own."""
    total = 0.0
    for context in set(firsts.values()):
        tokens = Counter(world[cell] for cell, of in firsts.items() if of == context)
        total += dirichlet_multinomial(tokens, 3.0, [0.5, 0.5])
    return total


def log_readings(right: int, wrong: int, misread: float | None) -> float:
    """Log probability of readings, at a rate of misreading or (None) with the rate integrated out."""
    if misread is not None:
        return right * log(1 - misread) + wrong * log(misread / (ALPHABET - 1))
    return (
        lgamma(7) - lgamma(7 + right + wrong) + lgamma(1 + wrong) - lgamma(1) + lgamma(6 + right) - lgamma(6)
        - wrong * log(ALPHABET - 1)
    )  # fmt: skip


def log_joint(
    events: tuple[int, ...],
    world: dict[tuple[int, int], int],
    history: History,
    misread: float | None = None,
) -> float:
    """log p(events, tokens of the cells that matter, observations), given a rate of misreading or (None) without it."""
    _, fronts = walk(events, history)
    now = dict(world)
    moves = []
    fates = []
    right = 0
    wrong = 0
    firsts: dict[tuple[int, int], int] = {}
    seen = sightings(events, history)
    for t in range(len(history)):
        if t:
            event = events[t - 1]
            action = int(history.action[t])
            token = now[fronts[t - 1]]
            moves.append((action, token, event))
            fates.append(
                (action if event == 0 else ACTIONS + event, token, int(history.outcome[t]))
            )
            if event == 8:
                now[fronts[t - 1]] = FLOOR
        for cell, code, context in seen[t]:
            right = right + (code == now[cell])
            wrong = wrong + (code != now[cell])
            firsts.setdefault(cell, context)
    moved = log_transitions(moves) + log_outcomes(fates)
    return moved + log_tokens(world, firsts) + log_readings(right, wrong, misread)


def exact_events(history: History) -> list[torch.Tensor]:
    """p(event_t | observations) of every step by enumeration."""
    turns = [(int(b) - int(a)) % 4 for a, b in itertools.pairwise(history.heading)]
    allowed = [
        [e for e in range(NUM_EVENTS) if (MOTIONS[e][0] if e < 8 else 0) == turn] for turn in turns
    ]
    weights: Counter[tuple[int, ...]] = Counter()
    for events in itertools.product(*allowed):
        cells = sorted({cell for here in sightings(events, history) for cell, _, _ in here})
        for tokens in itertools.product(range(TOKENS), repeat=len(cells)):
            value = log_joint(events, dict(zip(cells, tokens, strict=True)), history)
            weights[events] += exp(value) if value > -1e300 else 0.0
    total = sum(weights.values())
    result = [torch.zeros(NUM_EVENTS) for _ in turns]
    for events, weight in weights.items():
        for t, event in enumerate(events):
            result[t][event] += weight / total
    return result
