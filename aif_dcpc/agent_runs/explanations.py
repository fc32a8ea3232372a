"""Why each action of a rollout's episode: a table a step in one file of text, and a bar chart a step."""

from dataclasses import dataclass, field
from pathlib import Path

from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agent_runs.recorder import action_names
from aif_dcpc.agents.protocol import Agent
from aif_dcpc.files import atomic
from aif_dcpc.pictures import png_bytes, save

FOLDER = "explanations"
HOW_TO_READ = (
    "Expected free energy (EFE) of the alternatives at each step, nats, the least first; a star at the one taken.\n"
    "EFE = -E log pref - information - novelty: what is not preferred costs, what is learned pays.\n"
    "Agent discrete: EFE = now + later, now = risk - novelty."
)


@dataclass
class Explainer:
    """Asks an agent for its reasons at each step.

    Attributes:
        env: tells what actions are called.
        agent: may have `explain` and `explanation`, as `BaseAgent` has.
        folder: the run folder.
        steps: a text for each step of the running episode.
        charts: a picture for each step of which there is one.
    """

    env: Env
    agent: Agent
    folder: Path
    steps: list[str] = field(default_factory=list)
    charts: dict[int, bytes] = field(default_factory=dict)

    def note(self) -> None:
        """Take down why the action was chosen that is about to be done."""
        names = action_names(self.env)
        explain = getattr(self.agent, "explain", None)
        number = len(self.steps)
        told = explain(names) if explain is not None else "the agent has no explain"
        self.steps.append(f"step {number}\n{told}")
        explanation = getattr(self.agent, "explanation", None)
        found = explanation(names) if explanation is not None else None
        if found is not None:
            self.charts[number] = png_bytes(found.picture())

    def finish(self, name: str) -> None:
        """Write the episode's text and charts, and start afresh.

        Raises:
            OSError: they cannot be written.
        """
        place = self.folder / FOLDER
        (place / name).mkdir(parents=True, exist_ok=True)
        with atomic(place / f"{name}.txt") as file:
            file.write_text("\n\n".join([HOW_TO_READ, *self.steps]) + "\n", encoding="utf-8")
        for number, chart in self.charts.items():
            save(place / name / f"step-{number:04d}.png", chart)
        self.steps = []
        self.charts = {}
