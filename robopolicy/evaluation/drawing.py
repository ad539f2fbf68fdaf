"""What all pictures share: their width, their restrained style, and how a figure becomes a file."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from robopolicy.evaluation.colours import INK, LINE, MUTED

WIDTH = 9.4
STYLE: Any = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#b8c0c8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.hashsalt": "robopolicy",
}


def svg(figure: Figure, style: Any = STYLE) -> bytes:
    """The same bytes for the same figure."""
    buffer = io.BytesIO()
    with mpl.rc_context(style):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
