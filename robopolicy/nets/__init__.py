"""Networks. Each maps a noisy chunk, its level and a condition to a chunk; none knows what the output means."""
