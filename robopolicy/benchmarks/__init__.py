"""Measurements that can be repeated: each module has one `run(**options) -> dict`; `scripts/bench.py` calls them."""
