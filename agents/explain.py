"""Why this action: the expected free energy of every alternative and what it is made of, as text and as a picture.

Whatever the planner, in nats, lower is better:

    EFE = -E[log preference] - information gain - novelty (+ what lies beyond the horizon)
        = risk + ambiguity - novelty - information gain that is not in risk and ambiguity
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.panels import HEIGHT, panel
from aif_dcpc.agents.planners.protocol import Plan

SHOWN = 8  # alternatives, the best first
WIDTH = 380  # of the picture, pixels
BAR = (96, 200)  # where bars begin, and how long the longest is
CHOSEN = (20, 60, 140)
OTHERS = (150, 170, 205)
SMALL = (110, 110, 110)
TERMS = (
    "neg_expected_log_preference",
    "risk",
    "ambiguity",
    "information_gain",
    "novelty",
    "horizon_value",
)
SHORT = {"neg_expected_log_preference": "-E log pref", "information_gain": "information"}
WRITTEN = ("neg_expected_log_preference", "information_gain", "novelty")  # in the picture
CAPTION = "expected free energy, nats; bars: above the least; dark: taken"


@dataclass(frozen=True)
class Explanation:
    """The alternatives of one choice.

    Attributes:
        labels: of the alternatives.
        total: `(N,)` expected free energy, nats.
        terms: name -> `(N,)` nats.
        chosen: index of the one that was taken.
    """

    labels: Sequence[str]
    total: Floats
    terms: Mapping[str, Floats]
    chosen: int

    def order(self) -> list[int]:
        """Indices of the alternatives that are shown, best first; the chosen one is among them."""
        best: list[int] = self.total.argsort(kind="stable").tolist()
        shown = best[:SHOWN]
        return shown if self.chosen in shown else [*shown[:-1], self.chosen]

    def text(self) -> str:
        """Write a table of the best alternatives, a star at the chosen one."""
        heads = ["EFE", *(_short(name) for name in self.terms)]
        lines = [f"{'':>18} " + " ".join(f"{head:>12}" for head in heads)]
        for index in self.order():
            numbers = [self.total[index], *(term[index] for term in self.terms.values())]
            star = "*" if index == self.chosen else " "
            label = f"{self.labels[index]:>17}{star}"
            lines.append(f"{label} " + " ".join(f"{float(number):12.3f}" for number in numbers))
        return "\n".join(lines)

    def picture(self) -> npt.NDArray[np.uint8]:
        """Draw a bar for each of the best alternatives, with its terms, always of one size."""
        page = Image.new("RGB", (WIDTH, HEIGHT), "white")
        pen = ImageDraw.Draw(page)
        shown = self.order()
        excess = np.zeros_like(self.total)  # of equals, be they infinite
        np.subtract(self.total, self.total.min(), out=excess, where=self.total > self.total.min())
        longest = max(float(excess[shown][np.isfinite(excess[shown])].max(initial=0.0)), 1e-9)
        for row, index in enumerate(shown):
            self._bar(pen, row * HEIGHT // SHOWN, index, excess[index] / longest)
        return panel(np.asarray(page, dtype=np.uint8), CAPTION, WIDTH)

    def _bar(self, pen: ImageDraw.ImageDraw, top: int, index: int, share: float) -> None:
        left, longest = BAR
        right = left + 2 + int(longest * min(share, 1.0))
        colour = CHOSEN if index == self.chosen else OTHERS
        pen.text((4, top + 4), self.labels[index][:15], fill="black")
        pen.rectangle((left, top + 4, right, top + 15), fill=colour)
        pen.text((right + 4, top + 4), f"{self.total[index]:.3g}", fill="black")
        parts = [
            f"{_short(n)} {float(t[index]):.3g}" for n, t in self.terms.items() if n in WRITTEN
        ]
        pen.text((left, top + 19), "  ".join(parts), fill=SMALL)


def _short(name: str) -> str:
    return SHORT.get(name, name.replace("_", " "))


def explanation_of(
    plan: Plan, chosen: int, names: Sequence[str] | None = None, *, first: int = 0
) -> Explanation:
    """Lay out what a planner found.

    Args:
        plan: its candidates and their terms.
        chosen: index of the candidate that was taken.
        names: of Discrete actions; their numbers by default.
        first: number of the first Discrete action, which the first name belongs to.
    """
    numbers = {name: plan.terms[name].double().numpy() for name in TERMS if name in plan.terms}
    labels = [_label(policy.numpy(), names, first) for policy in plan.policies]
    return Explanation(labels, plan.expected_free_energy.double().numpy(), numbers, chosen)


def explain(plan: Plan, names: Sequence[str] | None = None, *, first: int = 0) -> str:
    """Write a table of the best policies' expected free energy and its terms, nats, a star at the best."""
    return explanation_of(plan, plan.best, names, first=first).text()


def _label(policy: npt.NDArray[np.generic], names: Sequence[str] | None, first: int) -> str:
    """Name a policy by its first actions."""
    if np.issubdtype(policy.dtype, np.floating):
        return " ".join(f"{x:.2f}" for x in policy[0].flatten().tolist())
    actions = [int(action) for action in policy[:4].flatten()]
    return " ".join(str(a) if names is None else names[a - first] for a in actions)
