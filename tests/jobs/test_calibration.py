"""Paces, and what training took."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_cells import small_plan

from robopolicy.errors import ConfigError
from robopolicy.files import write_json
from robopolicy.jobs.calibration import Calibrations, training_seconds

PACE = {"seconds_per_step": 0.02, "workers": 1, "core_share": 0.99}


def test_a_pace_belongs_to_its_overrides(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    overrides = plan.train_overrides("reach", "bc")
    write_json(
        tmp_path / "calibration.json",
        {"reach/bc": {**PACE, "overrides": overrides}, "push/bc": {**PACE, "overrides": overrides}},
    )
    calibrations = Calibrations(tmp_path, plan)
    pace = calibrations.pace("reach", "bc")
    assert pace is not None
    assert pace.seconds_per_step == 0.02
    assert calibrations.pace("push", "bc") is None
    assert calibrations.pace("reach", "diffusion") is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    (tmp_path / "calibration.json").write_text('{"reach/bc": {"speed": 1}}')
    with pytest.raises(ConfigError, match=r"calibration\.json cannot be read .*: remove it"):
        Calibrations(tmp_path, plan)


def test_training_seconds_add_up_over_sittings() -> None:
    """100 steps at 50 a second, 100 at 25, then a new sitting from step 200 at 50 a second."""
    records = [
        {"step": 100, "loss": 1.0, "steps_per_second": 50.0},
        {"step": 200, "loss": 1.0, "steps_per_second": 25.0},
        {"step": 200, "validation_loss": 1.0},
        {"step": 250, "loss": 1.0, "steps_per_second": 50.0},
    ]
    assert training_seconds(records) == pytest.approx(2 + 4 + 1)
    assert training_seconds([]) == 0
