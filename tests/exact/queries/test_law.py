"""The distribution of a site at the particles, against the densities that the engine adds up."""

import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError, lag
from aif_dcpc.inference.model.densities import evaluate


def model():
    found = GraphicalModel()
    found.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    found.add_input("a", scope="slice")
    found.add_deterministic("sum", lambda g: 2 * g, ["g"], scope="global")
    found.add_site(
        "s",
        lambda s, a, mean: Normal(s + a + mean, 0.5),
        parents=[lag("s"), "a", "sum"],
        initial=lambda a, mean: Normal(a + mean, 1.0),
        scope="slice",
    )
    found.add_site("o", lambda s: Normal(s, 0.3), parents=["s"], scope="slice")
    return found


def test_a_law_scores_values_as_the_factor_does():
    engine = DCPC(model(), num_particles=3)
    state = engine.init({"a": torch.randn(2, 4), "o": torch.randn(2, 4)}, seed=0)
    factors = state.conditioning.factor_graph.factors_by_key
    for name, batch_shape in {"g": (3, 1), "s": (3, 2, 3), "o": (3, 2, 4)}.items():
        law = engine.law(state, name)
        assert law.batch_shape == batch_shape
        value = state.value(name) if name != "s" else state.value(name)[:, :, 1:]
        expected = evaluate(state, factors[name], scores=False).log_prob
        assert torch.allclose(law.log_prob(value), expected.expand(batch_shape))


@pytest.mark.parametrize(
    ("site", "sentence"),
    [("a", "input site 'a' has no"), ("sum", "deterministic site"), ("y", "unknown site 'y'")],
)
def test_what_has_no_law_is_refused(site, sentence):
    engine = DCPC(model(), num_particles=1)
    state = engine.init({"a": torch.zeros(1, 2), "o": torch.zeros(1, 2)}, seed=0)
    with pytest.raises(ModelError, match=sentence):
        engine.law(state, site)
