"""Every registered move through one checklist: it keeps the exact joint distribution, and it never waits for the device.

A move registered in `schedule.KINDS` is picked up unaided: what it `needs` says on which of the
models below it is tried.
"""

import sys

import pytest
import torch
from synchronisation import NoSynchronisation
from torch.distributions import Bernoulli, Categorical, Gamma, Independent, Normal
from torch.utils._python_dispatch import TorchDispatchMode

from aif_dcpc.inference import DCPC, GraphicalModel, MoveError, every, lag
from aif_dcpc.inference.checks.geweke import joint_test
from aif_dcpc.inference.moves.chunks import Chunks
from aif_dcpc.inference.moves.independence import FromBank, MixtureProposal
from aif_dcpc.inference.moves.passes import StridedUpdate
from aif_dcpc.inference.moves.schedule import KINDS

EXACT = [kind for kind, known in KINDS.items() if known.is_exact]


def static() -> tuple[GraphicalModel, str]:
    """A skewed two-dimensional site with two children."""
    loc, one = torch.tensor([0.0, 1.0]), torch.ones(())
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(loc, one), 1))
    model.add_site(
        "x", lambda z: Normal(z.select(-1, 0) * torch.exp(0.5 * z.select(-1, 1)), 0.7 * one), ["z"]
    )
    model.add_site("y", lambda z: Bernoulli(logits=2 * z.select(-1, 1)), ["z"])
    return model, "z"


def constrained() -> tuple[GraphicalModel, str]:
    """A positive site."""
    two, one = torch.full((), 2.0), torch.ones(())
    model = GraphicalModel()
    model.add_site("z", lambda: Gamma(two, one))
    model.add_site("x", lambda z: Normal(torch.zeros_like(z), z), ["z"])
    return model, "z"


def series() -> tuple[GraphicalModel, str]:
    """A nonlinear chain under a slower level."""
    zero, one = torch.zeros(()), torch.ones(())
    model = GraphicalModel()
    model.add_site("c", lambda: Normal(zero, 0.5 * one), scope=every(2))
    model.add_site(
        "z",
        lambda z, c: Normal(torch.sin(z) + 0.5 * z + c, 0.6 * one),
        [lag("z"), "c"],
        initial=lambda c: Normal(c, one),
        scope="slice",
    )
    model.add_site("x", lambda z: Normal(z.square() / 4, 0.5 * one), ["z"], scope="slice")
    return model, "z"


def discrete() -> tuple[GraphicalModel, str]:
    """A hidden Markov chain of three values."""
    start, half = torch.tensor([0.5, 0.3, 0.2]), torch.full((), 0.5)
    move = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
    model = GraphicalModel()
    model.add_site(
        "z",
        lambda z: Categorical(move[z]),
        [lag("z")],
        initial=lambda: Categorical(start),
        scope="slice",
    )
    model.add_site("x", lambda z: Normal(z.float(), half), ["z"], scope="slice")
    return model, "z"


def tokens() -> tuple[GraphicalModel, str]:
    """A discrete site without time, with an event of its own."""
    table, scale = torch.tensor([[0.2, 0.8], [0.6, 0.4]]), torch.full((), 0.8)
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Categorical(table), 1))
    model.add_site("x", lambda z: Normal(z.sum(-1).float(), scale), ["z"])
    return model, "z"


MODELS = {f.__name__: f for f in (static, constrained, series, discrete, tokens)}
EXAMPLES = {  # what a move needs -> models whose site "z" has it
    "score": ("static", "constrained", "series"),
    "finite": ("discrete", "tokens"),
    "integer": ("discrete", "tokens"),
    "chain": ("discrete",),
    "density": tuple(MODELS),
}
PAIRS = [(kind, name) for kind, known in KINDS.items() for name in EXAMPLES[known.needs]]
SERIES = [(kind, name) for kind, name in PAIRS if name in ("series", "discrete")]


def observed(model: GraphicalModel, batch: int) -> dict[str, torch.Tensor]:
    timed = any(s.period for s in model.sites.values())
    drawn = (
        DCPC(model, num_particles=1)
        .init(batch_size=batch, length=6 if timed else None, seed=5)
        .natural
    )
    return {n: v[0] for n, v in drawn.items() if not model.children_of(n)}


def chosen(kind: str, name: str, window: int, length: int = 14) -> tuple:
    """The moves of one cycle of sweeps, by a kind on a model with time."""
    model, site = MODELS[name]()
    engine = DCPC(model, num_particles=2, moves={site: kind}, window=window)
    return engine.schedule(engine.init({"x": torch.zeros(1, length)})).cycle


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_refused_where_its_need_is_not_met(kind):
    for name, build in MODELS.items():
        if name not in EXAMPLES[KINDS[kind].needs]:
            with pytest.raises(MoveError, match="needs a site with"):
                DCPC(build()[0], moves={"z": kind})


# -- stationarity ----------------------------------------------------------------------------------


def disturbances(kind: str, name: str, *, rounds: int = 5) -> list[str]:
    replicates = 300 if KINDS[kind].needs == "integer" else 3000  # jumps are many evaluations
    model, site = MODELS[name]()
    moves = {site: kind, **({"c": kind} if name == "series" else {})}
    return joint_test(
        model, observed(model, 2), moves=moves, replicates=replicates, num_sweeps=rounds, seed=0
    )


@pytest.mark.parametrize("kind, name", [p for p in PAIRS if p[0] in EXACT])
def test_sweeps_from_exact_draws_stay_exact(kind, name):
    """Geweke's joint test; a right move fails it once in 1e5 pairs of seeds."""
    assert disturbances(kind, name) == []


WINDOWED = [
    k
    for k in EXACT
    if ("series" in EXAMPLES[KINDS[k].needs]) and chosen(k, "series", 4) != chosen(k, "series", 1)
]


def test_windows_are_used():
    assert {"langevin", "block"} <= set(WINDOWED)


@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_and_the_slices_between_them_stay_exact(kind, monkeypatch):
    """As above, with windows of four: the rounds go through a whole cycle of sweeps."""
    model, site = series()
    data = {"x": torch.zeros(1, 14)}
    options = {"moves": {site: kind}, "replicates": 5000, "seed": 0, "window": 4}
    assert joint_test(model, data, num_sweeps=5, **options) == []
    if kind == "langevin":  # and proposals to one side alone are noticed
        move = StridedUpdate.move
        monkeypatch.setattr(StridedUpdate, "move", lambda self, jump: move(self, jump.abs()))
        assert joint_test(model, data, num_sweeps=12, **options)


def test_the_published_update_is_noticed():
    assert disturbances("paper", "static", rounds=10)


@pytest.mark.parametrize("kind", ["langevin", "mala", "barker"])
def test_a_dropped_acceptance_ratio_is_noticed(kind, monkeypatch):
    spread = Chunks.spread
    monkeypatch.setattr(
        Chunks, "spread", lambda self, flags, *rest: spread(self, torch.ones_like(flags), *rest)
    )
    assert disturbances(kind, "static", rounds=10)


# -- host synchronisation --------------------------------------------------------------------------


def test_the_detector_detects():
    with NoSynchronisation() as mode:
        x = torch.arange(3.0)
        _ = x[x > 1], float(x[0]), torch.tensor(0.5) * x
    assert {name for name, _ in mode.found} == {"index", "_local_scalar_dense", "lift_fresh"}


@pytest.mark.parametrize("adapt", [True, False], ids=["adapting", "frozen"])
@pytest.mark.parametrize("kind, name", PAIRS)
def test_sweeps_do_not_wait_for_the_device(kind, name, adapt):
    model, site = MODELS[name]()
    engine = DCPC(model, num_particles=3, moves={site: kind}, warmup=4, window=4)
    data = observed(model, 2)
    state, _ = engine.run(engine.init(data, seed=0), 4)
    for _ in range(2):  # an even and an odd sweep
        with NoSynchronisation() as mode:
            state, _ = engine.sweep(state, adapt=adapt)
        assert set(mode.found) == set()


class Operations(TorchDispatchMode):
    """Counts dispatched tensor operations."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("kind, name", [p for p in SERIES if KINDS[p[0]].needs != "chain"])
def test_a_sweep_of_a_long_series_takes_as_many_operations_as_one_of_a_short_one(
    kind, name, window
):
    model, site = MODELS[name]()
    counts = []
    for length in (12, 602):  # which end alike: the last slice is within a window
        engine = DCPC(model, num_particles=2, moves={site: kind}, window=window, warmup=2)
        state, _ = engine.run(engine.init({"x": torch.zeros(1, length)}, seed=0), 8)
        with Operations() as operations:
            for _ in range(4):
                state, _ = engine.sweep(state, log_joint=False)
        counts.append(operations.count)
    assert counts[0] == counts[1]


# -- moves of one's own ----------------------------------------------------------------------------

OWN = """
from dataclasses import dataclass
from aif_dcpc.inference.moves import SiteMove

@dataclass(frozen=True)
class Negate(SiteMove):
    def __call__(self, state, generator, *, adapt):
        moved = {self.site: -state.values[self.site]}
        return state.with_values(moved), state.log_weights.new_ones(())

negate_z = Negate("z")

def make(site):
    return Negate(site)

class Scored(Negate):
    needs = "score"

class Unscored(Negate):
    needs = "scores"

def fail(site):
    raise KeyError("no such thing")

nothing = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module outside the package, `moves_of_mine`."""
    (tmp_path / "moves_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("moves_of_mine", None)


@pytest.mark.parametrize("name", ["Negate", "negate_z", "make", "Scored"])
def test_a_move_from_outside_the_package_is_found_by_its_path(own, name):
    model, _ = static()
    engine = DCPC(model, num_particles=3, moves={"z": f"moves_of_mine:{name}"})
    state = engine.init(observed(model, 2), seed=0)
    moved, info = engine.sweep(state)
    assert torch.equal(moved.values["z"], -state.values["z"]) and info.acceptance["z"] == 1


@pytest.mark.parametrize(
    "kind, path", [("ffbs", "ffbs:ForwardFilterBackwardSample"), ("gibbs", "gibbs:Gibbs")]
)
def test_a_kind_of_the_package_is_found_by_its_path_as_well(kind, path):
    """A class of moves of one colour of the slices is made for every colour, so that no slice stands still."""
    model, _ = discrete()
    path = f"aif_dcpc.inference.moves.{path}"
    engines = [DCPC(model, num_particles=3, moves={"z": move}) for move in (kind, path)]
    states = [engine.sweep(engine.init(observed(model, 2), seed=0))[0] for engine in engines]
    assert torch.equal(states[0].values["z"], states[1].values["z"])


@pytest.mark.parametrize(
    "path, sentence",
    [
        ("moves_of_theirs:Negate", "there is no module 'moves_of_theirs'"),
        ("moves_of_mine:Negative", "has no 'Negative'. Did you mean 'Negate'"),
        ("moves_of_mine:fail", "cannot be made: KeyError: 'no such thing'"),
        ("moves_of_mine:nothing", "cannot be made: TypeError"),
        ("moves_of_mine:Scored", "move 'Scored' needs a site with score, which this is not"),
        ("moves_of_mine:Unscored", "Did you mean 'score'"),
        ("aif_dcpc.inference.moves.langevin:Langevin", "needs a site with score"),
        ("builtins:str", "is no move: expected a callable with `sites`"),
    ],
)
def test_a_path_that_leads_to_no_move_is_refused_in_one_sentence(own, path, sentence):
    model, _ = discrete()
    with pytest.raises(MoveError, match=sentence) as refused:
        DCPC(model, moves={"z": path})
    assert str(refused.value).startswith("site 'z': ") and "\n" not in str(refused.value)


def test_a_move_of_another_site_is_refused(own):
    model, _ = series()
    with pytest.raises(MoveError, match="updates z"):
        DCPC(model, moves={"c": "moves_of_mine:negate_z"})


def test_the_former_name_of_mixture_proposals_still_leads_to_them():
    assert FromBank is MixtureProposal
