"""The colours of a report, for the page and for the pictures on it."""

from __future__ import annotations

INK = "#1f2933"
MUTED = "#66707c"
LINE = "#dfe4e8"
"""Grids in pictures and rules between sections."""

ACCENT = "#2b62a3"
SUCCESS = "#2f8a63"
FAILURE = "#c4543f"

SERIES = (ACCENT, FAILURE, SUCCESS, "#8a5aa8", "#c48a1a", "#3f9bb5", "#7a4a2b", "#5f6b7a")
"""Of curves in one panel, told apart by their markers too."""
