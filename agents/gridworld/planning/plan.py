"""A plan, and what is left of an earlier one: a policy that was found once can still be followed.

A search within a budget may miss at the next step what it found at this one, and find it again after that: then an
agent that plans anew at every step swings to and fro. So what the best policy does next, and what it is expected to
cost from there, is kept as long as nothing new is seen; it is followed where the new plan costs more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.counts import NOTHING
from aif_dcpc.agents.gridworld.planning.belief import Belief

MARGIN = 0.3  # nats by which a new plan must be worse: more than the tolerance of its values


@dataclass(frozen=True)
class Course:
    """The next steps of a policy, up to the first that may change the map, or is made to learn something.

    Attributes:
        poses: `(L, 3)` where each is taken.
        actions: L of them.
        costs: `(L,)` expected free energy from each on, nats.
    """

    poses: Ints
    actions: Sequence[int]
    costs: Floats

    def rest(self) -> "Course":
        """All but the next step."""
        return Course(self.poses[1:], self.actions[1:], self.costs[1:])

    def leads_through(self, pose: Ints) -> bool:
        """Whether its next step is taken at a pose."""
        return len(self.actions) > 0 and np.array_equal(self.poses[0], pose)


NOWHERE = Course(np.zeros((0, 3), np.int64), [], np.zeros(0))


@dataclass(frozen=True)
class Plan:
    """The outcome of planning.

    Attributes:
        risk, ambiguity, information_gain, novelty: `(A,)` nats, of each first action followed by
            the best policy, all its steps added up; see `terms`.
        num_abstract_states: how many abstract states were searched.
        path: `(L, 3)` poses that the best policy leads through from the likeliest one on, if the
            likeliest always happens.
        course: the steps after the next one.
    """

    risk: Floats
    ambiguity: Floats
    information_gain: Floats
    novelty: Floats
    num_abstract_states: int
    path: Ints
    course: Course = NOWHERE

    @property
    def expected_free_energy(self) -> Floats:
        """`(A,)` nats: risk + ambiguity - information gain - novelty."""
        return self.risk + self.ambiguity - self.information_gain - self.novelty

    @property
    def epistemic(self) -> Floats:
        """`(A,)` nats that are learned: information gain + novelty."""
        return self.information_gain + self.novelty


class Going:
    """The course that is kept from step to step.

    Attributes:
        course: what is left of it.
        known: what was known when it was last followed, or found, see `fingerprint`.
    """

    def __init__(self) -> None:
        self.course = NOWHERE
        self.known = 0

    def follow(self, new: Course, cost: float, belief: Belief, outcome: int) -> int | None:
        """The next action of the earlier plan, if nothing new is known and it costs less than the new one.

        Args:
            new: of the new plan, kept otherwise.
            cost: expected free energy of the new plan, nats.
            belief: what is known now.
            outcome: of the last step; any but nothing teaches what steps are worth.
        """
        known = fingerprint(belief)
        old = self.course if known == self.known and outcome == NOTHING else NOWHERE
        self.known = known
        if old.leads_through(belief.pose[belief.likeliest]) and old.costs[0] < cost - MARGIN:
            self.course = old.rest()
            return int(old.actions[0])
        self.course = new
        return None

    def state_dict(self) -> dict[str, Any]:
        """Give everything as plain numbers and lists."""
        course = self.course
        return {
            "poses": course.poses.tolist(),
            "actions": list(course.actions),
            "costs": course.costs.tolist(),
            "known": self.known,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        poses = np.array(state["poses"], np.int64).reshape(-1, 3)
        self.course = Course(poses, state["actions"], np.array(state["costs"], float))
        self.known = int(state["known"])


def fingerprint(belief: Belief) -> int:
    """A number that is another one once something new is known of the map, or of what is in hand."""
    shown = np.where(belief.seen, belief.cells.argmax(1), -1)
    return crc32(shown.tobytes(), belief.hand)
