"""What an evaluation buys: success, or the best reward, against evaluations per control step, one panel a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robopolicy.evaluation.colours import INK, MUTED, SERIES
from robopolicy.evaluation.drawing import STYLE, WIDTH
from robopolicy.evaluation.table.plan import split_row

Json = Mapping[str, Any]

_PANEL, _LEGEND = 3.0, 0.3
_MARKERS = "osD^vPX<>*"


def curves(blocks: Sequence[Json], series: Mapping[str, Sequence[str]]) -> Figure:
    """A panel for each of the document's `blocks`; `series` names the rows ("method/variant") of each curve."""
    with mpl.rc_context(STYLE):
        names = [name for name in series if any(_points(block, series[name]) for block in blocks)]
        figure = Figure(figsize=(WIDTH, len(blocks) * _PANEL + (len(names) + 2) // 3 * _LEGEND), layout="constrained")
        panels = figure.subplots(len(blocks), 1, squeeze=False, sharex=True)[:, 0]
        for axes, block in zip(panels, blocks, strict=True):
            _panel(axes, block, series)
        handles = {
            label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=3)
        figure.align_ylabels()
    return figure


def _panel(axes: Axes, block: Json, series: Mapping[str, Sequence[str]]) -> None:
    rewarded = block["measure"] == "max_reward"
    scale = 1.0 if rewarded else 100.0
    looks = _looks(series)
    for name, rows in series.items():
        points = sorted(_points(block, rows), key=lambda row: float(row["evaluations_per_control_step"]))
        if not points:
            continue
        costs = [row["evaluations_per_control_step"] for row in points]
        found = [row[block["measure"]] for row in points]
        colour, marker = looks[name]
        axes.vlines(
            costs, [scale * one["low"] for one in found], [scale * one["high"] for one in found], colour, alpha=0.4
        )
        estimates = [scale * one["estimate"] for one in found]
        axes.plot(costs, estimates, color=colour, marker=marker, markersize=5, linewidth=1.2, label=name)
    axes.set_xscale("log")
    axes.set_ylim(-0.03 * scale, 1.03 * scale)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(labelbottom=True)
    axes.set_xlabel("evaluations per control step")
    axes.set_ylabel("mean of the best reward" if rewarded else "success (%)", color=MUTED)
    axes.set_title(f"{block['block']}, {block['minutes']:g} minutes of training", pad=6, color=INK)


def _looks(series: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, str]]:
    """The colour of each curve, which is its method's, and the marker, which no other curve of the method has."""
    methods = {name: split_row(rows[0])[0] for name, rows in series.items() if rows}
    order = list(dict.fromkeys(methods.values()))
    looks = {}
    for name, method in methods.items():
        earlier = sum(other == method for other in list(methods.values())[: list(methods).index(name)])
        looks[name] = SERIES[order.index(method) % len(SERIES)], _MARKERS[earlier % len(_MARKERS)]
    return looks


def _points(block: Json, rows: Sequence[str]) -> list[Json]:
    """The measured rows of a curve."""
    return [row for row in block["rows"] if row["measured_seeds"] and f"{row['method']}/{row['variant']}" in rows]
