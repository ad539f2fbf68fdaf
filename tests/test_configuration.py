"""From configurations to objects, and from mistakes to sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from robopolicy import configuration
from robopolicy.configuration import build, load, plain, resolve, whole
from robopolicy.errors import ConfigError
from robopolicy.evaluation.statistics import Interval
from robopolicy.spec import ArraySpec, Part

PART = {"_target_": "robopolicy.spec.Part", "name": "x", "size": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small configuration folder in the place of `configs/`."""
    files = {
        "cook.yaml": "defaults: [{sauce: red}, _self_]\nsalt: 1\noven: {heat: 200, fan: true}\nplate: ???\n"
        "pepper: ${salt}\n",
        "sauce/red.yaml": "name: red\n",
        "sauce/green.yaml": "name: green\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(configuration, "CONFIG_FOLDER", tmp_path)
    return tmp_path


def test_a_target_is_called_with_the_other_keys() -> None:
    assert build(PART) == Part("x", 2)
    assert build(PART, kind="joint") == Part("x", 2, "joint")
    assert build(OmegaConf.create(PART)) == Part("x", 2)


def test_nested_targets_are_built_first_in_mappings_and_lists() -> None:
    config = {"_target_": "robopolicy.spec.ArraySpec", "shape": [2], "parts": [PART], "calibration": {"part": PART}}
    spec = build(config)
    assert isinstance(spec, ArraySpec)
    assert spec.parts == [Part("x", 2)]  # type: ignore[comparison-overlap]
    assert spec.calibration == {"part": Part("x", 2)}


def test_building_does_not_change_the_configuration() -> None:
    config = {"_target_": "robopolicy.spec.ArraySpec", "shape": [2], "parts": [dict(PART)]}
    build(config)
    assert config == {"_target_": "robopolicy.spec.ArraySpec", "shape": [2], "parts": [PART]}


def test_functions_are_targets_too() -> None:
    config = {"_target_": "robopolicy.evaluation.statistics.wilson", "successes": 5, "count": 10}
    assert isinstance(build(config), Interval)


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.run", "builtins.eval", "robopolicy_evil.run", "torch.load", "robopolicy", ""]
)
def test_targets_outside_the_packages_are_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=r"lies outside the packages robopolicy, hardware, sim"):
        resolve(target)
    with pytest.raises(ConfigError):
        build({"_target_": target})


@pytest.mark.parametrize(
    "target",
    [
        "robopolicy.configuration.compose",
        "robopolicy.configuration.importlib",
        "robopolicy.evaluation.pool.subprocess",
        "robopolicy.evaluation.pool.Pipe",
        "robopolicy.control.clock.Callable",
    ],
)
def test_what_a_module_only_imports_is_no_target(target: str) -> None:
    """Else a checkpoint could call anything that any of our modules imports."""
    with pytest.raises(ConfigError, match="is only imported there"):
        resolve(target)


def test_names_reached_through_an_import_are_no_targets() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        resolve("robopolicy.evaluation.pool.subprocess.run")


@pytest.mark.parametrize("target", ["robopolicy.nothing.Thing", "robopolicy.spec.Nothing"])
def test_a_target_that_does_not_exist_is_named(target: str) -> None:
    with pytest.raises(ConfigError, match=f"_target_ '{target}' does not exist"):
        resolve(target)


def test_wrong_options_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"'robopolicy\.spec\.Part' does not take these options: .*'colour'"):
        build({**PART, "colour": "red"})
    with pytest.raises(ConfigError, match="missing .* argument: 'size'"):
        build({"_target_": "robopolicy.spec.Part", "name": "x"})
    with pytest.raises(ConfigError, match=r"keys \['name'\] has no '_target_'"):
        build({"name": "x"})


def test_a_type_error_inside_the_target_stays_a_bug() -> None:
    with pytest.raises(TypeError, match="not supported between"):
        build({"_target_": "robopolicy.evaluation.statistics.wilson", "successes": "five", "count": 10})


def test_a_configuration_resolves_its_interpolations() -> None:
    config = plain(OmegaConf.create({"a": 1, "b": {"c": "${a}"}, "d": ["${a}"]}))
    assert config == {"a": 1, "b": {"c": 1}, "d": [1]}
    assert type(config["b"]) is dict
    assert type(config["d"]) is list


def test_overrides_are_hydras(folder: Path) -> None:
    config = load("cook", ["salt=3", "oven.heat=180", "sauce=green"])
    assert (config.salt, config.oven.heat, config.sauce.name, config.pepper) == (3, 180, "green", 3)
    assert load("cook").salt == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sallt=3", "has no key 'sallt', there are: .*salt"),
        ("oven.heet=3", r"has no key 'oven\.heet', there are: heat, fan$"),
        ("sauce=blue", "sauce/blue.*green"),
        ("salt", "configuration 'cook': .*salt"),
        ("pepper=${nowhere}", "nowhere"),
    ],
)
def test_a_mistyped_override_lists_the_right_ones(folder: Path, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        load("cook", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("salt=much", "has salt=much, expected a number like 1$"),
        ("salt=0.5", r"has salt=0\.5, expected a number like 1$"),
        ("salt=true", "has salt=True, expected a number like 1$"),
        ("oven.heat=[1]", r"has oven\.heat=\[1\], expected a number like 200$"),
        ("oven.fan=1", r"has oven\.fan=1, expected true or false$"),
        ("pepper=black", "has pepper=black, expected a number like 1$"),
    ],
)
def test_a_value_of_another_kind_is_refused(folder: Path, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load("cook", [override])


def test_null_and_whole_numbers_for_fractions_are_fine(folder: Path) -> None:
    (folder / "bake.yaml").write_text("defaults: [{sauce: red}, _self_]\nshare: 0.5\nclip: 1.0\nsauce: {amount: 2}\n")
    config = load("bake", ["share=1", "clip=null", "sauce=green", "sauce.amount=3"])
    assert (config.share, config.clip, config.sauce.name, config.sauce.amount) == (1, None, "green", 3)


def test_an_unknown_configuration_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="bake"):
        load("bake")


@pytest.mark.parametrize("value", ["two", 0, 1.5, True, [1]])
def test_an_open_choice_is_none_or_a_whole_number(value: object) -> None:
    assert whole(OmegaConf.create({"divisions": None}), "divisions", least=1) is None
    assert whole(OmegaConf.create({"divisions": 3}), "divisions", least=1) == 3
    with pytest.raises(ConfigError, match=r"divisions=.* is no choice, expected a whole number from 1 on"):
        whole(OmegaConf.create({"divisions": value}), "divisions", least=1)


@pytest.mark.parametrize(
    ("script", "needed", "group"),
    [
        ("eval", "run=x", "task"),
        ("eval", "run=x", "sampler"),
        ("compose", "runs=[a,b]", "task"),
        ("compose", "runs=[a,b]", "sampler"),
        ("data", "data=x", "task"),
        ("probe", "run=x", "sampler"),
        ("train", "task=reach", "policy"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_and_the_right_ones_are_listed(
    script: str, needed: str, group: str
) -> None:
    with pytest.raises(ConfigError, match=rf"Could not find '{group}/typo'\s+Available options in '{group}'"):
        load(script, [needed, f"{group}=typo"])
