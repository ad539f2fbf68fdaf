"""What `scripts/bench.py` does: one named benchmark, its figures printed and written as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from robopolicy.command import Run
from robopolicy.configuration import build, plain
from robopolicy.errors import ConfigError


def bench(config: DictConfig, run: Run) -> Mapping[str, Any]:
    """Runs `config.benchmarks[config.name]` and returns its figures with the number of cores they were measured on."""
    benchmarks = plain(config.benchmarks)
    if config.name not in benchmarks:
        raise ConfigError(f"name={config.name} is no benchmark, there are: {', '.join(benchmarks)}")
    if config.device != "cpu" and "device" not in benchmarks[config.name]:
        raise ConfigError(f"name={config.name} computes on no device, leave out device={config.device}")
    figures = build(benchmarks[config.name])
    run.say(json.dumps(figures, indent=2))
    return {"name": config.name, "cores": os.cpu_count(), "figures": figures}
