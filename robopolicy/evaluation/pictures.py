"""The pictures of a report as SVG files, in one restrained style: training, episodes, rewards, predicted chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from robopolicy.control.interpolation import parts_of
from robopolicy.evaluation.colours import ACCENT, FAILURE, MUTED, SUCCESS
from robopolicy.evaluation.drawing import STYLE, WIDTH, svg
from robopolicy.evaluation.episodes import EpisodeResult, Trace
from robopolicy.rotation import ROTATION_KINDS
from robopolicy.spec import ArraySpec, Part, RobotSpec

MOST_DIMENSIONS = 16
"""A chunk picture shows at most this many action dimensions."""


def training_curve(records: Sequence[Mapping[str, float]]) -> bytes | None:
    """Loss and validation loss over steps, from records with `step` and `loss` or `validation_loss`; None for none."""
    curves = {key: _series(records, key) for key in ("loss", "validation_loss")}
    shown = [values for _, values in curves.values() if len(values)]
    if not shown:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.1)
        steps, losses = curves["loss"]
        if len(losses):
            axes.plot(steps, losses, color=ACCENT, linewidth=0.8, alpha=0.35)
            axes.plot(steps, _smooth(losses), color=ACCENT, linewidth=1.8, label="training (smoothed)")
        steps, losses = curves["validation_loss"]
        if len(losses):
            axes.plot(
                steps, losses, color=FAILURE, linewidth=1.4, marker="o", markersize=3.5, label="held-out episodes"
            )
        everything = np.concatenate(shown)
        if everything.min() > 0 and everything.max() > 10 * everything.min():
            axes.set_yscale("log")
        axes.set(xlabel="gradient step", ylabel="loss (normalised actions)")
        axes.legend(loc="upper right")
        return svg(figure)


def episode_strip(results: Sequence[EpisodeResult]) -> bytes:
    """One bar for each episode: its height is the steps taken, its colour the outcome."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(2.4)
        places = np.arange(len(results))
        steps = [result.summary.steps for result in results]
        bars = axes.bar(places, steps, width=0.8, color=[_colour(result) for result in results])
        for bar, result in zip(bars, results, strict=True):
            if not result.success:
                bar.set_hatch("////")
                bar.set_edgecolor("white")
                bar.set_linewidth(0)
        shown = places[:: max(1, int(np.ceil(len(results) / 12)))]
        axes.set_xticks(shown, [str(results[place].seed) for place in shown])
        axes.set_xlim(-0.8, len(results) - 0.2)
        axes.grid(axis="x", visible=False)
        axes.set(xlabel="seed", ylabel="control steps")
        _outcome_legend(figure, hatched=True)
        return svg(figure)


def reward_curves(results: Sequence[EpisodeResult], rate_hz: float) -> bytes | None:
    """Left: reward over time, one line for each episode. Right: the best reward of every episode, sorted."""
    rewarded = [result for result in results if result.summary.rewards]
    if not rewarded:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        alpha = float(np.clip(12 / len(rewarded), 0.15, 0.8))
        for result in rewarded:
            times_s = np.arange(1, len(result.summary.rewards) + 1) / rate_hz
            left.plot(times_s, result.summary.rewards, color=_colour(result), linewidth=1.1, alpha=alpha)
        left.set(xlabel="time (s)", ylabel="reward")
        ordered = sorted(rewarded, key=lambda result: result.max_reward)
        best = [result.max_reward for result in ordered]
        right.scatter(np.arange(1, len(best) + 1), best, s=14, color=[_colour(result) for result in ordered])
        right.axhline(float(np.mean(best)), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        right.set(xlabel="episodes, sorted (dashes: mean)", ylabel="best reward")
        _outcome_legend(figure)
        return svg(figure)


def info_names(results: Sequence[EpisodeResult]) -> list[str]:
    return sorted({name for result in results for name in result.info})


def info_values(results: Sequence[EpisodeResult], name: str) -> NDArray[np.float64]:
    """What actors said as `name`, of all chunks of these episodes, [n]."""
    return np.concatenate([np.asarray(result.info.get(name, ()), dtype=np.float64) for result in results])


def info_histograms(results: Sequence[EpisodeResult]) -> bytes | None:
    """One histogram for each name that takes more than one value: SVG, or None where there is none."""
    names = [name for name in info_names(results) if len(np.unique(info_values(results, name))) > 1]
    if not names:
        return None
    succeeded, failed = [r for r in results if r.success], [r for r in results if not r.success]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            edges = _edges(info_values(results, name))
            if succeeded:
                axes.hist(info_values(succeeded, name), edges, histtype="stepfilled", color=SUCCESS, alpha=0.6)
            if failed:
                axes.hist(info_values(failed, name), edges, histtype="step", color=FAILURE, linewidth=1.4)
            axes.set_xlabel(name)
            axes.set_ylabel("chunks")
        return svg(figure)


def energy_histograms(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> bytes:
    """Energies [n] of chunks at starts inside and outside the training region, on a logarithmic axis where all are
    positive: SVG."""
    every = np.concatenate([inside, outside])
    positive = bool((every > 0).all())
    low, high = float(every.min()), float(every.max())
    edges: list[float] = (np.geomspace if positive and low < high else np.linspace)(low, high + 1e-12, 41).tolist()
    with mpl.rc_context(STYLE):
        figure, axes = _figure(2.8)
        axes.hist(inside, edges, histtype="stepfilled", color=SUCCESS, alpha=0.6, label="inside the training region")
        axes.hist(outside, edges, histtype="step", color=FAILURE, linewidth=1.6, label="outside")
        axes.set_xscale("log" if positive else "linear")
        axes.set_xlabel("final energy of an episode's first chunk")
        axes.set_ylabel("starts")
        figure.legend(loc="outside upper right", ncols=2)
        return svg(figure)


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One bin a whole number where there are few, else thirty bins."""
    low, high = float(values.min()), float(values.max())
    if np.array_equal(values, np.round(values)) and high - low <= 40:
        return np.arange(low - 0.5, high + 1.0, dtype=np.float64)
    return np.linspace(low, high, 31, dtype=np.float64)


def chunk_picture(trace: Trace, spec: RobotSpec) -> bytes:
    """Each action dimension over time: predicted chunks as thin coloured lines, what was sent in black.

    Every value stands at the time at which it is to be reached; a chunk's line begins one period after its observation.
    """
    names = action_names(spec.action)
    shown = min(len(names), MOST_DIMENSIONS)
    columns = 1 if shown < 3 else 2
    rows = -(-shown // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.45 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        panels = list(grid.T.ravel())
        for dimension, axes in enumerate(panels):
            if dimension < shown:
                _draw_dimension(axes, trace, spec.period_ns, dimension)
                axes.set_title(names[dimension], pad=3)
            else:
                axes.set_visible(False)
        for axes in [*grid[-1], panels[shown - 1]]:
            axes.set_xlabel("time (s)")
            axes.tick_params(labelbottom=True)
        return svg(figure)


def action_names(spec: ArraySpec) -> list[str]:
    """A title with its unit for each element of an action."""
    return [name for part, _ in parts_of(spec) for name in _dimension_names(part, spec.unit)]


def _draw_dimension(axes: Axes, trace: Trace, period_ns: int, dimension: int) -> None:
    start_ns = trace.chunks[0].observed_ns if trace.chunks else 0
    colours = colormaps["viridis"](np.linspace(0.05, 0.85, max(len(trace.chunks), 1)))
    if len(trace.times_ns):
        sent_s = (trace.times_ns + period_ns - start_ns) / 1e9
        axes.plot(sent_s, trace.actions[:, dimension], color="black", linewidth=2.0)
    for chunk, colour in zip(trace.chunks, colours, strict=False):
        times_s = (chunk.times_ns - start_ns) / 1e9
        values = chunk.actions[:, dimension]
        axes.plot(times_s, values, color=colour, linewidth=1.0, marker="o", markersize=3, markevery=[0])
    axes.margins(x=0.01)


def _dimension_names(part: Part, unit: str) -> list[str]:
    """A title for each value of a part; the action's unit stands where it applies."""
    if part.kind == "rotation_vector":
        unit = "rad"
    elif part.kind in ROTATION_KINDS or part.kind == "gripper":
        unit = ""
    letters = "xyz" if part.size == 3 else "xy" if (part.kind, part.size) == ("position", 2) else ""
    suffixes = [""] if part.size == 1 else [f" {letters[i] if letters else i + 1}" for i in range(part.size)]
    return [part.name + suffix + (f" ({unit})" if unit else "") for suffix in suffixes]


def _series(records: Sequence[Mapping[str, float]], key: str) -> tuple[Any, Any]:
    rows = [(record["step"], record[key]) for record in records if key in record and np.isfinite(record[key])]
    array = np.asarray(rows, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _smooth(values: Any) -> Any:
    """A centred mean over a fiftieth of the curve."""
    half = len(values) // 100
    padded = np.pad(values, half, mode="edge")
    return np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _colour(result: EpisodeResult) -> str:
    return SUCCESS if result.success else FAILURE


def _outcome_legend(figure: Figure, *, hatched: bool = False) -> None:
    handles = [
        Patch(color=SUCCESS, label="success") if hatched else Line2D([], [], color=SUCCESS, label="success"),
        Patch(facecolor=FAILURE, hatch="////", edgecolor="white", linewidth=0, label="failure")
        if hatched
        else Line2D([], [], color=FAILURE, label="failure"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
