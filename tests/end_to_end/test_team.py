"""One learning run on two processes: the same as on one, up to the order of sums; stopped and resumed on any number.

Oracle: the run of one process.
"""

import json
import os
import signal
import socket
import time
from types import SimpleNamespace

import pytest
import torch

from aif_dcpc.image_runs.shared_learning import fairly
from aif_dcpc.image_runs.team import Exchange, OwnNoise, Team, pooled
from aif_dcpc.inference.moves.adaptation import SiteAdaptation
from aif_dcpc.runs import RunFolder

SMALL = (
    "experiment=digits",
    "epochs=2",
    "log_every=1",
    "checkpoint_every=4",
    "picture_every=0",
    "images.options.sizes=[3,6]",
    "images.validation_sweeps=4",
    "images.validation_images=10",
)
LEARNING = {
    "exact": (),
    "published first": (
        "images.paper_share=0.5",
        "images.visits=2",
        "images.recycle=true",
        "images.binarize=true",
    ),
    "small batches, of which one has nothing": (
        "images.train_images=24",
        "images.batch_size=1",
    ),
    "pgd": ("images.method=pgd",),
    "on two machines": ("images.visits=2", "images.recycle=true"),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def team(spawn_quickly):
    """Start a command in two processes, as torchrun does."""

    def start(*arguments, here=True):
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        shared["LOCAL_WORLD_SIZE"] = "2" if here else "1"  # else as if on two machines
        return [
            spawn_quickly(
                "train",
                *arguments,
                environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                output=f"output-{rank}.txt",
            )
            for rank in range(2)
        ]

    return start


def wait(processes, tmp_path, *codes):
    for process in processes:
        process.join(250)
    found = tuple(process.exitcode for process in processes)
    said = "".join(path.read_text() for path in sorted(tmp_path.glob("output*.txt")))
    assert found == codes, said
    return said


def records(folder):
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in lines]


def close(left, right):
    """Records and parameters of two runs, alike up to the order of sums."""
    for a, b in zip(records(left), records(right), strict=True):
        assert a.keys() == b.keys()
        assert all(b[k] == pytest.approx(a[k], rel=2e-3, abs=1e-4) for k in a if a[k] is not None)
    left, right = left.load_checkpoint(), right.load_checkpoint()
    for name, value in left["model"].items():
        torch.testing.assert_close(right["model"][name], value, rtol=1e-2, atol=1e-3)
    assert torch.equal(left["learner"]["generator"], right["learner"]["generator"])
    for name, value in left["learner"]["particles"].items():
        other = right["learner"]["particles"][name]
        far = ((other - value).abs().flatten(1).max(1).values > 1e-2).float().mean()
        assert far < 0.02, (name, far)  # a decision that was close may fall to the other side


@pytest.mark.parametrize("learning", LEARNING)
def test_two_processes_learn_what_one_learns(learning, team, spawn_quickly, tmp_path):
    asked = (*SMALL, *LEARNING[learning])
    both = team(*asked, "run_dir=two", here=learning != "on two machines")
    alone = spawn_quickly("train", *asked, "run_dir=one")
    said = wait([*both, alone], tmp_path, 0, 0, 0)
    assert "next:" in said and not (tmp_path / "output-1.txt").read_text()
    two = RunFolder(tmp_path / "two")
    close(RunFolder(tmp_path / "one"), two)
    assert not two.particles.exists()


def test_a_team_stops_together_and_its_run_goes_on_alone(team, spawn_quickly, tmp_path):
    asked = (*SMALL, "epochs=30")
    run = RunFolder(tmp_path / "two")
    both = team(*asked, "run_dir=two")
    end = time.monotonic() + 200
    while not run.checkpoints() or run.checkpoints()[0].name < "step-0000000004.pt":
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(both[1].pid, signal.SIGTERM)  # the other one hears of it
    for process in both:
        process.join(100)
    reached = run.load_checkpoint()["progress"]["step"]
    assert 4 <= reached < 180 and not [p for p in both if p.is_alive()]
    for processes in ([spawn_quickly("train", "resume=two", "max_minutes=0.001")], None):
        for process in processes or team("resume=two", "max_minutes=0.001"):
            process.join(200)
            assert process.exitcode == 0
    assert run.load_checkpoint()["progress"]["step"] >= reached


def test_who_is_left_alone_says_so(team, tmp_path):
    run = RunFolder(tmp_path / "two")
    left, killed = team(*SMALL, "epochs=30", "run_dir=two")
    end = time.monotonic() + 200
    while not run.path.exists() or len(run.checkpoints()) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    killed.kill()
    killed.join(100)
    said = wait([left], tmp_path, 2)
    assert "has stopped" in said and "resume=two" in said and "Traceback" not in said


def test_a_batch_is_shared_evenly_and_few_data_change_hands():
    generator = torch.Generator().manual_seed(0)
    for size in (2, 3, 8):
        for batch in (1, 5, 64, 513):
            owners = torch.randint(0, size, (batch,), generator=generator)
            counts = torch.bincount(fairly(owners, size), minlength=size)
            assert int(counts.max()) <= -(-batch // size)
            if size == 2:
                lent = int((fairly(owners, size) != owners).sum())
                surplus = int(torch.bincount(owners, minlength=2).max() - counts.max())
                assert surplus <= lent <= surplus + 1


def test_what_cannot_be_shared_is_refused_once(team, tmp_path):
    said = wait(team(*SMALL, "images.data=mnits"), tmp_path, 2, 2)
    assert said.count("error:") == 1 and "Did you mean 'mnist'" in said
    said = wait(team(*SMALL, "images.method=vae", "run_dir=x"), tmp_path, 2, 2)
    assert "learns in one process" in said
    said = wait(team("agent=random", "env=TMaze"), tmp_path, 2, 2)
    assert "an agent learns in one process" in said


def test_noise_of_a_part_is_that_part_of_the_noise():
    batch, particles = 7, 3
    places = torch.tensor([1, 4, 6])

    def draws(size):
        generator = torch.Generator().manual_seed(0)
        return [
            torch.rand(particles, size, generator=generator),
            torch.randn((particles, size, 2, 5), generator=generator),
            torch.empty(particles, size, 4).normal_(generator=generator),
            torch.rand(1, size, generator=generator),
            torch.randn(1, particles * size, 6, generator=generator).unflatten(1, (particles, -1))[
                0
            ],
            torch.randn(size, 2, generator=generator).T,
        ]

    whole = draws(batch)
    with OwnNoise(particles, batch, places):
        part = draws(len(places))
    for a, b in zip(whole, part, strict=True):
        assert torch.equal(a[:, places], b)


def test_what_moves_learn_from_parts_is_what_they_learn_from_all():
    """Two processes are played one after the other: totals of the second call are those of both."""
    generator = torch.Generator().manual_seed(0)
    dx = torch.randn(12, 3, generator=generator)
    dscore = -2 * dx + 0.1 * torch.randn(12, 3, generator=generator)
    whole = (
        SiteAdaptation().learned("f", dx, dscore, True, 0).stepped(("m", 1), torch.tensor(0.4), dx)
    )
    parts = [slice(0, 8), slice(8, 12)]
    sums = []

    class Script(Team):
        """Adds what the other process said at the same point."""

        def begin(self, *given):
            said.append(given)
            if len(sums) == 2:
                other = sums[1 - self.rank][len(said) - 1]
                given = tuple(a + b for a, b in zip(given, other, strict=True))
            return SimpleNamespace(totals=lambda: given)

    for _ in range(3):  # what each says depends on what it heard before: usual size, then moments
        rounds = []
        learned = []
        for rank, part in enumerate(parts):
            said = []
            own = len(dx[part])
            exchange = Exchange(Script(rank, 2))
            one = pooled(SiteAdaptation(), exchange=exchange, own=own, batch=12)
            one = one.learned("f", dx[part], dscore[part], True, 0)
            one = one.stepped(("m", 1), torch.tensor(0.4), dx)
            assert not said  # nothing is exchanged before it is needed
            learned.append(one.settled())
            rounds.append(said)
            assert len(said) == 2
        sums = rounds
    for one in learned:
        torch.testing.assert_close(one.secants["f"].xx, whole.secants["f"].xx)
        torch.testing.assert_close(one.secants["f"].xy, whole.secants["f"].xy)
        torch.testing.assert_close(one.log_steps[("m", 1)], whole.log_steps[("m", 1)])
