"""A discrete model in arrays A, B, C, D, E, laid out as in pymdp, and the graph that it declares.

Factors f of hidden states, modalities m of outcomes, one number of actions U_f for each factor:

    A[m] (O_m, S_f ..)        p(outcome | states of A_dependencies[m])
    B[f] (S_f, S_f' .., U_f)  p(state | states of B_dependencies[f] before, action)
    C[m] (O_m,)               log preferences, nats up to a constant
    D[f] (S_f,)               p(first state of an episode)
    E    (U,)                 prior probability of each action, a habit

`pA`, `pB` and `pD` are Dirichlet counts of the same shapes: tables that have them are latent, learned
from all episodes. So are a habit with counts `pE`, learned from what the agent chooses, and log
preferences with counts `pC`, learned from what it is told to want (see `DiscreteAgent`). Actions of
several factors are one number, the last factor's running fastest.

References: Heins et al. (2022), "pymdp", arXiv 2201.03904; Da Costa et al. (2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, Distribution, Independent

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference import GraphicalModel, lag
from aif_dcpc.inference.moves.conjugate import look_up

Arrays = Sequence[Any]
ACTION = "u"
RESET = "reset"


@dataclass(frozen=True, kw_only=True)
class DiscreteModel:
    """Arrays of a discrete model, checked.

    Attributes:
        A, B, C, D, E: see the module; C is indifferent, D and E are even where they are left out; C
            and E are not read where they have counts.
        A_dependencies: modality -> factors that it reads; all of them by default.
        B_dependencies: factor -> factors that it reads; itself by default.
        pA, pB, pC, pD, pE: Dirichlet counts of what is learned.

    Raises:
        AgentError: for arrays that do not fit each other, or whose columns do not sum to 1.
    """

    A: Arrays
    B: Arrays
    C: Arrays | None = None
    D: Arrays | None = None
    E: Any = None
    A_dependencies: Sequence[Sequence[int]] | None = None
    B_dependencies: Sequence[Sequence[int]] | None = None
    pA: Arrays | None = None
    pB: Arrays | None = None
    pC: Arrays | None = None
    pD: Arrays | None = None
    pE: Any = None

    def __post_init__(self) -> None:
        for letter in ("A", "B", "C", "D", "pA", "pB", "pC", "pD"):
            given = getattr(self, letter)
            arrays = None if given is None else tuple(np.array(x, float) for x in given)
            object.__setattr__(self, letter, arrays)
        every = range(len(self.B))
        self._default("A_dependencies", tuple(tuple(every) for _ in self.A))
        self._default("B_dependencies", tuple((f,) for f in every))
        self._default("C", tuple(np.zeros(len(table)) for table in self.A))
        self._default("D", tuple(np.full(n, 1 / n) for n in self.num_states))
        self._default("E", np.full(self.num_actions, 1 / self.num_actions))
        object.__setattr__(self, "E", np.array(self.E, float))
        if self.pE is not None:
            object.__setattr__(self, "pE", np.array(self.pE, float))
        self._check_numbers()
        self._check()

    def _default(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    def _check_numbers(self) -> None:
        """Refuse more or fewer arrays than modalities or factors, and factors that are read but unknown."""
        sizes = {"A": len(self.A), "B": len(self.B)}
        of = {"C": "A", "D": "B", "pA": "A", "pB": "B", "pC": "A", "pD": "B"}
        reads = {"A_dependencies": "A", "B_dependencies": "B"}
        for name, like in {**of, **reads}.items():
            given = getattr(self, name)
            if given is not None and len(given) != sizes[like]:
                raise AgentError(
                    f"{name}: expected {sizes[like]} entries, as many as {like} has, found {len(given)}."
                )
        for name in reads:
            for n, factors in enumerate(getattr(self, name)):
                if not set(factors) <= set(range(len(self.B))):
                    raise AgentError(
                        f"{name}[{n}]: expected factors from 0 to {len(self.B) - 1}, found "
                        f"{list(factors)}."
                    )

    def _check(self) -> None:
        """Refuse arrays that do not fit."""
        sizes = self.num_states
        of = (self.A, self.B, self.C, self.D, self.A_dependencies, self.B_dependencies)
        a, b, c, d, reads_a, reads_b = (tuple(x or ()) for x in of)
        for m, table in enumerate(a):
            _check_table(f"A[{m}]", table, (len(table), *(sizes[f] for f in reads_a[m])))
            _check_shape(f"C[{m}]", c[m], (len(table),))
        for f, table in enumerate(b):
            before = tuple(sizes[g] for g in reads_b[f])
            _check_table(f"B[{f}]", table, (sizes[f], *before, table.shape[-1]))
            _check_table(f"D[{f}]", d[f], (sizes[f],))
        _check_table("E", self.E, (self.num_actions,))
        self._check_all_counts()

    def _check_all_counts(self) -> None:
        for letter in ("A", "B", "C", "D"):
            for n, counts in enumerate(getattr(self, f"p{letter}") or ()):
                _check_counts(f"p{letter}[{n}]", counts, getattr(self, letter)[n].shape)
        if self.pE is not None:
            _check_counts("pE", self.pE, self.E.shape)

    @property
    def num_states(self) -> tuple[int, ...]:
        """Number of states of each factor, S_f."""
        return tuple(len(table) for table in self.B)

    @property
    def num_controls(self) -> tuple[int, ...]:
        """Number of actions of each factor, U_f."""
        return tuple(table.shape[-1] for table in self.B)

    @property
    def num_actions(self) -> int:
        """Number of joint actions, U."""
        return prod(self.num_controls)

    @property
    def preferences(self) -> dict[str, Tensor]:
        """Outcome site -> log preferences, as an `ActiveInferenceAgent` takes them."""
        return {f"o_{m}": torch.tensor(c).float() for m, c in enumerate(self.C or ())}

    def controls(self, action: int) -> tuple[int, ...]:
        """Action of each factor in a joint action."""
        return tuple(int(u) for u in np.unravel_index(action, self.num_controls))

    # -- the graph ---------------------------------------------------------------------------------

    def graphical_model(self, reset: str = RESET) -> GraphicalModel:
        """Declare one episode: sites `s_f` and `o_m`, input `u`, learned tables A_m, B_f, D_f.

        Args:
            reset: name that an agent gives to the input that tells where episodes begin.
        """
        model = GraphicalModel()
        model.add_input(ACTION)
        for letter, child in (("A", "o"), ("B", "s"), ("D", "s")):
            for n, counts in enumerate(getattr(self, f"p{letter}") or ()):
                self._add_table(model, letter, n, counts, f"{child}_{n}", reset)
        for f in range(len(self.B)):
            self._add_state(model, f)
        for m, table in enumerate(self.A):
            reads = [f"s_{f}" for f in (self.A_dependencies or ())[m]]
            learned = [f"A_{m}"] if self.pA else []
            kernel = _Row(_rows_first(table), len(learned), (1,) * len(reads), ())
            model.add_site(f"o_{m}", kernel, [*learned, *reads], scope="slice")
        return model

    def _add_table(
        self, model: GraphicalModel, letter: str, n: int, counts: Floats, child: str, reset: str
    ) -> None:
        """Add a learned table, drawn exactly by its counts."""
        prior = _rows_first(counts).clamp_min(1e-6)
        name = f"{letter}_{n}"
        axes = prior.ndim - 1
        model.add_site(
            name,
            lambda: Independent(Dirichlet(prior), axes) if axes else Dirichlet(prior),
            scope="global",
        )
        reads = (self.A_dependencies if letter == "A" else self.B_dependencies) or ()
        rows = () if letter == "D" else tuple(f"s_{f}" for f in reads[n])
        stride = prod(self.num_controls[n + 1 :])
        stride = stride if letter == "B" else 1
        table = _CountedTable(name, child, rows, letter, prior, stride, self._width(n), reset)
        model.add_conditional((name,), table)

    def _width(self, f: int) -> int:
        return self.num_controls[f] if f < len(self.num_controls) else 1

    def _add_state(self, model: GraphicalModel, f: int) -> None:
        """Add one factor of the hidden state."""
        before = [lag(f"s_{g}") for g in (self.B_dependencies or ())[f]]
        learned = [name for name, given in ((f"B_{f}", self.pB), (f"D_{f}", self.pD)) if given]
        stride = prod(self.num_controls[f + 1 :])
        first = _rows_first((self.D or ())[f])
        model.add_site(
            f"s_{f}",
            _Row(
                _rows_first(self.B[f]),
                int(bool(self.pB)),
                (*(1,) * len(before), stride),
                (0,) * len(before) + (self.num_controls[f],),
                skips=int(bool(self.pD)),
            ),
            [*learned, *before, lag(ACTION)],
            initial=_First(first, learned.index(f"D_{f}") if self.pD else None),
            scope="slice",
        )


@dataclass(frozen=True)
class _Row:
    """Categorical with the row of a table that integer parents name.

    Attributes:
        table: `(*rows, M)`, used where there is no learned one.
        learned: 1 where the first parent is the table.
        strides, sizes: a parent p names row (p // stride) % size, or p itself where size is 0.
        skips: how many parents after the table are not read.
    """

    table: Tensor
    learned: int
    strides: tuple[int, ...]
    sizes: tuple[int, ...]
    skips: int = 0

    def __call__(self, *values: Tensor) -> Distribution:
        rows = [value.long() for value in values[self.learned + self.skips :]]
        for n, size in enumerate(self.sizes):
            if size:
                rows[n] = (rows[n] // self.strides[n]) % size
        if self.learned:
            return Categorical(look_up(values[0], *torch.broadcast_tensors(*rows)))
        return Categorical(self.table[tuple(torch.broadcast_tensors(*rows))])


@dataclass(frozen=True)
class _First:
    """Categorical of a factor's first state: a constant, or the learned table among the parents."""

    table: Tensor
    place: int | None

    def __call__(self, *values: Tensor) -> Distribution:
        return Categorical(self.table if self.place is None else values[self.place])


@dataclass(frozen=True)
class _CountedTable:
    """Draw a table exactly: Dirichlet(prior + uses of each entry) (Gelman et al. 2013, 3.4).

    Attributes:
        site, child: the table, and the site whose kernel it is.
        rows: parents of the child that name its row.
        letter: "A", "B" or "D": outcomes of every slice, later states, or first states of episodes.
        prior: `(*rows, M)`.
        stride, width: the action of the factor is (u // stride) % width.
        reset: name of the input that is 1 where an episode begins, in a model of a whole life.
    """

    site: str
    child: str
    rows: tuple[str, ...]
    letter: str
    prior: Tensor
    stride: int
    width: int
    reset: str

    def __call__(
        self, values: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        now, rows, counted = self._used(values)
        index = torch.zeros_like(now)
        for row, size in zip(rows, self.prior.shape[:-1], strict=True):
            index = index * size + row
        index = index * self.prior.shape[-1] + now
        number = values[self.site].shape[0]
        shape = torch.broadcast_shapes(index.shape, counted.shape, (number, 1, 1))
        flat = index.expand(shape).reshape(number, -1)
        used = counted.expand(shape).reshape(number, -1).to(self.prior.dtype)
        counts = torch.zeros(number, self.prior.numel(), dtype=self.prior.dtype)
        counts = counts.scatter_add(1, flat, used).view(number, *self.prior.shape)
        drawn = torch._sample_dirichlet(self.prior + counts, generator=generator)
        return {self.site: drawn[:, None].to(values[self.site].dtype)}

    def _used(self, values: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
        """Values of the child, its rows, and whether the table was used, `(K or 1, B, T)`."""
        now = values[self.child].long()
        begins = torch.zeros_like(now[:1], dtype=torch.bool)
        begins[..., :1] = True
        if self.reset in values:
            begins = begins | (values[self.reset] > 0)
        rows = [values[name].long() for name in self.rows]
        if self.letter == "A":
            return now, rows, torch.ones_like(begins)
        if self.letter == "D":
            return now, [], begins
        rows = [*rows, (values[ACTION].long() // self.stride) % self.width]
        return now[..., 1:], [row[..., :-1] for row in rows], ~begins[..., 1:]


def _rows_first(table: Floats) -> Tensor:
    """Lay a table `(M, *rows)` out as `(*rows, M)`."""
    return torch.tensor(np.moveaxis(table, 0, -1)).float()


def _check_shape(name: str, array: Floats, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise AgentError(f"{name}: expected shape {shape}, found {array.shape}.")


def _check_table(name: str, table: Floats, shape: tuple[int, ...]) -> None:
    _check_shape(name, table, shape)
    if not ((table >= 0).all() and np.allclose(table.sum(0), 1, atol=1e-5)):
        raise AgentError(f"{name}: columns are probabilities that sum to 1 along the first axis.")


def _check_counts(name: str, counts: Floats, shape: tuple[int, ...]) -> None:
    _check_shape(name, counts, shape)
    if not (counts >= 0).all() or not (counts.sum(0) > 0).all():
        raise AgentError(f"{name}: Dirichlet counts are at least 0, with some in every column.")
