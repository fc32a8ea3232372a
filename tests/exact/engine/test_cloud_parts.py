"""Clouds taken apart into tensors and put together again: nothing is lost, nothing changes place."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.model.parts import (
    Parts,
    put_together,
    take_apart,
    with_counts,
    without_counts,
)

Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Learned:
    """What a move may have learned."""

    step: torch.Tensor
    updates: dict[str, int]


def thing(shift=0.0, word="a"):
    """Tensors 0 to 5 in containers of every kind."""
    x = [torch.full((n + 1,), float(n)) + shift for n in range(6)]
    return {
        "list": [x[0], (x[1], 7)],
        "pair": Pair(x[2], word),
        "deep": {"learned": Learned(x[3], {"z": 2})},
        "rest": (None, x[4], x[5]),
    }


def test_a_thing_is_put_together_from_its_tensors_in_their_order():
    leaves = []
    take_apart(thing(), leaves)
    assert [float(x[0]) for x in leaves] == [0, 1, 2, 3, 4, 5]
    found = put_together(thing(), iter([x + 10 for x in leaves]))
    assert [type(x) for x in found.values()] == [list, Pair, dict, tuple]
    assert found["list"][1][1] == 7 and found["pair"].right == "a" and found["rest"][0] is None
    assert found["deep"]["learned"].updates == {"z": 2}
    again = []
    take_apart(found, again)
    assert all(torch.equal(a, b + 10) for a, b in zip(again, leaves, strict=True))


def test_what_is_left_tells_whether_tensors_fit():
    rest = take_apart(thing(), [])
    assert rest == take_apart(thing(shift=3.0), [])
    assert rest != take_apart(thing(word="b"), [])
    wider = thing()
    wider["rest"] = (None, torch.zeros(5, 1), torch.zeros(6))
    assert rest != take_apart(wider, [])
    exact = thing()
    exact["rest"] = (None, torch.zeros(5).double(), torch.zeros(6))
    assert rest != take_apart(exact, [])
    assert take_apart([1, 2], []) != take_apart((1, 2), [])
    turned = torch.zeros(2, 3).T
    leaves = []
    take_apart(turned, leaves)
    assert leaves[0].is_contiguous() and leaves[0].shape == (3, 2)


def test_counts_are_parted_by_site_and_put_back():
    step = torch.ones(1)
    learned = {n: Learned(step, {"a": i, "b": 10 + i}) for i, n in enumerate(("m", "k", "z"))}
    learned["plain"] = step
    bare, counts = without_counts(learned)
    assert all(bare[n].updates == {} for n in "mkz") and bare["plain"] is step
    assert counts == {(n, k): learned[n].updates[k] for n in "mkz" for k in "ab"}
    assert with_counts(bare, counts) == learned
    more = {key: count + 1 for key, count in counts.items()}
    assert with_counts(bare, more)["k"].updates == {"a": 2, "b": 12}


def walk():
    model = GraphicalModel()
    model.add_site(
        "s", lambda s: Normal(s, 1.0), [lag("s")], initial=lambda: Normal(0.0, 1.0), scope="slice"
    )
    model.add_site("o", lambda s: Normal(s, 1.0), ["s"], scope="slice")
    return DCPC(model, num_particles=3)


@pytest.mark.parametrize("length", [4, 5])
def test_a_cloud_is_made_again_with_other_tensors(length):
    engine = walk()
    state, _ = engine.run(engine.init({"o": torch.zeros(2, length)}, seed=0), 3)
    parts = Parts.of(state)
    assert parts.rest == Parts.of(engine.sweep(state)[0]).rest
    longer = engine.init({"o": torch.zeros(2, length + 1)}, seed=0)
    assert parts.rest != Parts.of(longer).rest
    shifted = parts.cloud(state, iter([x + 1 for x in parts.leaves]), parts.counts)
    assert torch.equal(shifted.values["s"], state.values["s"] + 1)
    same = parts.without_tensors().cloud(state, iter(parts.leaves), parts.counts)
    for name, value in state.values.items():
        assert torch.equal(same.values[name], value)
    assert torch.equal(same.log_weights, state.log_weights)
    for name, learned in state.adaptation.items():
        assert getattr(same.adaptation[name], "updates", None) == getattr(learned, "updates", None)
    assert parts.without_tensors().leaves == ()
