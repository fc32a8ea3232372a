"""One life as one series: what was seen and done in all episodes, and the cloud over what it hides.

Slice t holds what was observed at t and the action chosen after it. What follows from the action
stands in slice t + 1, whose kernels read it by `lag`. Episodes follow each other: the input `reset`
is 1 at the first slice of each and 0 elsewhere, and kernels start anew there (see `one_life`). What
is global is learned from all episodes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference import DCPC, State
from aif_dcpc.inference.archive import pack, unpack
from aif_dcpc.inference.model.data_rows import of_data
from aif_dcpc.inference.model.resampling import resample_lineages
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.smc.recent import hold_timeless
from aif_dcpc.misspelt import unknown_name

Streams = Mapping[str, Tensor]  # stream -> (B, *shape)
Reader = str | Callable[[Streams], Tensor]  # a stream's name, or a function of all streams


class Life:
    """A history that grows by a slice a step, inferred afresh each time.

    Args:
        engine: of the agent's model.
        observed: site or input -> the stream that tells its value, or a function of the streams
            `(B, *shape)` that returns `(B, *event)`. Beside those of the environment there are
            `reward` (float) and `terminated` (0 or 1), of the action before.
        action: name of the input that holds actions.
        placeholder: `(*event)` what stands for an action that has not been chosen yet.
        reset: name of the input that says where episodes begin.
        num_sweeps: sweeps of the full history at each step.
        window: sweep only about the last so many slices, with everything before them held, and
            global sites as well until the series has grown by a fortieth; None sweeps all.

    Raises:
        AgentError: the model lacks what is named, or something is not told.
    """

    def __init__(
        self,
        engine: DCPC,
        *,
        observed: Mapping[str, Reader],
        action: str,
        placeholder: Tensor,
        reset: str,
        num_sweeps: int = 2,
        window: int | None = None,
    ) -> None:
        self.engine = engine
        self.observed = dict(observed)
        self.action = action
        self.placeholder = placeholder
        self.reset = reset
        self.num_sweeps = num_sweeps
        self.window = window
        self.state: State | None = None
        self.learned: State | None = None
        self.lengths = torch.zeros(1, dtype=torch.int64)
        self.frozen = False
        self.acceptance: dict[str, float] = {}
        self._check()

    def _check(self) -> None:
        """Refuse a model that lacks what is named, or inputs that nobody tells."""
        sites = self.engine.model.sites
        inputs = [name for name, site in sites.items() if site.kind == "input"]
        for name in (self.action, self.reset):
            if name not in inputs:
                raise AgentError(unknown_name("input", name, inputs))
        for name in self.observed:
            if name not in sites:
                raise AgentError(unknown_name("observed site", name, sites))
        untold = set(inputs) - {self.action, self.reset, *self.observed}
        if untold:
            raise AgentError(
                f"input {min(untold)!r}: nothing tells its value; say which stream does with "
                f"observed={{{min(untold)!r}: STREAM}}."
            )

    # -- one step ----------------------------------------------------------------------------------

    @property
    def episode_length(self) -> int:
        """Slices of the longest running episode."""
        return int(self.lengths.max())

    def begin(self, generator: torch.Generator, rows: Tensor | None = None) -> None:
        """Begin an episode; what was only evaluated since all began together is forgotten.

        Args:
            generator: source of randomness from now on.
            rows: `(B,)` True for each of B worlds in which one begins; None for a single world.

        Raises:
            AgentError: a life that is learned from is of another number of worlds.
        """
        self.engine.generator = generator
        rows = torch.ones(1, dtype=torch.bool) if rows is None else rows
        if len(rows) != len(self.lengths):
            self.lengths = torch.zeros(len(rows), dtype=torch.int64)
        self.lengths = torch.where(rows, 0, self.lengths)
        if self.frozen and bool(rows.all()):
            self.state = self.learned
        if self.state is not None and self.state.batch_size != len(rows):
            self.state = self._of_worlds(self.state, len(rows))

    def _of_worlds(self, state: State, number: int) -> State:
        """Let so many frozen worlds go on from the first one's history."""
        if not self.frozen:
            raise AgentError(
                f"num_envs={number}: this agent has learned in {state.batch_size} worlds at a time, "
                f"and goes on learning in as many: num_envs={state.batch_size}."
            )
        return of_data(state, torch.zeros(number, dtype=torch.int64))

    def observe(self, streams: Streams) -> State:
        """Append what is seen, `(B, *shape)`, and sweep the history; returns the cloud."""
        new = self._slice(streams)
        state = self._begun(new) if self.state is None else self.engine.append(self.state, new)
        self.lengths = self.lengths + 1
        self.state = self._swept(state)
        return self.state

    def _slice(self, streams: Streams) -> dict[str, Tensor]:
        """Site or input -> its value in the new slice, `(B, *event)`."""
        new = {name: _read(name, reader, streams) for name, reader in self.observed.items()}
        new[self.action] = self.placeholder.expand(len(self.lengths), *self.placeholder.shape)
        new[self.reset] = (self.lengths == 0).long()
        return new

    def _begun(self, new: Mapping[str, Tensor]) -> State:
        """Make the cloud over the first slice."""
        sites = self.engine.model.sites
        data = {
            name: value if sites[name].period is None else value[:, None]
            for name, value in new.items()
        }
        return self.engine.init(data, length=1)

    def _swept(self, state: State) -> State:
        """Sweep the full history or the window of it; of a frozen life this episode alone."""
        if self.frozen:
            part, info = self._run(hold_timeless(state), self.episode_length)
            swept = part.replace(conditioning=state.conditioning)
        else:
            swept, info = self._run(state, self.window)
        self.acceptance = {name: float(share) for name, share in info.acceptance.items()}
        return swept

    def _run(self, state: State, recent: int | None) -> tuple[State, Info]:
        """Make the sweeps of one step."""
        if self.window is not None and recent is not None:
            recent = min(recent, self.window)
        with torch.no_grad():
            return self.engine.run(state, self.num_sweeps, recent=recent)

    def act(self, action: Tensor) -> None:
        """Note the action `(B, *event)` that is taken after what was seen last."""
        assert self.state is not None
        self.state = self.state.set_input(self.action, action)

    def present(self, generator: torch.Generator) -> State:
        """Return the cloud over the last slices, its weights made equal by resampling lineages."""
        assert self.state is not None
        return resample_lineages(self.state.last(), generator, threshold=2.0)

    def history(self) -> State:
        """Return the cloud over the running episodes and what their first slices read, weighted."""
        assert self.state is not None
        return self.state.last(max(self.episode_length, 1))

    # -- learning, keeping -------------------------------------------------------------------------

    def freeze(self, frozen: bool) -> None:
        """Keep what is learned from now on as it is, or go on learning from there."""
        if frozen and not self.frozen:
            self.learned = self.state
        if self.frozen and not frozen:
            self.state = self.learned
        self.frozen = frozen

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {
            "state": None if self.state is None else pack(self.state),
            "learned": None if self.learned is None else pack(self.learned),
            "lengths": self.lengths.clone(),
            "frozen": self.frozen,
        }

    def load_state_dict(self, packed: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.state = self._unpacked(packed["state"])
        self.learned = self._unpacked(packed["learned"])
        self.lengths = packed["lengths"].clone()
        self.frozen = bool(packed["frozen"])

    def _unpacked(self, packed: Mapping[str, Any] | None) -> State | None:
        """Make a cloud again beside one over a first slice like that of this life."""
        if packed is None:
            return None
        return unpack(packed, like=self._like(packed))

    def _like(self, packed: Mapping[str, Any]) -> State:
        """Make a cloud over the first slice of a packed one."""
        values = dict(packed["values"]["items"])
        sites = self.engine.model.sites
        told = {*self.observed, self.action, self.reset}
        data = {
            name: values[name][0] if sites[name].period is None else values[name][0, :, :1]
            for name in told
        }
        generator = self.engine.generator
        like = self.engine.init(data, length=1, seed=0)
        self.engine.generator = generator
        return like


def _read(name: str, reader: Reader, streams: Streams) -> Tensor:
    """Read the value of a site from the streams, `(B, *event)`.

    Raises:
        AgentError: there is no such stream.
    """
    if callable(reader):
        return reader(streams)
    if reader not in streams:
        raise AgentError(f"site {name!r}: {unknown_name('stream', reader, streams)}")
    return streams[reader]
