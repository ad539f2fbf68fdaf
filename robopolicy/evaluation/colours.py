"""The colours of a report, for the page and for the pictures on it."""

from __future__ import annotations

INK = "#1f2933"
MUTED = "#66707c"
LINE = "#dfe4e8"
"""Grids in pictures and rules between sections."""

ACCENT = "#2b62a3"
SUCCESS = "#2f8a63"
FAILURE = "#c4543f"
