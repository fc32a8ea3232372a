"""Pictures of what the agent believes beside what is, and recordings of episodes."""

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agents.protocol import Agent
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
WHAT = "left: the world; right: the map and pose that the agent infers, cells it is unsure of are darker"
MOST_FRAMES = 600  # of an animation that joins several episodes


class Recorder:
    """Draws frames: the true view on the left, the agent's own pictures on the right.

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
        """Draw what is and what is believed now."""
        report = self.agent.report(pictures=True)
        seen = self.env.render_mode == "rgb_array"
        views = [np.asarray(self.env.render(), dtype=np.uint8)] if seen else []
        drawn = side_by_side(
            [*views, *report.pictures.values()] or [np.full((8, 8, 3), 255, np.uint8)]
        )
        if not report.legend:
            return drawn
        drawn = captioned(drawn, WHAT) if views else drawn
        names = {self._name(token): colour for token, colour in report.legend.items()}
        return np.concatenate([drawn, legend(names, drawn.shape[1])])

    def _name(self, token: int) -> str:
        """What the environment calls a token, for the reader: the agent is never told."""
        if not self.env.has_wrapper_attr("describe_token"):
            return f"token {token}"
        return str(self.env.get_wrapper_attr("describe_token")(token))

    def picture(self, step: int) -> None:
        """Save a picture and show it on the board."""
        drawn = self.frame()
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
