"""The belief over a finite model's present state, from a cloud: exact where its history is told.

Filtering begins where an episode begins, with the state's own law, or where the cloud has been cut,
with the states of its particles there. What follows is exact for each particle's parameters
(Rao-Blackwellised), so that of the belief over a whole episode nothing is a count of particles but
what is believed of parameters. Where there are none, it is the exact filter, and carried along: the
belief of the slice before is looked up, not computed again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.kernel_tables import MAX_ENTRIES, indices
from aif_dcpc.agents.planners.finite_reading import Reading, Tables
from aif_dcpc.inference.model.factor_graph import Argument

REMEMBERED = 64  # beliefs that are carried along, of as many worlds
Key = tuple[bytes, ...]


@dataclass(frozen=True)
class FilteredBelief:
    """The belief over the last slice's state, `(S,)`.

    Args:
        reading: the finite model behind a cloud.
    """

    reading: Reading
    _tables: dict[Key, Tables] = field(default_factory=dict, init=False, repr=False)

    def belief(self) -> Floats:
        """Filter from the latest slice that tells all, or from the beginning of what is held.

        Raises:
            AgentError: what was seen is impossible under every particle.
        """
        last = self.reading.state.length - 1
        if set(self.reading.told) == set(self.reading.factors) and not self.reading.state.masks:
            return self._at_particles(last)[0]
        start, chances = self._start()
        chances = _once(chances)
        if self.reading.varies or self.reading.state.masks:
            return self._averaged(self._filtered(chances, start, last))
        return self._averaged(self._carried(chances, start, last))

    def _filtered(self, chances: Floats, start: int, last: int) -> Floats:
        """Take beliefs `(K or 1, S)` from slice `start` to slice `last`."""
        for t in range(start + 1, last + 1):
            chances = self._seen(self._moved(chances, t), t)
        return chances

    def _carried(self, chances: Floats, start: int, last: int) -> Floats:
        """Do the same from the belief of this slice or of the one before, where it is remembered."""
        known = self.reading.memory.carried
        keys = [chances.tobytes() + self._told(start, t) for t in (last, last - 1)]
        steps = next((n for n, key in enumerate(keys) if key in known), None)
        if steps is None or last - steps < start:
            found = self._filtered(chances, start, last)
        else:
            found = self._filtered(known[keys[steps]], last - steps, last)
        known[keys[0]] = found
        while len(known) > REMEMBERED:
            del known[next(iter(known))]
        return found

    def _told(self, start: int, last: int) -> bytes:
        """All that the filter reads of slices `start` to `last`, whose own action nobody reads."""
        reading = self.reading
        names = {*reading.told, *reading.leaves, *(a.site for a in reading.inputs)}
        begins = max(start - 1, 0)
        parts = [reading.state.value(name)[0, 0, begins : last + 1] for name in sorted(names)]
        parts.append(reading.state.values[reading.action][0, 0, begins:last])
        return b"".join(part.cpu().numpy().tobytes() for part in parts)

    def _averaged(self, chances: Floats) -> Floats:
        """Average the beliefs `(K or 1, S)` of particles that allow for what was seen."""
        weights = (chances.sum(1) > 0).astype(float)
        if len(chances) > 1:
            weights = weights * self.weights
        if not weights.any():
            raise AgentError(
                "what was seen is impossible under every particle's tables; use more particles or "
                "more sweeps, or allow for it in a kernel."
            )
        found: Floats = weights @ chances / weights.sum()
        return found

    # -- where to begin ----------------------------------------------------------------------------

    def _start(self) -> tuple[int, Floats]:
        """Return the slice to begin with, and the belief there, `(K or 1, S)`."""
        begins = self._last_reset()
        if begins is None:
            return 0, self._at_particles(0)
        if begins == 0:
            tables = self.reading.tables(self.given(0), first=True)
            return 0, self._seen(self.reading.first_belief(tables), 0, tables)
        before = self._at_particles(begins - 1)
        return begins, self._seen(self._moved(before, begins), begins)

    def _last_reset(self) -> int | None:
        """Return the slice in which the running episode began; None where it has been cut off.

        A series of more slices than `state.last` leaves has not been cut, nor one of fewer.
        """
        state = self.reading.state
        resets = state.values.get(self.reading.situation.reset)
        if resets is not None:
            found = torch.nonzero(resets[0, 0].flatten() > 0)
            return int(found[-1]) if len(found) else None
        longest = max((factor.start for factor in self.reading.graph.factors), default=0)
        return None if state.length == 1 + 2 * longest else 0

    def _at_particles(self, t: int) -> Floats:
        """Put all belief on each particle's own state in a slice, `(K, S)`."""
        state = self.reading.state
        found = np.zeros(state.num_particles, np.int64)
        for name, size in zip(self.reading.factors, self.reading.sizes, strict=True):
            value = state.value(name)[:, 0]
            value = value if name in self.reading.kept else value[:, t]
            own = indices(self.reading.values[name], value).cpu().numpy()
            found = found * size + own
        return np.eye(self.reading.num_states)[found]

    # -- one slice ---------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> Floats:
        """Normalised weights of the particles, `(K,)`."""
        found: Floats = self.reading.state.weights()[:, 0].double().cpu().numpy()
        return found

    def given(self, t: int) -> dict[Argument, Tensor]:
        """Values of the other inputs that slice t reads."""
        values = self.reading.state.values
        return {a: values[a.site][0, 0, max(t - a.lag, 0)] for a in self.reading.inputs}

    def tables_at(self, given: Mapping[Argument, Tensor]) -> Tables:
        """Tables of a slice, read once for all slices with the same inputs."""
        key = tuple(value.cpu().numpy().tobytes() for value in given.values())
        if key not in self._tables:
            self._tables[key] = self.reading.tables(given)
        return self._tables[key]

    def _moved(self, chances: Floats, t: int) -> Floats:
        """Predict slice t from beliefs `(K or 1, S)` in the slice before.

        Where tables of all particles together would be too large, they are averaged.
        """
        reading = self.reading
        action = reading.state.values[reading.action][0, 0, t - 1]
        index = int(indices(reading.values[reading.action], action))
        tables = self.tables_at(self.given(t))
        if reading.num_states**2 * len(self.weights) > MAX_ENTRIES:
            tables = {name: table.mean(self.weights) for name, table in tables.items()}
        tables = {name: table.taken(reading.chosen, index) for name, table in tables.items()}
        moves = reading.transitions(tables)[:, 0]
        found: Floats = (chances[:, None] @ moves)[:, 0]
        return found

    def _seen(self, predicted: Floats, t: int, tables: Tables | None = None) -> Floats:
        """Condition beliefs `(K or 1, S)` on what is seen in slice t; 0 where it is impossible."""
        reading = self.reading
        tables = self.tables_at(self.given(t)) if tables is None else tables
        for name in (*reading.told, *reading.leaves):
            mask = reading.state.masks.get(name)
            if mask is not None and not bool(mask[0, 0, t].all()):
                continue
            index = int(indices(reading.values[name], reading.state.value(name)[0, 0, t]))
            told = name in reading.told
            table = reading.identity(name)[None] if told else reading.likelihood(tables[name])
            predicted = predicted * table[:, :, index]
        total = predicted.sum(1, keepdims=True)
        return predicted / np.where(total > 0, total, 1.0)


def _once(chances: Floats) -> Floats:
    """Keep one of beliefs `(K, S)` that are all the same."""
    return chances[:1] if (chances == chances[:1]).all() else chances
