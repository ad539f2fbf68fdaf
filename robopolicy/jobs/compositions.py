"""Several compositions as one table: each beside its best parent, with p-values corrected for their number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from robopolicy.errors import ConfigError
from robopolicy.evaluation.statistics import holm

_LEVEL = 0.05
_HEADER = (
    "policies",
    "weights",
    "success",
    "each alone",
    "best alone",
    "difference to it",
    "p (Holm)",
)


def summary(folders: Sequence[Path]) -> dict[str, Any]:
    """What `compose.py` found in each of `folders`, and which of these compositions gain.

    The test is McNemar's of composition against the parent that was best on the tuning seeds, with Holm's correction
    over all folders. Raises ConfigError for a folder that compose.py did not finish with a report.
    """
    found = [_result(folder) for folder in folders]
    adjusted = holm([_p_value(one) for one in found])
    return {
        "compositions": [
            {
                "command": one["command"],
                "task": one["settings"]["task"],
                "policies": one["policies"],
                "weights": one["weights"],
                "tuning": one["search"]["rounds"][-1] if one["search"] else None,
                "success": one["success"],
                "alone": {c["reference"]: c["success_b"] for c in one["comparisons"]},
                "compared_with": one["compared_with"],
                "difference": _difference(one),
                "p_holm": p,
                "gain": bool(one["gain"]) and p < _LEVEL,
            }
            for one, p in zip(found, adjusted, strict=True)
        ]
    }


def page(document: Mapping[str, Any], name: str) -> str:
    """The table in Markdown, made from `summary` alone."""
    rows = document["compositions"]
    gains = sum(row["gain"] for row in rows)
    lines = [
        f"# Compositions: {gains} of {len(rows)} gain",
        "Each line is one `python scripts/compose.py`: weights found on tuning seeds (given ones are marked), the "
        "figures from report seeds, the difference to the parent that was best alone on the tuning seeds (for given "
        "weights: on the report seeds), paired by seed. A gain needs an interval above 0 and, over all lines, p below "
        f"0.05 after Holm's correction. [{name}.json]({name}.json) has the commands and the last round of each search.",
        "\n".join(_line(cells) for cells in (_HEADER, ["---"] * len(_HEADER), *(_cells(row) for row in rows))),
    ]
    return "\n\n".join(lines) + "\n"


def _result(folder: Path) -> dict[str, Any]:
    path = folder / "result.json"
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"compositions: {path} cannot be read ({error}), expected what compose.py wrote") from error
    if missing := sorted({"weights", "comparisons", "compared_with"} - set(result)):
        raise ConfigError(f"compositions: {path} lacks {missing}, expected a composition with report_episodes above 0")
    return result


def _compared(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The comparison with the parent that was best on the tuning seeds."""
    compared: Mapping[str, Any] = next(c for c in one["comparisons"] if c["reference"] == one["compared_with"])
    return compared


def _p_value(one: Mapping[str, Any]) -> float:
    """Of equal success; `comparisons` has values that were corrected for the number of parents."""
    wins, losses = _compared(one)["discordant"]
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _difference(one: Mapping[str, Any]) -> Any:
    return _compared(one)["success_difference"]


def _cells(row: Mapping[str, Any]) -> list[str]:
    alone = "; ".join(f"{name} {_rate(rate)}" for name, rate in row["alone"].items())
    difference = row["difference"]
    return [
        f"{row['task']}: {', '.join(row['policies'])}",
        " / ".join(f"{weight:g}" for weight in row["weights"]) + ("" if row["tuning"] else ", given"),
        _rate(row["success"]),
        alone,
        row["compared_with"],
        f"{difference['estimate']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]",
        f"{row['p_holm']:.2g}{', a gain' if row['gain'] else ''}",
    ]


def _rate(rate: Mapping[str, float]) -> str:
    return f"{rate['estimate'] * 100:.1f} % [{rate['low'] * 100:.1f}, {rate['high'] * 100:.1f}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
