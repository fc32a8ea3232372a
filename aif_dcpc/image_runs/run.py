"""One training run of an image model, with its run folder: create it, or go on with it, until a budget ends."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import yaml

from aif_dcpc.devices import set_up
from aif_dcpc.errors import UserError
from aif_dcpc.image_runs.assembly import image_config, make_data, make_engine, make_model
from aif_dcpc.image_runs.data import unit
from aif_dcpc.image_runs.inference import infer_watched, sample_prior
from aif_dcpc.image_runs.loop import ImageLoop
from aif_dcpc.image_runs.reconstruction import find_metrics, measured
from aif_dcpc.image_runs.request import check_request
from aif_dcpc.image_runs.team import ALONE, Team
from aif_dcpc.inference import InferenceError
from aif_dcpc.inference.images import summary
from aif_dcpc.interruption import Interruption, interruptible
from aif_dcpc.learning_curve import save_learning_curve
from aif_dcpc.metrics import MetricsLog, logged_bytes
from aif_dcpc.pictures import captioned, image_grid, png_bytes, save
from aif_dcpc.progress import LiveProgress
from aif_dcpc.randomness import IMAGE_VALIDATION, derive, seed_everything
from aif_dcpc.runs import RunFolder, new_run, writing
from aif_dcpc.schema import TrainConfig

SHOWN = 10  # pictures in a row of the figures
CAPTIONS = {
    "reconstructions": "held-out images; below each the mean of its particles, inferred afresh",
    "samples": "mean images drawn from the prior",
}


class LearningError(UserError):
    """Learning cannot go on: what happened, and what to try."""


@dataclass(frozen=True)
class ImageOutcome:
    """How a run ended: why, where, and with which numbers."""

    reason: str
    folder: RunFolder
    numbers: dict[str, float]
    steps: int
    seconds: float
    signal: int | None = None  # that interrupted it


def create_image_run(config: TrainConfig) -> RunFolder:
    """Make a run folder with its configuration and the checkpoint of step 0; on any error there is no folder.

    Raises:
        UserError: the configuration cannot be met.
    """
    check_request(config, image_config(config))
    config = replace(config, device=set_up(config.device, config.threads))
    seed_everything(config.seed)
    loop = make_loop(config)
    with new_run(config.run_dir, config.name) as folder:
        folder.save_config(config)
        folder.save_model(summary(loop.model))
        folder.save_checkpoint(0, {**loop.state(), "metrics_length": 0})
    folder.save_config(replace(config, run_dir=str(folder)))
    return folder


def continue_image_run(folder: RunFolder, config: TrainConfig, team: Team = ALONE) -> ImageOutcome:
    """Go on from the newest checkpoint until a budget ends or a signal asks to stop; then save.

    Args:
        folder: of the run.
        config: under which it goes on.
        team: the processes that share it; the leader writes.

    Raises:
        UserError: the run folder is damaged or does not fit, or learning broke down.
    """
    config = replace(config, device=set_up(config.device, config.threads))
    with ExitStack() as stack:
        if team.leads:
            stack.enter_context(writing(folder, config))
            shutil.rmtree(folder.particles, ignore_errors=True)  # of a process that was killed
        checkpoint = folder.load_checkpoint()
        place = folder.particles if team.size == 1 else folder.particles / f"{team.rank}"
        loop = make_loop(config, place, team)
        loop.restore(checkpoint)
        if team.leads:
            folder.quarantine(loop.progress.step)
        outcome = _learn(config, folder, loop, logged_bytes(checkpoint), team)
        if team.leads:
            shutil.rmtree(folder.particles)  # the checkpoint holds them
    return outcome


def _learn(
    config: TrainConfig, folder: RunFolder, loop: ImageLoop, length: int, team: Team
) -> ImageOutcome:
    """Learn until something ends the run; one that has ended already gains nothing."""
    step = loop.progress.step
    if step >= loop.total_steps and loop.progress.validated == step:
        return ImageOutcome("finished", folder, {}, step, 0.0)
    if not team.leads:
        return ImageRun(config, folder, loop, None, team).run()
    with MetricsLog(folder.path, length=length, step=step) as log:
        if step == 0:
            log.text("config", yaml.safe_dump(asdict(config), sort_keys=False))
            log.text("model", folder.model())
            log.settings(asdict(config), kind="images")
        return ImageRun(config, folder, loop, log, team).run()


def make_loop(config: TrainConfig, particles: Path | None = None, team: Team = ALONE) -> ImageLoop:
    """A loop at its first step, with its data loaded and its particles drawn.

    Args:
        config: of the run.
        particles: folder of the memory-mapped particles; None keeps them in memory.
        team: the processes that share the learning.

    Raises:
        UserError: the configuration cannot be met.
        OSError: there is no room for the particles.
    """
    data = make_data(config)
    return ImageLoop(config, make_model(config, data).to(config.device), data, particles, team)


class ImageRun:
    """A loop together with its files.

    Args:
        config: of the run.
        folder: where checkpoints go.
        loop: restored from the newest checkpoint.
        log: where numbers go; None in processes that follow.
        team: the processes that share the run.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        loop: ImageLoop,
        log: MetricsLog | None,
        team: Team = ALONE,
    ) -> None:
        self.config = config
        self.folder = folder
        self.loop = loop
        self.log = log
        self.team = team
        self.start = time.monotonic()
        self.saved = loop.progress.step
        self.numbers: dict[str, float] = {}

    def run(self) -> ImageOutcome:
        """Step until something ends the run."""
        loop = self.loop
        with (
            interruptible() as interruption,
            LiveProgress(
                loop.total_steps, done=loop.progress.step, shown=self.team.leads
            ) as progress,
        ):
            while (reason := self.team.agreed(self._reason_to_stop(interruption))) is None:
                self._step()
                progress.update(loop.progress.step, self.numbers)
        if reason == "finished" and loop.progress.validated != loop.progress.step:
            self._validate()
        self._save()
        if self.log is not None:
            save_learning_curve(self.folder.path, "images")
        return ImageOutcome(
            reason,
            self.folder,
            self.numbers,
            loop.progress.step,
            time.monotonic() - self.start,
            interruption.signal,
        )

    def _reason_to_stop(self, interruption: Interruption) -> str | None:
        minutes = (time.monotonic() - self.start) / 60
        reasons: dict[str, bool] = {
            "interrupted": interruption.requested,
            "finished": self.loop.progress.step >= self.loop.total_steps,
            "out of time": self.config.max_minutes is not None
            and minutes >= self.config.max_minutes,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def _step(self) -> None:
        try:
            self.loop.step()
        except InferenceError as error:
            raise LearningError(
                f"{error} The newest checkpoint is of step {self.saved}."
            ) from error
        step = self.loop.progress.step
        if step % self.config.log_every == 0:
            record = self.loop.averages.take()
            self.numbers["log joint"] = record["learning/log_joint"]
            if self.log is not None:
                self.log.scalars(step, record)
        if self.config.picture_every and step % self.config.picture_every == 0:
            self._validate()
        if step % self.config.checkpoint_every == 0:
            self._save()

    def _validate(self) -> None:
        """Infer held-out images afresh; record how well they are explained, and show them."""
        step = self.loop.progress.step
        self.loop.progress.validated = step
        if self.log is None:
            return
        images = self.loop.images
        engine = make_engine(
            self.config, self.loop.model, seed=derive(self.config.seed, IMAGE_VALIDATION)
        )
        held_out = unit(self.loop.data.test[: images.validation_images]).to(self.config.device)
        found, ess = infer_watched(engine, held_out, images.validation_sweeps)
        numbers = measured(find_metrics("images.metrics", images.metrics), found)
        record = {f"valid/{name}": value for name, value in numbers.items()}
        self.log.scalars(step, {**record, "inference/ess": ess})
        self.numbers |= numbers
        self._show(
            self.log, "reconstructions", torch.cat([found.images[:SHOWN], found.means[:SHOWN]])
        )
        self._show(self.log, "samples", sample_prior(engine, 4 * SHOWN))

    def _show(self, log: MetricsLog, name: str, images: torch.Tensor) -> None:
        picture = captioned(image_grid(images.cpu().numpy(), columns=SHOWN), CAPTIONS[name])
        save(self.folder.path / "figures" / f"{name}.png", png_bytes(picture))
        log.picture(self.loop.progress.step, f"valid/{name}", picture)

    def _save(self) -> None:
        """Write a checkpoint; what was there stays if there is no room."""
        state = self.loop.state()  # in which all processes take part
        if self.log is not None:
            content = {**state, "metrics_length": self.log.length()}
            self.folder.save_checkpoint(self.loop.progress.step, content)
        self.saved = self.loop.progress.step
