"""Episodes as recordings of rerun (extra `rerun`): view, beliefs, particles and terms on one time line to scrub along."""

from pathlib import Path
from typing import Any

import numpy as np

from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agents.protocol import Agent
from aif_dcpc.errors import ConfigError
from aif_dcpc.files import atomic

FOLDER = "recordings"
MISSING = (
    "rerun=true needs the package rerun-sdk: pip install 'aif_dcpc[rerun]', or leave rerun out."
)


def require_rerun() -> Any:
    """Import the package rerun, which is an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import rerun
    except ImportError:
        raise ConfigError(MISSING) from None
    return rerun


class EpisodeRecording:
    """Records one episode after the other.

    Args:
        env: built with `render=True`.
        agent: whose reports are recorded.
        folder: the run folder.
    """

    def __init__(self, env: Env, agent: Agent, folder: Path) -> None:
        self.rerun = require_rerun()
        self.env = env
        self.agent = agent
        self.folder = folder
        self.stream: Any = None
        self.step = 0

    def note(self) -> None:
        """Record what is, what is believed, and the terms of the choice, at the present step."""
        rerun = self.rerun
        if self.stream is None:
            self.stream = rerun.RecordingStream("aif_dcpc")
            self.bytes = self.stream.binary_stream()
            self.step = 0
        self.stream.set_time("step", sequence=self.step)
        self.step += 1
        if self.env.render_mode == "rgb_array":
            self._log("world", rerun.Image(np.asarray(self.env.render(), dtype=np.uint8)))
        report = self.agent.report(pictures=True)
        for tag, picture in report.pictures.items():
            self._log(tag, rerun.Image(picture))
        for site, values in report.particles.items():
            self._log(f"particles/{site}", rerun.Tensor(values))
            if values.ndim == 2 and values.shape[1] >= 2:
                self._log(f"particles/{site}/points", rerun.Points2D(values[:, 1::-1]))
        for tag, value in report.scalars.items():
            self._log(tag, rerun.Scalars(value))

    def _log(self, place: str, what: Any) -> None:
        self.stream.log(place, what)

    def finish(self, name: str) -> None:
        """Write the recording of the episode.

        Raises:
            OSError: it cannot be written.
        """
        place = self.folder / FOLDER
        place.mkdir(exist_ok=True)
        with atomic(place / f"{name}.rrd") as file:
            file.write_bytes(self.bytes.read())
        self.stream = None
