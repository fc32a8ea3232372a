"""Whether a run says that its particles have stayed apart: where modes are known to be far, and where there is one."""

import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.queries.looks import Looks

APART = (
    r"site 'z': particles stay apart over the 200 sweeps .* engine.sample\(data\), or engine.temper"
)


def run(kernel, num_sweeps, num_particles=16):
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 3.0))
    model.add_site("x", kernel, ["z"])
    engine = DCPC(model, num_particles=num_particles)
    state, _ = engine.run(engine.init({"x": torch.full((2,), 3.0)}, seed=0), 50 + num_sweeps)
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
    assert Looks.over(state, 209, 50, judged=True).every == 0
    assert Looks.over(state, 900, 50, judged=False).every == 0
    for number in (160, 170, 175, 176, 5000):
        looks = Looks.over(state, 50 + number, 50, judged=True)
        for sweep in range(1, 51 + number):
            looks.look(state.replace(sweeps=sweep))
        assert looks.sweeps == number
        assert 16 <= len(looks.clouds) <= 18


def test_a_run_of_independent_looks_agrees():
    generator = torch.Generator().manual_seed(0)
    looks = Looks(0, 1, 16, [{"z": torch.randn(16, 500, generator=generator)} for _ in range(16)])
    assert looks._r_hat("z") < 1.2
    shift = torch.randn(16, 500, generator=generator)
    drifting = [{"z": cloud["z"] + 2 * shift} for cloud in looks.clouds]
    assert Looks(0, 1, 16, drifting)._r_hat("z") > 1.5
