"""Refuse a misspelt group, choice or key, or a value of the wrong type, with the closest match.

The YAML files are the schema of what the typed configuration leaves open (the settings of an
agent): a key must stand in them, and a value must have the type of its default (anything where the
default is null).
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aif_dcpc.commands.renewing import refuse_own
from aif_dcpc.errors import ConfigError
from aif_dcpc.misspelt import unknown_name
from aif_dcpc.outside import is_outside
from aif_dcpc.schema import typed

OPTIONS = "images.options."
GRAPH_FOLDER = "aif_dcpc.inference"  # found, not imported: that takes seconds
VERSIONED = re.compile(r"-v\d+$")  # ends the id of an environment
OPEN_KEYS = (
    "env.options",
    "images.options",
)  # groups of keys that belong to somebody else: any key may be added


def check_overrides(config_name: str, overrides: Sequence[str], *, sweep: bool) -> None:
    """Check the overrides of a command against the files of `aif_dcpc.configs`.

    Raises:
        ConfigError: with one sentence that names the key, what was expected, and the closest match.
    """
    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        own = _parsed(overrides, loader)
        _refuse_at_sight(own, sweep=sweep)
        groups = set(loader.list_groups("")) - {"hydra"} if config_name == "train" else set()
        chosen = [entry for entry in own if entry.key_or_group in groups]
        keys = [entry for entry in own if entry not in chosen]
        for entry in chosen:
            _check_choice(loader, entry)
        _check_keys(config_name, groups, chosen, keys)
        if not sweep:
            _refuse_what_hydra_refuses(config_name, [str(entry.input_line) for entry in own])


def _refuse_what_hydra_refuses(config_name: str, overrides: Sequence[str]) -> None:
    """Refuse whatever is left, in one line."""
    try:
        compose(config_name, overrides=list(overrides))
    except HydraException as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"cannot compose {' '.join(overrides)}: {reason}") from None


def _refuse_at_sight(own: Sequence[Override], *, sweep: bool) -> None:
    """Refuse what needs no defaults to be known: several runs without -m, and another run's own keys."""
    names = [entry.key_or_group for entry in own]
    if "resume" in names:
        refuse_own(names)
    if not sweep:
        _refuse_several(own)


def _check_keys(
    config_name: str, groups: set[str], chosen: Sequence[Override], keys: Sequence[Override]
) -> None:
    """Check keys against the defaults of every job's choices."""
    for choices in _combinations(chosen):
        defaults = _with_graph(_defaults(config_name, choices), keys)
        for entry in keys:
            _check_key(defaults, groups, entry)


def _refuse_several(own: Sequence[Override]) -> None:
    """Refuse several values for a key outside a sweep."""
    for entry in own:
        if entry.is_sweep_override():
            raise ConfigError(
                f"{entry.input_line} asks for several runs: add -m, or put the value in quotes."
            )


def _combinations(chosen: Sequence[Override]) -> Iterator[tuple[str, ...]]:
    """Return the choices of every job: `("agent=random", "env=TMaze")` and so on."""
    return product(*(_texts(entry) for entry in chosen))


def _texts(entry: Override) -> list[str]:
    """Return the choices of one group as they would be typed, one at a time."""
    sign = "+" if entry.is_add() else ""
    return [f"{sign}{entry.key_or_group}={choice}" for choice in _choices(entry)]


def _parsed(overrides: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """Parse the overrides, and leave out those of Hydra's own keys."""
    parser = OverridesParser.create(config_loader=loader)
    found = []
    for override in overrides:
        try:
            entry = parser.parse_override(override)
        except HydraException:
            raise ConfigError(_unreadable(override)) from None
        if not entry.key_or_group.startswith("hydra"):
            found.append(entry)
    return found


def _unreadable(word: str) -> str:
    """What to write in the place of a word that is no KEY=VALUE."""
    if Path(word).is_dir():
        return (
            f"cannot read {word!r}: a run folder is named by run={word} (aif-train: resume={word})."
        )
    return f"cannot read {word!r}: write KEY=VALUE, with quotes around odd characters; --help lists all keys."


def _choices(parsed: Override) -> list[Any]:
    """Return the values that an override stands for: several in a sweep, none in a sweep over an interval."""
    if not parsed.is_sweep_override():
        return [parsed.value()]
    return (
        [getattr(v, "text", v) for v in parsed.sweep_iterator()]
        if parsed.is_discrete_sweep()
        else []
    )


def _check_choice(loader: ConfigLoader, parsed: Override) -> None:
    known = loader.get_group_options(parsed.key_or_group, ObjectType.CONFIG)
    for choice in _choices(parsed):
        if choice is not None and choice not in known:
            raise ConfigError(_unknown_choice(parsed.key_or_group, str(choice), known))


def _unknown_choice(group: str, choice: str, known: Sequence[str]) -> str:
    """What to write in the place of a choice that there is not."""
    if group == "env" and VERSIONED.search(choice):
        name = "MiniGrid" if choice.startswith(("MiniGrid-", "BabyAI-")) else "Gymnasium"
        return f"env={choice}: that is the id of an environment: write env={name} env.id={choice}."
    return unknown_name(group, choice, known)


def _defaults(config_name: str, choices: Sequence[str]) -> Mapping[str, Any]:
    """Return the configuration as it is before any value is overridden."""
    try:
        config = compose(config_name, overrides=list(choices))
        return cast(Mapping[str, Any], OmegaConf.to_container(config, resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"cannot compose {' '.join(choices)}: {reason}") from None


def _with_graph(defaults: Mapping[str, Any], keys: Sequence[Override]) -> Mapping[str, Any]:
    """Put the graph that is asked for, whose options may be given, in the place of the default."""
    graphs = [entry.value() for entry in keys if entry.key_or_group == "images.model"]
    if not graphs or not isinstance(defaults.get("images"), Mapping):
        return defaults
    return {**defaults, "images": {**defaults["images"], "model": graphs[-1]}}


def _check_key(defaults: Mapping[str, Any], groups: set[str], parsed: Override) -> None:
    path = parsed.key_or_group
    found = dict(_leaves(defaults))
    if parsed.is_delete() and "=" in str(parsed.input_line):
        raise ConfigError(
            f"{parsed.input_line}: a key is taken away by ~{path}, and set by {path}=VALUE."
        )
    if path in found:
        _check_type(path, found[path], parsed)
    elif path.startswith("images.") and "images" in found:
        _check_image_key(path, found, parsed)
    elif not _is_open(path, defaults):
        raise ConfigError(unknown_name("key", path, _neighbours(path, {*found, *groups})))
    elif parsed.type == OverrideType.CHANGE:
        raise ConfigError(f"key {path!r} is new: write +{parsed.input_line}.")


def _check_image_key(path: str, found: Mapping[str, Any], parsed: Override) -> None:
    """Check a key of image models that has no default: an option of the graph, or out of place."""
    if found["images"] is None:
        raise ConfigError(
            f"{path} is a key of image models: choose an experiment as well, e.g. experiment=digits, or +images=default."
        )
    if not path.startswith(OPTIONS):
        raise ConfigError(unknown_name("key", path, _neighbours(path, set(found))))
    graph = str(found["images.model"])
    known = graph_options(graph)
    option = path.removeprefix(OPTIONS)
    if known and option.partition(".")[0] not in known:
        raise ConfigError(unknown_name(f"option of the graph {graph!r}", option, known))
    if parsed.type == OverrideType.CHANGE:
        raise ConfigError(f"key {path!r} is new: write +{parsed.input_line}.")


def graph_options(graph: str) -> list[str]:
    """Names of the arguments of one of the package's graphs, read off its source; empty for graphs of one's own."""
    found = [node for node in _graph_functions() if node.name == graph]
    arguments = [entry for node in found for entry in (*node.args.args, *node.args.kwonlyargs)]
    return [entry.arg for entry in arguments if entry.arg != "image_shape"]


def _graph_functions() -> Iterator[ast.FunctionDef]:
    """Yield the functions of the folder of graphs, as they are written."""
    place = find_spec(GRAPH_FOLDER)
    assert place is not None and place.submodule_search_locations is not None
    for folder in place.submodule_search_locations:
        for path in Path(folder).glob("images/*.py"):
            statements = ast.parse(path.read_text(encoding="utf-8")).body
            yield from (node for node in statements if isinstance(node, ast.FunctionDef))


def _check_type(path: str, default: Any, parsed: Override) -> None:
    """Refuse a value of another type than the default; anything goes where that is null or free."""
    free = any(path.startswith(f"{group}.") for group in OPEN_KEYS)
    if default is None or free or parsed.is_delete():
        return
    for value in _choices(parsed):
        typed(path, value, type(default))


def _is_open(path: str, defaults: Mapping[str, Any]) -> bool:
    """Tell whether a key may be added: to a group that is somebody else's, or to an agent from outside."""
    groups = list(OPEN_KEYS)
    if is_outside(defaults.get("agent", {}).get("name")):
        groups.append("agent")
    return any(path.startswith(f"{group}.") for group in groups)


def _neighbours(path: str, keys: set[str]) -> set[str]:
    """Return the keys that could have been meant: those of the same group, if there is such a group."""
    group = path.rpartition(".")[0]
    return {key for key in keys if key.rpartition(".")[0] == (group if group in keys else "")}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
