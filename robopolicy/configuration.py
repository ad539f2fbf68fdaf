"""From a configuration to objects, and from a mistyped key to a sentence that lists the right ones.

Configurations are Hydra's. A `_target_` names a callable inside this project's packages only: a configuration that came
with a checkpoint or a dataset must not be able to run anything else.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from robopolicy.errors import ConfigError

PACKAGES = ("robopolicy", "hardware", "sim")
CONFIG_FOLDER = Path(__file__).parents[1] / "configs"


def build(config: Mapping[str, Any] | DictConfig, packages: Sequence[str] = PACKAGES, /, **more: Any) -> Any:
    """Calls the `_target_` of `config` with its other keys and `more`; nested mappings with a `_target_` come first.

    Targets must lie inside `packages`. With `_partial_: true` the result is the callable with its arguments bound, for
    what needs more to be made.

    Raises ConfigError when the target lies outside `packages`, is missing, or does not take the arguments.
    """
    values = plain(config)
    target = values.pop("_target_", None)
    if not isinstance(target, str):
        raise ConfigError(f"a configuration with keys {sorted(values)} has no '_target_' and cannot be built")
    function, partial = resolve(target, packages), bool(values.pop("_partial_", False))
    arguments = {str(key): _build_nested(value, packages) for key, value in values.items()} | more
    if partial:
        return functools.partial(function, **arguments)
    try:
        return function(**arguments)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise ConfigError(f"_target_ '{target}' does not take these options: {error}") from error
        raise


def whole(config: DictConfig, key: str, least: int = 0) -> int | None:
    """A whole number, None where the configuration leaves the choice open. Raises ConfigError for anything else.

    Keys with a number as their default are checked when the command line is read, these are not.
    """
    value = config[key]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{key}={value} is no choice, expected a whole number from {least} on")
    return value


def resolve(target: str, packages: Sequence[str] = PACKAGES) -> Any:
    """The class or function that a dotted path inside `packages` names."""
    module_name, _, name = target.rpartition(".")
    if not any(f"{module_name}.".startswith(f"{package}.") for package in packages):
        raise ConfigError(f"_target_ '{target}' lies outside the packages {', '.join(packages)}")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"_target_ '{target}' does not exist: {error}") from error
    if str(getattr(found, "__module__", "")).split(".", 1)[0] not in PACKAGES:
        raise ConfigError(f"_target_ '{target}' is only imported there, expected a class or function of this project")
    return found


def plain(config: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    """A configuration as plain dictionaries and lists, interpolations resolved."""
    if isinstance(config, DictConfig):
        resolved = OmegaConf.to_container(config, resolve=True)
        assert isinstance(resolved, dict)
        return {str(key): value for key, value in resolved.items()}
    return dict(config)


def load(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration `configs/<name>.yaml` with Hydra overrides. Raises ConfigError in one sentence."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            config = compose(name, overrides=list(overrides))
            OmegaConf.to_container(config, resolve=True)
            _check_kinds(name, config, compose(name, overrides=[entry for entry in overrides if _is_group(entry)]))
            return config
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(name, error)) from error


def _is_group(override: str) -> bool:
    """Whether an override chooses a file (`task=lift`) rather than a value."""
    return (CONFIG_FOLDER / override.partition("=")[0].lstrip("+~")).is_dir()


def _check_kinds(name: str, config: Any, default: Any, parent: str = "") -> None:
    """Raises ConfigError where a number or a truth value has become something else; null may stand for any value."""
    for key in default:
        if OmegaConf.is_missing(default, key) or key not in config or config[key] is None:
            continue
        before, now, path = default[key], config[key], f"{parent}{key}"
        if isinstance(before, DictConfig) and isinstance(now, DictConfig):
            _check_kinds(name, now, before, f"{path}.")
        elif isinstance(before, bool | int | float) and not _is_like(now, before):
            kind = "true or false" if isinstance(before, bool) else f"a number like {before}"
            raise ConfigError(f"configuration '{name}' has {path}={now}, expected {kind}")


def _is_like(value: Any, example: bool | int | float) -> bool:
    if isinstance(value, bool) or isinstance(example, bool):
        return isinstance(value, bool) and isinstance(example, bool)
    return isinstance(value, int if isinstance(example, int) else int | float)


def _build_nested(value: Any, packages: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, packages)
        return {key: _build_nested(entry, packages) for key, entry in value.items()}
    if isinstance(value, list):
        return [_build_nested(entry, packages) for entry in value]
    return value


def _sentence(name: str, error: Exception) -> str:
    cause: BaseException = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    known = _known_keys(name, key) if key else []
    if known:
        return f"configuration '{name}' has no key '{key}', there are: {', '.join(known)}"
    return f"configuration '{name}': " + " ".join(str(error).split())


def _known_keys(name: str, key: str) -> list[str]:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config: Any = compose(name)
    parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
    if not isinstance(parent, DictConfig) or key.rpartition(".")[2] in parent:
        return []
    return [str(entry) for entry in parent]
