"""Agents and clouds in other threads and processes: the same numbers as in this one.

Oracle: the serial run.
"""

import copy
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from aif_dcpc.agent_runs.assembly import make_agent, make_env
from aif_dcpc.inference import DCPC, GraphicalModel, ModelError
from aif_dcpc.schema import EnvConfig

WORLD = {"id": "MiniGrid-Empty-5x5-v0", "slip": 0.0, "misread": 0.0, "permute_seed": None}


def prior():
    return Normal(0.0, 1.0)


def kernel(z):
    return Normal(z, 1.0)


def model():
    made = GraphicalModel()
    made.add_site("z", prior)
    made.add_site("x", kernel, ["z"])
    return made


def numbers(seed):
    engine = DCPC(model(), num_particles=8)
    state, _ = engine.run(engine.init({"x": torch.ones(4)}, seed=seed), 20)
    return state.particles["z"].tolist()


def send_numbers(pipe, seed):
    torch.set_num_threads(1)  # of OpenMP's threads a forked process has none
    pipe.send(numbers(seed))


def test_engines_in_threads_give_the_serial_numbers():
    serial = [numbers(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(numbers, range(6))) == serial


def fork_and_compare():
    """Run by an interpreter of its own: where autograd has begun to use threads it refuses to go on after a fork."""
    serial = [numbers(seed) for seed in range(2)]
    context = multiprocessing.get_context("fork")
    for seed in range(2):
        here, there = context.Pipe()
        process = context.Process(target=send_numbers, args=(there, seed))
        process.start()
        assert here.poll(60)
        assert here.recv() == serial[seed]
        process.join()


def test_engines_after_a_fork_give_the_serial_numbers():
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def printed(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_everything_leaves_the_start_method_alone():
    imports = (
        "import aif_dcpc, aif_dcpc.inference, aif_dcpc.agents.gridworld.agent, "
        "aif_dcpc.agent_runs.run, aif_dcpc.image_runs.run; "
        "from aif_dcpc.agents.gridworld.replay import EpisodeStore; EpisodeStore(3); "
    )
    tell = "import multiprocessing; print(multiprocessing.get_start_method())"
    assert printed(imports + tell) == printed(tell)


@pytest.mark.parametrize("name", ["hierarchical", "random"])
def test_an_agent_that_has_acted_can_be_pickled_and_goes_on_alike(name):
    config = EnvConfig(name="MiniGrid", max_steps=20, options={}, **WORLD)
    env = make_env(config)
    observation, _ = env.reset(seed=0)
    agent = make_agent(name, {}, env, 0)
    agent.begin(seed=0)
    for _ in range(3):
        action = agent.act(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        agent.feedback(observation, float(reward), terminated, truncated)
    other = pickle.loads(pickle.dumps(agent))
    again = copy.deepcopy(agent)
    chosen = [one.act(observation, greedy=False) for one in (agent, other, again)]
    assert np.unique(chosen).size == 1
    assert other.report().scalars.keys() == agent.report().scalars.keys()
    env.close()


def test_a_cloud_comes_back_with_its_engine_or_by_its_particles():
    engine = DCPC(model(), num_particles=8)
    data = {"x": torch.ones(4)}
    state, _ = engine.run(engine.init(data, seed=0), 5)
    other, cloud = pickle.loads(pickle.dumps((engine, state)))
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    ran, _ = engine.run(state, 5, generator=generators[0])
    went_on, _ = other.run(cloud, 5, generator=generators[1])
    assert torch.equal(ran.particles["z"], went_on.particles["z"])
    equal = DCPC(model(), num_particles=8)
    with pytest.raises(ModelError, match=r"engine\.init\(data, particles=cloud\.particles\)"):
        equal.run(state, 1)
    carried = equal.init(data, particles=state.particles, seed=0)
    assert torch.equal(carried.particles["z"], state.particles["z"])


if __name__ == "__main__":
    fork_and_compare()
