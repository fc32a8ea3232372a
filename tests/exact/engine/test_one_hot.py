"""Discrete sites whose values are vectors: the same posteriors as with integers, by enumeration.

Each check allows 5 standard errors over independent copies along the batch axis; seeds are fixed.
"""

import pytest
import torch
from clouds import agrees
from torch.distributions import Normal, OneHotCategorical

from aif_dcpc.inference import DCPC, GraphicalModel, lag

COPIES = 24
PRIOR = torch.tensor([0.5, 0.3, 0.2])
MEANS = torch.tensor([0.0, 1.0, 3.0])
MOVE = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])


@pytest.mark.parametrize("kind", ["gibbs", "prior"])
def test_a_vector_site(kind):
    model = GraphicalModel()
    model.add_site("z", lambda: OneHotCategorical(PRIOR))
    model.add_site("x", lambda z: Normal(z @ MEANS, 1.0), ["z"])
    engine = DCPC(model, num_particles=32, moves={"z": kind})
    x = torch.full((COPIES,), 1.4)
    state, _ = engine.run(engine.init({"x": x}, seed=0), 20)
    _, info = engine.run(state, 80, record=["z"])
    joint = (PRIOR.log() + Normal(MEANS, 1.0).log_prob(x[0])).softmax(0)
    assert (info.trace["z"].sum(-1) == 1).all()
    assert agrees(info.trace["z"], joint)
    assert torch.allclose(engine.marginals(state, "z"), joint.expand(32, COPIES, 3), atol=1e-5)


@pytest.mark.parametrize("kind", ["gibbs", "ffbs", "prior"])
def test_a_chain_of_vectors(kind):
    model = GraphicalModel()
    model.add_site(
        "z",
        lambda z: OneHotCategorical(z @ MOVE),
        [lag("z")],
        initial=lambda: OneHotCategorical(PRIOR),
        scope="slice",
    )
    model.add_site("x", lambda z: Normal(z @ MEANS, 1.0), ["z"], scope="slice")
    shown = torch.tensor([False, False, True]).expand(COPIES, -1)
    z = torch.eye(3)[torch.tensor([0, 0, 1])].expand(COPIES, -1, -1)
    x = torch.tensor([1.0, 2.0, 0.0])
    engine = DCPC(model, num_particles=32, moves={"z": kind})
    state = engine.init({"x": x.expand(COPIES, -1), "z": z}, masks={"z": shown}, seed=0)
    state, _ = engine.run(state, 20)
    _, info = engine.run(state, 100, record=["z"])
    fit = Normal(MEANS[:, None], 1.0).log_prob(x).exp()
    joint = (PRIOR * fit[:, 0])[:, None] * MOVE * (fit[:, 1] * MOVE[:, 1])
    joint = joint / joint.sum()
    assert (info.trace["z"][..., 2, :] == torch.eye(3)[1]).all()
    for first in range(3):
        pairs = info.trace["z"][..., 0, first, None] * info.trace["z"][..., 1, :]
        assert agrees(pairs, joint[first])
    found = engine.marginals(state, "z")
    if kind == "ffbs":
        exact = torch.stack([joint.sum(1), joint.sum(0), torch.eye(3)[1]])
        assert torch.allclose(found, exact.expand(32, COPIES, 3, 3), atol=1e-5)
