"""How good a critic's values are on episodes that it was not fitted to: order (AUROC) and calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.floating[Any]]


def auroc(values: Array, success: NDArray[np.bool_]) -> float | None:
    """Chance that a random success [N] has the higher value [N] than a random failure, equal ones counting half.

    None where one of both is missing.
    """
    positive, negative = int(success.sum()), int((~success).sum())
    if positive == 0 or negative == 0:
        return None
    rank_sum = float(rankdata(values)[success].sum())
    return (rank_sum - positive * (positive + 1) / 2) / (positive * negative)


def calibration(values: Array, returns: Array, bins: int = 5) -> list[dict[str, float]]:
    """Windows in the order of their value, cut into `bins` of equal size: mean value and mean return of each."""
    order = np.argsort(values, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        {"windows": len(part), "value": float(values[part].mean()), "return": float(returns[part].mean())}
        for part in parts
    ]


def calibration_error(table: list[dict[str, float]]) -> float:
    """Mean distance of value and return over the windows of `calibration`."""
    windows = sum(row["windows"] for row in table)
    return sum(row["windows"] * abs(row["value"] - row["return"]) for row in table) / windows
