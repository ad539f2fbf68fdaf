"""Noise paths, predictions, noise streams and the basic samplers. Knows nothing of networks, robots or tasks."""
