"""The table at a glance, one panel a task: success, or the best reward, with its interval for every row, or as curves
over what a control step costs where the table names some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robopolicy.evaluation import drawing
from robopolicy.evaluation.colours import ACCENT, INK, MUTED
from robopolicy.evaluation.drawing import STYLE, WIDTH
from robopolicy.evaluation.table.curves import curves

Json = Mapping[str, Any]

_ROW, _AROUND = 0.30, 0.95
_STYLE: Any = {**STYLE, "axes.spines.left": False, "axes.grid": False, "axes.titlesize": 10}


def picture(document: Json) -> Figure | None:
    """A panel for each block with a measured row; None where there is none."""
    blocks = [block for block in document["blocks"] if any(row["measured_seeds"] for row in block["rows"])]
    if not blocks:
        return None
    if document["series"]:
        return curves(blocks, document["series"])
    heights = [len(block["rows"]) * _ROW + _AROUND for block in blocks]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        panels = figure.subplots(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, block in zip(panels, blocks, strict=True):
            _panel(axes, block)
        figure.align_ylabels()
    return figure


def svg(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    return drawing.svg(figure, _STYLE)


def _panel(axes: Axes, block: Json) -> None:
    measure = block["measure"]
    rewarded = measure == "max_reward"
    scale = 1.0 if rewarded else 100.0
    rows = block["rows"]
    for place, row in enumerate(rows):
        if not row["measured_seeds"]:
            axes.text(0.01 * scale, place, "not measured", va="center", color=MUTED, fontsize=8.5)
            continue
        _draw_row(axes, place, row[measure], row[f"{measure}_by_seed"], scale)
    axes.set_yticks(range(len(rows)), [f"{row['method']}  {row['variant']}" for row in rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.01 * scale, 1.01 * scale)
    axes.grid(axis="x")
    axes.set_title(f"{block['block']}, {block['minutes']:g} minutes of training", pad=6)
    axes.set_xlabel("mean of the best reward" if rewarded else "success (%)")


def _draw_row(axes: Axes, place: int, pooled: Json, by_seed: Sequence[Json], scale: float) -> None:
    """The pooled estimate with its interval, and a hollow dot for each training seed where there are several."""
    axes.plot([pooled["low"] * scale, pooled["high"] * scale], [place, place], color=ACCENT, linewidth=4, alpha=0.35)
    axes.plot(pooled["estimate"] * scale, place, "o", color=ACCENT, markersize=6)
    if len(by_seed) > 1:
        estimates = [seed["estimate"] * scale for seed in by_seed]
        axes.plot(
            estimates,
            [place + 0.27] * len(by_seed),
            "o",
            markerfacecolor="white",
            markeredgecolor=ACCENT,
            markersize=3.6,
        )
