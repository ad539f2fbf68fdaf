"""The benchmark of prepared experts with tiny settings: what it promises, not how fast it is."""

from __future__ import annotations

import pytest

from robopolicy.benchmarks import experts
from robopolicy.errors import ConfigError


def test_experts_are_compared_at_equal_outputs() -> None:
    report = experts.run(nets=["mode_small"], batches=[1, 3], steps=2, seconds=0.0)
    figures = report["nets"]["mode_small"]["batch"]
    assert set(figures) == {"1", "3"}
    for row in figures.values():
        assert row["pairs"] == 1
        assert row["ratio"] == pytest.approx(row["prepared_ms"] / row["routed_ms"])
        assert row["difference"] < 1e-4


def test_a_network_without_experts_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="net 'mlp' has no experts"):
        experts.run(nets=["mlp"], seconds=0.0)
