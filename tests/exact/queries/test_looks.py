"""Whether a run says that its particles have stayed apart, or a few behind: where modes are known to be far, and where there is one."""

import pytest
import torch
from torch.distributions import Cauchy, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.state import POSTERIOR
from aif_dcpc.inference.queries.looks import Looks, left_behind

APART = (
    r"site 'z': particles stay apart over the 200 sweeps .* engine.sample\(data\), or engine.temper"
)


def run(kernel, num_sweeps, num_particles=16):
    """Sweeps from particles of the caller's, which no run replaces."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 3.0))
    model.add_site("x", kernel, ["z"])
    engine = DCPC(model, num_particles=num_particles)
    start = 3 * torch.randn(num_particles, 2, generator=torch.Generator().manual_seed(0))
    state = engine.init({"x": torch.full((2,), 3.0)}, particles={"z": start}, seed=0)
    state, _ = engine.run(state, 50 + num_sweeps)
    return state.particles["z"]


def by_size(z):
    return Normal(z.abs(), 0.1)


def test_particles_in_two_modes_are_reported():
    """|z| is seen: at plus and minus 3, and no local move leads from one to the other."""
    with pytest.warns(ConvergenceWarning, match=APART):
        z = run(by_size, 200)
    assert 0 < int((z > 0).sum()) < z.numel()


def test_one_mode_is_not():
    z = run(lambda z: Normal(z, 0.1), 200)
    assert bool((z > 2).all())


@pytest.mark.parametrize("num_sweeps, num_particles", [(150, 16), (200, 3)])
def test_what_is_too_little_to_tell_is_passed_over(num_sweeps, num_particles):
    run(by_size, num_sweeps, num_particles)


def test_looks_are_few_and_evenly_spread():
    """Whatever the length, 16 or a few more; none in a short run, nor in the sweeps of a warm-up."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    state = DCPC(model).init(batch_size=1)
    assert Looks.over(state, 209, 50, least=160).every == 0
    assert Looks.over(state, 900, 50, least=None).every == 0
    for number in (160, 170, 175, 176, 5000):
        looks = Looks.over(state, 50 + number, 50, least=160)
        for sweep in range(1, 51 + number):
            looks.look(state.replace(sweeps=sweep))
        assert looks.sweeps == number
        assert 16 <= len(looks.clouds) == len(looks.heights) <= 20


def test_a_run_of_independent_looks_agrees():
    generator = torch.Generator().manual_seed(0)
    looks = Looks(0, 1, 16, [{"z": torch.randn(16, 500, generator=generator)} for _ in range(16)])
    assert looks._r_hat("z") < 1.2
    shift = torch.randn(16, 500, generator=generator)
    drifting = [{"z": cloud["z"] + 2 * shift} for cloud in looks.clouds]
    assert Looks(0, 1, 16, drifting)._r_hat("z") > 1.5
    many = [{"z": torch.randn(5000, 300, generator=generator)} for _ in range(16)]
    assert looks._r_hat("z") == Looks(0, 1, 16, looks.clouds)._r_hat("z")
    assert Looks(0, 1, 16, many)._r_hat("z") < 1.2


def test_data_are_compared_one_by_one():
    """Two data whose posteriors lie a hundred deviations apart: particles of each agree among themselves."""
    generator = torch.Generator().manual_seed(0)
    place = torch.tensor([0.0, 100.0])
    clouds = [{"z": place + torch.randn(40, 2, generator=generator)} for _ in range(16)]
    assert Looks(0, 1, 16, clouds)._r_hat("z") < 1.2
    clouds = [
        {"z": cloud["z"] + torch.tensor([0.0, 1.0]) * torch.arange(40)[:, None]} for cloud in clouds
    ]
    assert Looks(0, 1, 16, clouds)._r_hat("z") > 2


# -- particles that are left behind ----------------------------------------------------------------


def gaussian_heights(dimension, shape=(16, 200, 3), seed=0):
    """Log densities of independent draws of a Gaussian: minus half a chi square."""
    x = torch.randn(*shape, dimension, generator=torch.Generator().manual_seed(seed))
    return -0.5 * x.square().sum(-1)


@pytest.mark.parametrize("dimension", [1, 30, 1000])
def test_particles_far_below_in_every_look_are_left_behind(dimension):
    """300 nats, which are 13 standard deviations of the log density in 1,000 dimensions."""
    heights = gaussian_heights(dimension)
    assert not left_behind(heights).any()
    heights[:, 7, 1] -= 300
    heights[:15, 9] -= 300  # these came in before the last look
    expected = torch.zeros(200, 3, dtype=torch.bool)
    expected[7, 1] = True
    assert torch.equal(left_behind(heights), expected)


def test_tails_are_not_left_behind():
    """Cauchy draws that never move: one of 100,000 lies about 30,000 scales out, 21 nats down."""
    draws = Cauchy(torch.zeros(100_000, 1), 1.0).expand((100_000, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = draws.sample()
    assert x.abs().max() > 1e4
    assert not left_behind(Cauchy(0.0, 1.0).log_prob(x).expand(16, -1, -1)).any()


def test_a_few_left_behind_are_reported():
    """One particle of 40 stands where the slope is too small for its step to bring it in within the run."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1e6))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    engine = DCPC(model, num_particles=40)
    start = torch.zeros(40, 1)
    start[5] = 1e6
    state = engine.init({"x": torch.zeros(1)}, particles={"z": start}, seed=0)
    state, _ = engine.run(state, 60, adapt=False)
    looks = Looks(60, 10)
    for _ in range(16):
        looks.clouds.append(dict(state.values))
        looks.heights.append(engine.log_joint(state))
    far = bool((state.values["z"][5].abs() > 1e3).all())
    looks.sweeps = 160
    assert far == bool(left_behind(torch.stack(looks.heights)).any())


def slow_pair():
    """Two numbers of which only the sum is seen, to within a thousandth: each alone hardly moves."""
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda a, b: Normal(a + b, 1e-3), ["a", "b"])
    return model


def test_posterior_draws_that_hardly_move_are_reported_where_they_are_recorded():
    """The cloud is right (a is Normal(0, 1/2) given the sum 0), 300 sweeps of it are worth no more than the cloud."""
    engine = DCPC(slow_pair(), num_particles=64)
    state = engine.init({"x": torch.zeros(1)}, seed=0)
    with pytest.warns(ConvergenceWarning, match=r"site '[ab]': the particles are draws .* hardly"):
        first, _ = engine.run(state, 250, record=["a"])
    assert first.origin == POSTERIOR
    assert abs(float(first.particles["a"].mean())) < 5 * 0.5**0.5 / 64**0.5
    later, _ = engine.run(first, 250)  # nothing is recorded, and the cloud is a sample
    with pytest.warns(ConvergenceWarning, match="hardly moved over the 300 sweeps"):
        engine.run(later, 300, record=["b"])
