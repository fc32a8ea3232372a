"""A bouncing digit against geometry: where it is drawn, how it is reflected, and where its film says it is."""

from functools import reduce

import pytest
import torch

from aif_dcpc.experiments.bouncing_digits import straight_paths, whole_digits
from aif_dcpc.experiments.bouncing_digits.graph import bouncing_digits, names, refined
from aif_dcpc.experiments.bouncing_digits.rendering import blend, bounce, fold, render
from aif_dcpc.experiments.bouncing_digits.scoring import Belief
from aif_dcpc.inference import DCPC, check_model


def test_walls_are_mirrors():
    assert torch.allclose(
        fold(torch.tensor([0.0, 0.9, 1.2, 2.0, 3.5, -1.3])),
        torch.tensor([0.0, 0.9, 0.8, 0.0, -0.5, -0.7]),
    )


def test_a_digit_is_drawn_where_it_is():
    digit = torch.rand(1, 1, 4, 4)
    frames = render(digit, torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 0.0]]), 12)
    # the free width is 8 pixels: corners at 0 and 8, the centre at 4
    wanted = torch.zeros(3, 1, 12, 12)
    for frame, (x, y) in zip(wanted, [(0, 0), (8, 0), (4, 4)], strict=True):
        frame[0, y : y + 4, x : x + 4] = digit[0, 0]
    assert torch.allclose(frames, wanted, atol=1e-5)


def test_the_graph_is_sound():
    torch.manual_seed(0)
    model = bouncing_digits(latents=2, hidden=4, patch=4, canvas=8, scale=1.0)
    assert check_model(model, {"frame": torch.rand(2, 3, 1, 8, 8)}, replicates=0) == ()


def known_blob(model):
    """Let the model draw a bright blob whatever `what` is; returns it, `(8, 8)`."""
    axis = torch.linspace(-1, 1, 8)
    blob = (-3 * (axis[:, None].square() + axis.square())).exp().clamp(0.01, 0.99)
    output = model.sites["frame"].kernel.network[-1]
    with torch.no_grad():
        output.weight.zero_()
        output.bias.copy_(torch.logit(blob).flatten())
    return blob


def test_positions_are_found_from_nearby_and_the_forecast_bounces():
    torch.manual_seed(0)
    model = bouncing_digits(latents=2, hidden=8, patch=8, canvas=16)
    blob = known_blob(model)
    films, position = bounce(blob.expand(6, 1, 8, 8), frames=10, canvas=16)
    bounces = fold(position[:, 7:]).diff(dim=1).sign() != position[:, 7:].diff(dim=1).sign()
    assert bounces.any()  # after the frames that are seen
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
    return bouncing_digits(
        latents=2, hidden=4, patch=4, canvas=8, scale=1.0, noise=0.1, candidates=3
    )


def test_whole_paths_keep_the_posterior(coarse_lines):
    """Geweke's joint test, false alarm at most 1e-5."""
    assert check_model(path_model(), {"frame": torch.rand(2, 4, 1, 8, 8)}, replicates=600) == ()


def test_whole_paths_weighed_without_their_proposal_are_caught(coarse_lines, monkeypatch):
    monkeypatch.setattr(
        straight_paths.Lines,
        "log_prob",
        lambda self, start, velocity: start.new_zeros(start.shape[:3]),
    )
    faults = check_model(path_model(), {"frame": torch.rand(2, 4, 1, 8, 8)}, replicates=600)
    assert any("joint distribution" in fault for fault in faults)


def test_the_best_place_of_a_frame_is_where_the_digit_was_drawn():
    torch.manual_seed(0)
    renderer = bouncing_digits(latents=2, hidden=4, patch=4, canvas=12).sites["frame"].kernel
    what = torch.randn(5, 2)
    corner = torch.randint(9, (5, 3, 2))
    position = corner / 4 - 1.0  # whole pixels: the free width is 8
    with torch.no_grad():
        frames = render(renderer.digit(what).unsqueeze(1), position, 12)
        assert torch.equal(renderer.best_positions(what, frames), position)


# -- several digits --------------------------------------------------------------------------------


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
    return bouncing_digits(
        num_digits=num_digits, bank=bank, **{"candidates": 3, **sizes, **settings}
    )


@pytest.mark.parametrize("local", [False, True])
def test_whole_digits_keep_the_posterior(coarse_lines, local):
    """Geweke's joint test of two digits, false alarm at most 1e-5."""
    moves = dict.fromkeys(refined(2), "langevin") if local else None
    data = {"frame": torch.rand(2, 4, 1, 8, 8)}
    assert check_model(whole_model(), data, moves=moves, replicates=600) == ()


def test_local_moves_stand_beside_the_draws_of_whole_digits():
    engine = DCPC(whole_model(), moves=dict.fromkeys(refined(2), "langevin"))
    schedule = engine.schedule(engine.init({"frame": torch.rand(1, 3, 1, 8, 8)}))
    for number in (0, 1):
        visited = [move.sites for move in schedule.moves(number)]
        assert set(visited) == {*names(2), *((site,) for site in refined(2))}


def residual_score(num_sweeps=4, seed=1):
    """Of films drawn from the model and swept: how far residuals are from standard normal, standard errors.

    A draw of (latents, film) keeps its joint law when the latents are drawn anew given the film, so
    the pixels' residuals over their scale stay independent standard normal, and the sum of their
    squares is chi-squared.
    """
    model = whole_model(scale=0.3, candidates=20)
    films = 300
    scale = 0.3
    with torch.no_grad():  # digits that differ
        for layer in (0, -1):
            model.sites["frame"].kernel.network[layer].weight.mul_(5)
    engine = DCPC(model, num_particles=1, warmup=0)
    fresh = engine.init(batch_size=films, length=4, seed=seed).natural
    state = engine.init({"frame": fresh["frame"][0]})
    state = state.with_values({name: fresh[name] for name in state.conditioning.latent})
    state, _ = engine.run(state, num_sweeps)
    mean = Belief.of(state.particles, 2).frames(model.sites["frame"].kernel)
    squares = ((fresh["frame"][0] - mean) / scale).square()
    return float((squares.sum() - squares.numel()) / (2 * squares.numel()) ** 0.5)


def test_whole_digits_leave_residuals_standard_normal(coarse_lines):
    """False alarm 6e-7: the score is standard normal to within 1/sqrt(76,800)."""
    assert abs(residual_score()) < 5


def test_a_draw_that_ignores_the_other_digits_spoils_the_residuals(coarse_lines, monkeypatch):
    empty = lambda self, values: torch.zeros_like(values["frame"])  # noqa: E731
    monkeypatch.setattr(whole_digits.WholeDigit, "_background", empty)
    assert abs(residual_score()) > 5


@pytest.mark.parametrize("proposal", [whole_digits.Looks, straight_paths.Lines])
def test_whole_digits_weighed_without_their_proposal_are_caught(
    coarse_lines, monkeypatch, proposal
):
    monkeypatch.setattr(
        proposal, "log_prob", lambda self, first, *rest: first.new_zeros(first.shape[:-1])
    )
    faults = check_model(whole_model(), {"frame": torch.rand(2, 4, 1, 8, 8)}, replicates=600)
    assert any("joint distribution" in fault for fault in faults)


def test_what_the_others_leave_says_where_a_digit_fits():
    """The gain of a whole-pixel place is half the fall of the squared error, found here by drawing the digit there."""
    torch.manual_seed(0)
    renderer = bouncing_digits(latents=2, hidden=4, patch=4, canvas=8).sites["frame"].kernel
    frames = torch.rand(1, 1, 1, 1, 8, 8)
    background = torch.rand(1, 1, 1, 1, 8, 8)
    digit = torch.rand(1, 4, 4)
    rest = whole_digits.Rest(renderer, frames, background)
    gain = rest.places(digit)[0, 0, 0] * whole_digits.PLACE_SCALE**2
    for x, y in ((0, 0), (4, 1), (2, 4)):
        place = torch.tensor([x, y]) / 2 - 1.0  # the free width is 4 pixels
        drawn = blend(background, render(digit, place, 8))
        fall = (frames - background).square().sum() - (frames - drawn).square().sum()
        assert torch.allclose(gain[y, x], fall / 2, atol=1e-4)
        path = place.expand(1, 1, 1, 1, 2)
        look = rest.looks(path, digit[None])[0, 0, 0, 0] * whole_digits.LOOK_SCALE**2
        assert torch.allclose(look, fall / 2, atol=1e-4)


def test_digits_are_matched_by_whole_films_in_any_order():
    truth = torch.randn(2, 5, 3, 2)
    what = torch.randn(1, 2, 3, 4)
    shuffled = Belief(what[:, :, [2, 0, 1]], truth[None, :, :, [2, 0, 1]])
    matched = shuffled.matched(truth[:, :4])
    assert torch.equal(matched.position[0], truth)
    assert torch.equal(matched.what, what)


def test_three_blobs_are_found_from_the_prior():
    torch.manual_seed(0)
    model = bouncing_digits(num_digits=3, latents=2, hidden=8, patch=8, canvas=24, candidates=8)
    blob = known_blob(model)
    clips, positions = zip(
        *(bounce(blob.expand(4, 1, 8, 8), frames=8, canvas=24) for _ in range(3)), strict=True
    )
    films = reduce(blend, clips)
    truth = torch.stack(positions, 2)
    engine = DCPC(model, num_particles=2, moves=dict.fromkeys(refined(3), "langevin"), warmup=10)
    state, info = engine.run(
        engine.init({"frame": films + 0.1 * torch.randn_like(films)}, seed=0), num_sweeps=20
    )
    best = Belief.of(state.particles, 3).best(info.log_joint).matched(truth)
    pixels = 8.0  # half the free width
    error = (fold(best.position[0]) - fold(truth)).norm(dim=-1) * pixels
    assert (error < 2).double().mean() > 0.9


def test_lines_fit_as_places_along_them_do_and_any_frame_may_be_wrong():
    """sum over frames of log((1 - e) p(place on the line) + e / width), places weighed between whole pixels."""
    generator = torch.Generator().manual_seed(0)
    places = 3 * torch.randn(1, 1, 4, 6, 6, generator=generator)
    speed = 0.2
    lines = whole_digits.Tracks(places, speed).across
    starts, velocities = straight_paths.grid(speed)
    told = places.logsumexp(-2)[0, 0].softmax(-1)
    told = ((1 - whole_digits.ELSEWHERE) * told + whole_digits.ELSEWHERE / 6).log()
    fit = []
    for start, velocity in ((starts[3], velocities[70]), (starts[20], velocities[40])):
        pixel = (fold(start + velocity * torch.arange(4)) + 1) * 2.5
        below = pixel.floor().long().clamp_max(4)
        share = pixel - below
        frames = torch.arange(4)
        score = ((1 - share) * told[frames, below] + share * told[frames, below + 1]).sum()
        fit.append(score - 0.5 * (velocity / speed) ** 2)
    number = len(velocities)
    found = lines.log_cells[0, 0, 0, 3 * number + 70] - lines.log_cells[0, 0, 0, 20 * number + 40]
    assert torch.allclose(found, fit[0] - fit[1], atol=1e-4)
