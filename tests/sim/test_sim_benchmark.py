"""The rendering benchmark draws with both renderers and reports what it did."""

from __future__ import annotations

import pytest

from robopolicy.errors import RenderingError
from sim.benchmark import loop, rendering
from sim.gl import GlBackend, probe_gl


@pytest.mark.slow
def test_reports_rates_of_both_renderers() -> None:
    try:
        if probe_gl().name != "egl":
            pytest.skip("robosuite's own renderer needs egl, which does not work on this machine")
    except RenderingError as error:
        pytest.skip(str(error))
    report = rendering(images=3, size=32)
    assert report["plain_images_per_s"] > 0
    assert report["ratio"] == pytest.approx(report["plain_images_per_s"] / report["robosuite_images_per_s"])
    assert (report["images"], report["size"], report["gl"]) == (3, 32, "egl")


def test_says_so_where_robosuite_cannot_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.benchmark.probe_gl", lambda: GlBackend("osmesa"))
    with pytest.raises(RenderingError, match="egl only, the working GL back end is osmesa"):
        rendering()


def test_the_loop_reports_ticks_and_lateness_in_order() -> None:
    report = loop(seconds=0.05)
    assert report["ticks_per_s"] > 0
    late = report["late_ms"]
    assert 0 <= late["p50"] <= late["p99"] <= late["p99.9"] <= late["max"]
