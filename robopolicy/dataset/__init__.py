"""Zarr episodes on disk: writing, reading, windows for training, statistics, import and edit. No torch here."""
