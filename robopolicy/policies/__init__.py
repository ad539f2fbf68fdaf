"""Policies: what is trained on windows and asked for chunks. All share the interface in `policy.py`."""
