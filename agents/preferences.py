"""Prior preferences over outcomes, as log probabilities up to a constant (the C of the field)."""

from dataclasses import dataclass

import numpy as np

from aif_dcpc.agents.arrays import Floats


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Reward is expected; every step without it is a surprise of `step_cost` nats.

    Attributes:
        step_cost: nats by which a step with reward is preferred to one without.
        discount: weight of the next step against this one; the horizon is about 1 / (1 - discount)
            steps.
        lasting: how many times what a step teaches about outcomes counts, since it serves in later
            episodes as well.
    """

    step_cost: float = 10.0
    discount: float = 0.97
    lasting: float = 10.0

    @property
    def log_preference_of_never(self) -> float:
        """Discounted log preference of never getting the preferred outcome, nats."""
        return -self.step_cost / (1 - self.discount)

    def log_preference(self) -> Floats:
        """`(O,)` for outcomes 3 * terminated + sign + 1, of the greatest size that there is."""
        signs = np.array([-2.0, -1.0, 0.0])
        return self.step_cost * np.concatenate([signs, signs])

    def goes_on(self) -> Floats:
        """`(O,)` 1 where the episode continues."""
        return np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])

    def tail(self, anew: float | None = None) -> Floats:
        """`(O,)` log preference of all that follows an ending: nothing is missed after reward.

        Args:
            anew: nats, what beginning another episode is worth after an ending without reward; never
                being rewarded by default.
        """
        later = self.log_preference_of_never if anew is None else anew
        return np.array([0.0, 0.0, 0.0, later, later, 0.0])
