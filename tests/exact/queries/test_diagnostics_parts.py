"""Diagnostics by their definitions, on traces small enough to reckon with, and each warning at its threshold."""

import math

import pytest
import torch

from aif_dcpc.inference import InferenceError
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.queries.diagnostics import (
    MIN_ACCEPTANCE,
    MIN_ESS,
    Diagnosis,
    _disagreement,
    _scarce_tails,
    _scarcity,
    _two_clusters,
    diagnose,
    is_clustered,
    to_arviz,
)
from aif_dcpc.inference.queries.mixing import (
    _moments,
    _split,
    effective_sample_size,
    split_r_hat,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_halves_become_chains():
    trace = torch.arange(14.0).reshape(7, 1, 2)
    found = _split(trace)
    assert found.shape == (3, 2, 2)
    assert torch.equal(found[:, 0], trace[:3, 0]) and torch.equal(found[:, 1], trace[4:, 0])


def test_split_r_hat_by_its_formula():
    trace = noise(12, 3, 2) + torch.tensor([0.0, 1.0, 2.0])[:, None]
    chains = torch.cat([trace[:6], trace[6:]], 1)
    within = chains.var(0).mean(0)
    between = 6 * chains.mean(0).var(0)
    expected = ((5 / 6 * within + between / 6) / within).sqrt()
    assert torch.allclose(split_r_hat(trace), expected)
    assert torch.allclose(_moments(chains)[0], within)


def geyer(trace):
    """Effective sample size by the definition, chain by chain and lag by lag (Vehtari et al. 2021, eqs 10 to 13)."""
    half = len(trace) // 2
    chains = torch.cat([trace[:half], trace[-half:]], 1)
    number, count = chains.shape
    within = chains.var(0).mean()
    pooled = (number - 1) / number * within + chains.mean(0).var()
    centred = chains - chains.mean(0)
    rho = [1.0]
    for shift in range(1, number):
        covariance = (centred[: number - shift] * centred[shift:]).sum(0).mean() / (number - 1)
        rho.append(float(1 - (within - covariance) / pooled))
    total = 0.0
    least = math.inf
    for k in range(number // 2):
        pair = rho[2 * k] + rho[2 * k + 1]
        if pair <= 0:
            break
        least = min(least, pair)
        total += least
    return number * count / max(-1 + 2 * total, 1 / math.log10(number * count))


@pytest.mark.parametrize("sweeps", [8, 21, 60])
@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.8])
def test_effective_sample_sizes_by_their_definition(sweeps, rho):
    shocks = noise(sweeps, 3, seed=sweeps)
    values = [noise(3, seed=1)]
    for shock in shocks[1:]:
        values.append(rho * values[-1] + shock)
    trace = torch.stack(values)
    assert effective_sample_size(trace.unsqueeze(-1)).item() == pytest.approx(
        geyer(trace), rel=1e-6
    )


def test_variance_left_within_two_clusters():
    assert _two_clusters(torch.tensor([0.0, 0, 0, 1, 1]).double()[:, None]) == pytest.approx(
        0, abs=1e-12
    )
    assert _two_clusters(torch.zeros(5, 1).double()) == 1.0
    # cut in the middle: 2 * (4 + 1 + 0 + ... ) of points 0, 1, 2 and 10, 11, 12; within 2 + 2 of a
    # total 4 + 6 * 25
    assert _two_clusters(torch.tensor([0.0, 10, 1, 11, 2, 12]).double()[:, None]) == pytest.approx(
        4 / 154
    )
    uniform = torch.linspace(0, 1, 4001).double()[:, None]
    assert _two_clusters(uniform) == pytest.approx(0.25, abs=1e-3)
    normal = torch.special.ndtri((torch.arange(4000) + 0.5).double() / 4000)[:, None]
    assert _two_clusters(normal) == pytest.approx(1 - 2 / math.pi, abs=2e-3)
    turned = (
        torch.tensor([0.0, 10, 1, 11, 2, 12]).double()[:, None] * torch.tensor([3.0, -4.0]).double()
    )
    assert _two_clusters(turned) == pytest.approx(4 / 154)
    with torch.device("meta"):  # what is made is made where the trace lies
        assert _two_clusters(turned) == pytest.approx(4 / 154)


def test_clusters_need_eight_chains_and_any_datum_will_do():
    split = torch.where(torch.arange(8) < 4, 0.0, 9.0).double()
    trace = noise(40, 8, 2)
    trace[:, :, 1] += split
    assert is_clustered(trace) and not is_clustered(trace[:, :, :1])
    assert not is_clustered(trace[:, 1:])
    assert is_clustered(trace.unsqueeze(-1).expand(40, 8, 2, 3))


def test_disagreement_above_its_threshold():
    said = _disagreement(
        {"a": torch.tensor([1.0, 1.05]), "b": torch.tensor([1.0, 1.06]), "c": torch.tensor([3.0])},
        ["c"],
    )
    assert len(said) == 2
    assert "'b'" in said[0]
    assert "1.06" in said[0]
    assert "'c'" in said[1]
    assert "multimodal" in said[1]


def test_scarcity_below_its_thresholds():
    size = {"a": torch.tensor([MIN_ESS + 1.0, MIN_ESS]), "b": torch.tensor([MIN_ESS - 1.0, 500.0])}
    said = _scarcity(size, {"a": MIN_ACCEPTANCE, "b": MIN_ACCEPTANCE - 0.001}, torch.tensor([2, 5]))
    assert len(said) == 2 and "'b': 99 effective" in said[0] and "'b': acceptance 0.099" in said[1]
    assert _scarcity({}, {}, None) == []
    assert "one lineage" in _scarcity({}, {}, torch.tensor([4, 1]))[0]
    assert _scarcity({}, {}, torch.tensor([1])) == _scarcity({}, {}, torch.tensor([2, 2])) == []


def test_scarce_tails_below_the_threshold():
    size = {"a": torch.tensor([MIN_ESS + 1.0, MIN_ESS]), "b": torch.tensor([MIN_ESS - 1.0, 500.0])}
    said = _scarce_tails(size)
    assert len(said) == 1
    assert "'b': 99 effective samples of its tails" in said[0]


def test_eight_sweeps_are_enough():
    trace = noise(8, 4, 1)
    found = diagnose(Info({"z": torch.tensor(0.5)}, torch.zeros(4, 1), {"z": trace}))
    assert found.ess_per_sweep["z"].item() == pytest.approx(found.ess["z"].item() / 32)
    assert found.acceptance == {"z": 0.5}
    assert found.unique_ancestors is None
    assert found.multimodal == ()
    with pytest.raises(InferenceError, match="at least 8"):
        diagnose(Info({}, torch.zeros(4, 1), {"z": trace[:7]}))


def test_a_diagnosis_prints_its_worst_numbers():
    found = Diagnosis(
        {"z": torch.tensor([1.0, 1.5])}, {"z": torch.tensor([30.0, 20.0])}, {"z": torch.tensor([9.0, 8.0])},
        {"z": torch.tensor([0.3, 0.2])},
        {"z": 0.25}, None, (), ("beware",),
    )  # fmt: skip
    first, second = str(found).splitlines()
    assert (
        first.split()
        == "z R-hat 1.500 ESS 20 of the tails 8 per particle and sweep 0.2000 acceptance 0.25".split()
    )
    assert second == "warning: beware"


@pytest.mark.filterwarnings("ignore")
def test_a_global_site_is_exported_for_any_datum():
    pytest.importorskip("arviz")
    found = to_arviz(
        Info({}, torch.zeros(4, 2), {"g": noise(20, 4, 1), "z": noise(20, 4, 2)})
    ).posterior
    assert found["g"].shape == found["z"].shape == (4, 20)
    assert torch.equal(torch.as_tensor(found["z"].values), noise(20, 4, 2)[:, :, 0].T)
    assert to_arviz(Info({}, torch.zeros(4, 2), {"g": noise(20, 4, 1)}), datum=1).posterior[
        "g"
    ].shape == (4, 20)
