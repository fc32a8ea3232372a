"""Settings far out are refused before anything is made: infinite, no number, beyond 32 bits, negative.

Every numeric key is found and tried; none has a line here.
"""

import math

import pytest

from aif_dcpc.configuration import load_config
from aif_dcpc.errors import ConfigError
from aif_dcpc.schema import (
    LARGEST_SEED,
    evaluate_config,
    rollout_config,
    train_config,
)

EXTREME = (math.inf, -math.inf, math.nan, 2**31, -1, 10**30, 2**63)
SEEDS = ("seed", "env.permute_seed")  # of which 2**31 is one
BUILT = {
    "train": (train_config, ()),
    "images": (train_config, ("experiment=digits",)),
    "rollout": (rollout_config, ()),
    "evaluate": (evaluate_config, ()),
}


def keys(values, prefix=""):
    """Paths of all keys with the group that each stands in; those of somebody else's code are left out."""
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("options", "agent"):
            yield from keys(value, f"{prefix}{key}.")
        elif not isinstance(value, dict):
            yield f"{prefix}{key}"


def with_value(values, path, value):
    group, _, rest = path.partition(".")
    return {**values, group: with_value(values[group], rest, value) if rest else value}


@pytest.mark.parametrize("command", BUILT)
def test_no_key_takes_a_number_that_is_far_out(command):
    build, overrides = BUILT[command]
    values = load_config(command if command != "images" else "train", *overrides)
    build(values)
    tried = 0
    for path in keys(values):
        for extreme in EXTREME:
            if path in SEEDS and 0 <= extreme <= LARGEST_SEED:
                continue
            with pytest.raises(ConfigError) as refused:
                build(with_value(values, path, extreme))
            assert path.rpartition(".")[2] in str(refused.value)
            assert "\n" not in str(refused.value)
            tried += 1
    assert tried > 60


def test_what_is_merely_large_passes():
    values = load_config("train", "agent=random", "env=TMaze")
    for path, large in (
        ("seed", LARGEST_SEED),
        ("total_env_steps", 10**9),
        ("threads", 64),
        ("inference.num_particles", 1000),
    ):
        train_config(with_value(values, path, large))


def test_too_little_memory_is_told_in_one_sentence(tmp_path, monkeypatch, capsys):
    from aif_dcpc.commands import train as train_command

    def starved(config):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 TB")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_command, "create_agent", starved)
    monkeypatch.setattr("sys.argv", ["aif-train", "agent=random", "env=TMaze"])
    with pytest.raises(SystemExit) as left:
        train_command.main()
    error = capsys.readouterr().err
    assert left.value.code == 2 and "more memory than there is" in error
    assert len(error.splitlines()) == 1 and not list(tmp_path.iterdir())
