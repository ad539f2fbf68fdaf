"""The file that says what a table holds."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from table_cells import TABLE, small_plan

from robopolicy.configuration import CONFIG_FOLDER, load
from robopolicy.errors import ConfigError
from robopolicy.evaluation.table.plan import Cell, read_plan, slug


def test_cells_come_block_by_block_and_seed_by_seed(tmp_path: Path) -> None:
    cells = [str(cell) for cell in small_plan(tmp_path).cells()]
    assert cells == [
        "reach diffusion seed 0",
        "reach bc seed 0",
        "reach diffusion seed 1",
        "reach bc seed 1",
        "reach bc seed 2",
        "push diffusion seed 0",
        "push bc seed 0",
    ]


def test_overrides_go_from_the_general_to_the_special(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    assert plan.train_overrides("reach", "bc") == [
        "task=reach",
        "data=data/reach",
        "net=mlp",
        "policy=bc_mse",
        "training.batch_size=64",
    ]
    assert plan.train_overrides("push", "bc")[:2] == ["task=pusht", "data=data/pusht"]


def test_the_budget_less_its_reserve_pays_for_the_steps(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    assert plan.steps("reach", "diffusion", 0.01) == 10_800
    assert plan.steps("reach", "diffusion", 0.0299) == int(108 / 0.0299)
    assert plan.steps("reach", "bc", 0.01) == 500
    assert plan.steps("reach", "bc", 1.0) == 108
    assert plan.steps("reach", "diffusion", 1e6) == 1


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("minutes: 2", "minutos: 2", r"small\.yaml: Key 'minutos' not in 'Block'"),
        ("seeds: [0, 1]}", "seeds: [a]}", r"small\.yaml: Value 'a' .* could not be converted to Integer"),
        ("minutes: 2", "minutes: 0", r"blocks\.reach has minutes 0\.0 and episodes 200"),
        ("  bc: {train", "  cloning: {train", r"blocks\.reach\.methods has \['bc'\], which methods does not"),
        ("max_reward\n", "reward\n", r"blocks\.push\.measure is 'reward', expected one of success, max_reward"),
        (
            "candidate: bc/one pass",
            "candidate: bc/two",
            r"block 'push' has no row 'bc/two', only \['diffusion/ddim 10'",
        ),
        ("ddpm 100:", "DDIM-10:", r"methods\.diffusion\.variants has the names \['ddim 10', 'DDIM-10'\]"),
        ("  bc: {train", "  'b,c': {train", r"methods has the name 'b,c', expected letters, digits"),
        ("{block: push, what", "{block: pull, what", r"larger has the block 'pull', there are \['push', 'reach'\]"),
        ("title:", "title: [", r"small\.yaml: while parsing"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    assert before in TABLE
    with pytest.raises(ConfigError, match=sentence) as caught:
        small_plan(tmp_path, TABLE.replace(before, after, 1))
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    small_plan(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no table .*other\.yaml: .* has small"):
        read_plan(tmp_path / "other.yaml")


def test_slugs_are_names_of_folders() -> None:
    assert slug("DDIM 10 (clip 1.0)") == "ddim_10_clip_1_0"


def test_every_cell_and_variant_of_the_tables_here_can_be_composed() -> None:
    for path in sorted((CONFIG_FOLDER / "table").glob("*.yaml")):
        plan = read_plan(path)
        for block, method in dict.fromkeys((cell.block, cell.method) for cell in plan.cells()):
            config = load("train", plan.train_overrides(block, method))
            assert config.task.name == plan.task(block)
            for overrides in plan.methods[method].variants.values():
                load("eval", ["run=here", *overrides])


def test_the_commands_of_larger_rows_can_be_composed_and_end_where_the_table_looks() -> None:
    for path in sorted((CONFIG_FOLDER / "table").glob("*.yaml")):
        for larger in read_plan(path).larger:
            train, evaluation = (shlex.split(command) for command in larger.commands)
            assert (train[:2], evaluation[:2]) == (["python", "scripts/train.py"], ["python", "scripts/eval.py"])
            assert load("train", train[2:]).task.name == larger.block
            config = load("eval", evaluation[2:])
            assert (config.run, config.run_folder) == (load("train", train[2:]).run_folder, larger.evaluation)


def test_a_cell_is_written_as_people_read_it() -> None:
    assert str(Cell("reach", "flow", 2)) == "reach flow seed 2"
