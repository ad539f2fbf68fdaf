"""What environment seeds are for: nothing is tuned or reported on seeds that a policy was trained on."""

from __future__ import annotations

from collections.abc import Sequence

DEMONSTRATION = "demonstration"
RANGES = {DEMONSTRATION: range(0, 5_000), "tuning": range(5_000, 10_000), "result": range(10_000, 100_000)}


def kinds_of(seeds: Sequence[int]) -> list[str]:
    """Which kinds of seeds are among `seeds`, in the order of `RANGES`; "other" for those that belong to none."""
    kinds = [kind for kind, numbers in RANGES.items() if any(seed in numbers for seed in seeds)]
    known = all(any(seed in numbers for numbers in RANGES.values()) for seed in seeds)
    return kinds if known else [*kinds, "other"]
