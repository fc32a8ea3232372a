"""A bouncing digit against geometry: where it is drawn, how it is reflected, and where its film says it is."""

import pytest
import torch

from aif_dcpc.inference import DCPC, check_model
from aif_dcpc.inference.images import bounce, bouncing_digits, straight_paths, whole_digits
from aif_dcpc.inference.images.bouncing_digits import refined
from aif_dcpc.inference.images.rendering import blend, render
from aif_dcpc.inference.images.straight_paths import fold


def test_walls_are_mirrors():
    assert torch.allclose(
        fold(torch.tensor([0.0, 0.9, 1.2, 2.0, 3.5, -1.3])), torch.tensor([0.0, 0.9, 0.8, 0.0, -0.5, -0.7])
    )


def test_a_digit_is_drawn_where_it_is():
    digit = torch.rand(1, 1, 4, 4)
    frames = render(digit, torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 0.0]]), 12)
    wanted = torch.zeros(3, 1, 12, 12)  # the free width is 8 pixels: corners at 0 and 8, the centre at 4
    for frame, (x, y) in zip(wanted, [(0, 0), (8, 0), (4, 4)], strict=True):
        frame[0, y : y + 4, x : x + 4] = digit[0, 0]
    assert torch.allclose(frames, wanted, atol=1e-5)


def test_the_graph_is_sound():
    torch.manual_seed(0)
    model = bouncing_digits(latents=2, hidden=4, patch=4, canvas=8, scale=1.0)
    assert check_model(model, {"frame": torch.rand(2, 3, 1, 8, 8)}, replicates=0) == ()


def test_positions_are_found_from_nearby_and_the_forecast_bounces():
    torch.manual_seed(0)
    model = bouncing_digits(latents=2, hidden=8, patch=8, canvas=16)
    with torch.no_grad():  # a bright blob whatever `what` is, known to the model
        axis = torch.linspace(-1, 1, 8)
        blob = (-3 * (axis[:, None].square() + axis.square())).exp().clamp(0.01, 0.99)
        output = model.sites["frame"].kernel.network[-1]
        output.weight.zero_()
        output.bias.copy_(torch.logit(blob).flatten())
    films, position = bounce(blob.expand(6, 1, 8, 8), frames=10, canvas=16)
    seen = films[:, :8] + 0.1 * torch.randn_like(films[:, :8])
    engine = DCPC(model, num_particles=4)
    state = engine.init({"frame": seen}, seed=0)
    near = position[None, :, :8] + 0.3 * torch.randn(4, 6, 8, 2)  # half a digit away
    speed = (near[:, :, 1:] - near[:, :, :-1]).mean(2)
    state = state.with_values({"position": near, "velocity": speed})
    state, _ = engine.run(state, num_sweeps=80)
    found = engine.forecast(state, length=2)
    pixels = 4.0  # half the free width
    error = (fold(state.particles["position"]) - fold(position[:, :8])).abs().mean() * pixels
    assert error < 0.5
    # two steps of noise .02 and a velocity known to about .01 per step
    ahead = (fold(found["position"]) - fold(position[:, 8:])).abs().mean() * pixels
    assert ahead < 1.0


@pytest.fixture
def coarse_lines(monkeypatch):
    """Few cells of lines, so that many replicates are cheap; the kernel is exact whatever the cells."""
    monkeypatch.setattr(straight_paths, "CELL", 0.25)
    monkeypatch.setattr(straight_paths, "CELLS_OF_VELOCITY", 16)


def path_model():
    torch.manual_seed(0)
    return bouncing_digits(latents=2, hidden=4, patch=4, canvas=8, scale=1.0, noise=0.1, candidates=3)


def test_whole_paths_keep_the_posterior(coarse_lines):
    """Geweke's joint test, false alarm at most 1e-5."""
    assert check_model(path_model(), {"frame": torch.rand(2, 4, 1, 8, 8)}, replicates=600) == ()


def test_whole_paths_weighed_without_their_proposal_are_caught(coarse_lines, monkeypatch):
    monkeypatch.setattr(
        straight_paths.Lines, "log_prob", lambda self, start, velocity: start.new_zeros(start.shape[:3])
    )
    faults = check_model(path_model(), {"frame": torch.rand(2, 4, 1, 8, 8)}, replicates=600)
    assert any("joint distribution" in fault for fault in faults)


def test_the_best_place_of_a_frame_is_where_the_digit_was_drawn():
    torch.manual_seed(0)
    renderer = bouncing_digits(latents=2, hidden=4, patch=4, canvas=12).sites["frame"].kernel
    what, corner = torch.randn(5, 2), torch.randint(9, (5, 3, 2))
    position = corner / 4 - 1.0  # whole pixels: the free width is 8
    with torch.no_grad():
        frames = render(renderer.digit(what).unsqueeze(1), position, 12)
        assert torch.equal(renderer.best_positions(what, frames), position)


# -- several digits ----------------------------------------------------------------------------------------------------


def test_canvases_are_blended_in_any_order_and_an_empty_one_changes_nothing():
    a, b, c = torch.rand(3, 2, 1, 4, 4, dtype=torch.float64)
    wanted = 1 - (1 - a) * (1 - b) * (1 - c)
    assert torch.allclose(blend(blend(a, b), c), wanted)
    assert torch.allclose(blend(c, blend(b, a)), wanted)
    assert torch.equal(blend(a, torch.zeros_like(a)), a)


def whole_model(num_digits=2, **settings):
    torch.manual_seed(0)
    bank = torch.randn(3, 2)
    sizes = {"latents": 2, "hidden": 4, "patch": 4, "canvas": 8, "scale": 1.0, "noise": 0.1}
    return bouncing_digits(num_digits=num_digits, candidates=3, bank=bank, **{**sizes, **settings})


@pytest.mark.parametrize("local", [False, True])
def test_whole_digits_keep_the_posterior(coarse_lines, local):
    """Geweke's joint test of two digits, false alarm at most 1e-5."""
    moves = dict.fromkeys(refined(2), "langevin") if local else None
    data = {"frame": torch.rand(2, 4, 1, 8, 8)}
    assert check_model(whole_model(), data, moves=moves, replicates=600) == ()


@pytest.mark.parametrize("proposal", ["Looks", "Lines"])
def test_whole_digits_weighed_without_their_proposal_are_caught(coarse_lines, monkeypatch, proposal):
    monkeypatch.setattr(
        getattr(whole_digits, proposal), "log_prob", lambda self, first, *rest: first.new_zeros(first.shape[:-1])
    )
    faults = check_model(whole_model(), {"frame": torch.rand(2, 4, 1, 8, 8)}, replicates=600)
    assert any("joint distribution" in fault for fault in faults)
