"""Pictures of what is, what the agent believes and why it chose, side by side; recordings of episodes."""

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Discrete

from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agents.panels import HEIGHT, enlarged, panel
from aif_dcpc.agents.protocol import Agent, StepReport
from aif_dcpc.metrics import MetricsLog
from aif_dcpc.pictures import (
    Picture,
    captioned,
    gif_bytes,
    gif_facts,
    legend,
    padded,
    picture_of,
    png_bytes,
    read_gif,
    same_size,
    save,
    side_by_side,
)

if TYPE_CHECKING:
    import torch

FRAMES_PER_SECOND = 6
LEAST_WIDTH = 480  # of a frame, so that words below it do not widen it
LEGEND_LINES = 2  # kept free for what is still to be met
MOST_FRAMES = 600  # of an animation that joins several episodes


class Recorder:
    """Draws frames: the true view, the agent's own pictures, and what each action was expected to cost.

    What the agent draws of tokens looks as in the world, where the environment can tell: pictures
    alone know of it.

    Args:
        env: built with `render=True`.
        agent: whose report has pictures.
        folder: the run folder.
        log: where pictures are shown.
    """

    def __init__(self, env: Env, agent: Agent, folder: Path, log: MetricsLog) -> None:
        self.env = env
        self.agent = agent
        self.folder = folder
        self.log = log
        self.frames: list[bytes] = []  # PNG

    def frame(self) -> Picture:
        """Draw what is, what is believed now, and the last choice."""
        report = self._report()
        seen = self.env.render_mode == "rgb_array"
        views = [_world(np.asarray(self.env.render(), dtype=np.uint8))] if seen else []
        drawn = side_by_side(
            [*views, *report.pictures.values(), *self._reasons()]
            or [np.full((8, 8, 3), 255, np.uint8)]
        )
        drawn = padded(drawn, drawn.shape[0], max(LEAST_WIDTH, drawn.shape[1]))
        if not report.legend:
            return drawn
        names = {self._name(token): looks for token, looks in report.legend.items()}
        return np.concatenate([drawn, legend(names, drawn.shape[1], least=LEGEND_LINES)])

    def _report(self) -> StepReport:
        """The agent's report, drawn once more where it has met tokens whose looks it had not been handed."""
        report = self.agent.report(pictures=True)
        tiles = getattr(self.agent, "tiles", None)
        if tiles is None or not self.env.has_wrapper_attr("token_tile"):
            return report
        new = [token for token in report.legend if token not in tiles]
        for token in new:
            tiles[token] = self.env.get_wrapper_attr("token_tile")(token)
        return self.agent.report(pictures=True) if new else report

    def _reasons(self) -> list[Picture]:
        """A chart of the alternatives of the last choice, if the agent tells them."""
        explanation = getattr(self.agent, "explanation", None)
        found = explanation(action_names(self.env)) if explanation is not None else None
        return [] if found is None else [found.picture()]

    def _name(self, token: int) -> str:
        """What the environment calls a token, for the reader: the agent is never told."""
        if not self.env.has_wrapper_attr("describe_token"):
            return f"token {token}"
        return str(self.env.get_wrapper_attr("describe_token")(token))

    def picture(self, step: int, words: str) -> None:
        """Save a picture, with words under it, and show it on the board."""
        drawn = captioned(self.frame(), words)
        save(self.folder / "figures" / f"belief-{step:010d}.png", png_bytes(drawn))
        self.log.picture(step, "belief/beside_truth", drawn)

    def film(self, words: str) -> None:
        """Add a frame, with words under it, to the running recording."""
        self.frames.append(png_bytes(captioned(self.frame(), words)))

    def state(self) -> "list[torch.Tensor]":
        """The frames of the running recording, encoded, for a checkpoint."""
        import torch

        return [torch.frombuffer(bytearray(frame), dtype=torch.uint8) for frame in self.frames]

    def restore(self, state: "Sequence[torch.Tensor]") -> None:
        """Go back to what `state` gave, so that a recording has no gap where a run was interrupted."""
        self.frames = [bytes(frame.numpy()) for frame in state]

    def finish(self, step: int, name: str, tag: str) -> None:
        """Save the running recording, show it on the board, and start afresh."""
        frames = same_size([picture_of(frame) for frame in self.frames])
        self.frames = []
        encoded = gif_bytes(frames, FRAMES_PER_SECOND)
        save(self.folder / "videos" / f"{name}.gif", encoded)
        height, width, _ = frames[0].shape
        self.log.animation(step, tag, encoded, (height, width))

    def join(self, pattern: str, name: str) -> None:
        """Join the first frames of the recordings whose names fit a pattern, in order of their names, into one.

        One frame is in memory at a time.
        """
        videos = self.folder / "videos"
        paths = []
        facts: list[tuple[int, int, int]] = []
        for path in sorted(videos.glob(pattern)):
            if sum(number for number, _, _ in facts) < MOST_FRAMES:
                paths.append(path)
                facts.append(gif_facts(path))
        if not facts:
            return
        number = min(MOST_FRAMES, sum(number for number, _, _ in facts))
        height = max(height for _, height, _ in facts)
        width = max(width for _, _, width in facts)
        frames = (padded(f, height, width) for f in chain.from_iterable(map(read_gif, paths)))
        joined = gif_bytes(islice(frames, number), FRAMES_PER_SECOND, number=number)
        save(videos / f"{name}.gif", joined)


def _world(drawn: Picture) -> Picture:
    """The world as a panel like those of the agent."""
    return panel(enlarged(drawn), "the world", HEIGHT)


def action_names(env: Env) -> list[str] | None:
    """What an environment calls its actions; None where it does not say."""
    space = env.action_space
    if not isinstance(space, Discrete) or not env.has_wrapper_attr("describe_action"):
        return None
    describe = env.get_wrapper_attr("describe_action")
    return [str(describe(action)) for action in range(int(space.n))]
