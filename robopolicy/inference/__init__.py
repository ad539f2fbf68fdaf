"""Wrappers around trained policies: warm starts, composition, continuation, selection, and the fast path."""
