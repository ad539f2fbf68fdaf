"""The table as a page for people, made from its JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robopolicy.evaluation.statistics import Interval

Json = Mapping[str, Any]


def markdown(document: Json) -> str:
    """`docs/results/<name>.md`."""
    parts = [f"# {document['title']}", *_introduction(document)]
    for block in document["blocks"]:
        parts += [f"## {block['block']}", _conditions(block), _rows(block), *_significance(block)]
    parts += ["## Claims named before measuring", *_claims(document["claims"])] if document["claims"] else []
    parts += ["## Larger, for a GPU", *_larger(document["larger"])] if document["larger"] else []
    return "\n\n".join(parts) + "\n"


def _introduction(document: Json) -> Iterator[str]:
    name = document["name"]
    yield (
        f"Made by `python scripts/table.py name={name}` from `configs/table/{name}.yaml`; every number on this page "
        f"comes from [{name}.json]({name}.json), which has the outcome of every episode."
    )
    yield (
        "In each block every method has the same training budget, minutes of one core. The seconds that one optimiser "
        f"step takes are measured first and the number of steps follows ({document['reserve']:.0%} of the budget is "
        "left for validation and checkpoints), so all training seeds take the same number of steps; the training "
        "time in the tables is the wall clock's, with whatever else the machine did. The last averaged checkpoint is "
        "evaluated, on environment seeds that neither training nor tuning saw."
    )
    yield (
        "Success has its 95 % Wilson interval, pooled over training seeds and for each of them; the pooled interval "
        "does not contain the difference between training runs. An evaluation is one forward of one network on one "
        "row; milliseconds are those of the policy of the first training seed for one robot on one thread, spread over "
        "the control steps, and in brackets the slowest single call."
    )
    if any(_shows_seams(block) for block in document["blocks"]):
        yield (
            "The seam is how far the first action of a chunk is from what the chunk before it had said of that tick: "
            "the root mean square over the normalised action, the mean over all chunks."
        )
    if document["machines"]:
        yield f"Measured on: {'; '.join(document['machines'])}."
    if document["series"]:
        yield f"![success against evaluations per control step]({name}.svg)"
        yield "Each point is one row of the tables, all training seeds, with its 95 % interval."
    else:
        yield f"![success of every method with its 95 % interval]({name}.svg)"
        yield "Dot and bar: all training seeds with the 95 % interval. Hollow dots: each training seed."


def _conditions(block: Json) -> str:
    last = block["first_seed"] + block["episodes"] - 1
    sentence = (
        f"{block['minutes']:g} minutes of training for each run, {block['episodes']} episodes for each training seed "
        f"(environment seeds {block['first_seed']} to {last})."
    )
    if len(block["datasets"]) > 1:
        sentence += f" Attention: its cells were trained on {len(block['datasets'])} different datasets."
    return sentence


def _rows(block: Json) -> str:
    rewarded = block["measure"] == "max_reward"
    header = ["method", "sampler", "success, all training seeds", "by training seed"]
    header += ["mean of the best reward"] if rewarded else []
    seams = _shows_seams(block)
    header += ["seam"] if seams else []
    header += ["evaluations per control step", "ms per control step", "parameters", "steps", "training, wall clock (s)"]
    return _table(header, [_cells(row, rewarded, seams) for row in block["rows"]])


def _shows_seams(block: Json) -> bool:
    """Whether every measured row has one: a policy that answers once an episode has none."""
    measured = [row for row in block["rows"] if row["measured_seeds"]]
    return bool(measured) and all(row["seam"] is not None for row in measured)


def _cells(row: Json, rewarded: bool, seams: bool) -> list[str]:
    missing = len(row["seeds"]) - len(row["measured_seeds"])
    names = [row["method"], row["variant"]]
    if not row["measured_seeds"]:
        return [*names, "not measured", *[""] * (7 + rewarded + seams - 1)]
    seeds = "; ".join(_rate(interval) for interval in row["success_by_seed"])
    single = len(row["seeds"]) == 1
    return [
        *names,
        _rate(row["success"]) + (f" ({missing} of {len(row['seeds'])} runs missing)" if missing else ""),
        "one run" if single else seeds,
        *([_score(row["max_reward"])] if rewarded else []),
        *([f"{row['seam']:.3f}"] if seams else []),
        f"{row['evaluations_per_control_step']:.2f}",
        _milliseconds(row),
        f"{row['parameters'] / 1e6:.2f} M",
        f"{row['steps']:,}{' (capped)' if row['capped'] else ''}",
        f"{statistics.fmean(row['training_seconds']):.0f}",
    ]


def _milliseconds(row: Json) -> str:
    if row["milliseconds_per_control_step"] is None:
        return ""
    return f"{row['milliseconds_per_control_step']:.2f} ({row['milliseconds_of_slowest_call']:.0f})"


def _significance(block: Json) -> Iterator[str]:
    differences = block["differences"]
    if not differences:
        return
    what = "success" if block["measure"] == "success" else "the mean of the best reward"
    tested = f"of {len(differences)} compared in {what}, with Holm's correction at 5 %"
    undecided = [one for one in differences if not one["significant"]]
    if not undecided:
        yield f"Significant: every difference {tested}."
    elif len(undecided) == len(differences):
        yield f"Not significant: any difference {tested}."
    else:
        listed = "; ".join(_versus(row, undecided) for row in dict.fromkeys(one["a"] for one in undecided))
        yield f"Not significant: {len(undecided)} {tested}: {listed}. All others are."


def _versus(row: str, differences: Sequence[Json]) -> str:
    """A row and those it was compared with, each with how much better the first one is."""
    others = [one for one in differences if one["a"] == row]
    return f"{_name(row)} and " + ", ".join(f"{_name(o['b'])} ({o['difference']['estimate']:+.3f})" for o in others)


def _claims(claims: Sequence[Json]) -> Iterator[str]:
    yield (
        "Not worse: the lower end of the paired 95 % interval of candidate minus reference lies above -0.05 with at "
        "least 400 pairs, above -0.10 with 100 to 399. A pair has the same training seed and the same environment "
        "seed; with several training seeds the bootstrap draws both. After Holm: still so when the one-sided p-values "
        "of all claims here that could be decided are corrected for their number, at 2.5 %."
    )
    header = ["task", "candidate", "reference", "measured in", "means", "difference", "pairs", "verdict", "after Holm"]
    yield _table(header, [_claim(claim) for claim in claims])
    if any(claim.get("saturated") for claim in claims):
        yield (
            "Saturated: the success rate of the reference lies outside 60 to 85 %, so the task decides little between "
            "these two."
        )


def _claim(claim: Json) -> list[str]:
    measure = "success" if claim["measure"] == "success" else "best reward"
    names = [claim["block"], _name(claim["candidate"]), _name(claim["reference"]), measure]
    if not claim["training_seeds"]:
        return [*names, "", "", "", "not measured", ""]
    words = {True: "not worse", False: "not shown to be not worse", None: "undecided (under 100 pairs)"}
    holm = {True: "not worse", False: "not shown", None: ""}[claim.get("not_worse_after_holm")]
    return [
        *names,
        f"{claim['candidate_mean']:.3f}, {claim['reference_mean']:.3f}",
        _difference(claim["difference"]),
        f"{claim['pairs']} ({_seeds(claim['training_seeds'])})",
        words[claim["not_worse"]] + (", saturated" if claim["saturated"] else ""),
        holm + (f" ({_p_value(claim['p_worse_holm'])})" if holm else ""),
    ]


def _larger(rows: Sequence[Json]) -> Iterator[str]:
    yield "Empty until measured; the commands make the row, and the next run of the table fills it in."
    body = [
        [row["block"], row["what"], _rate(row["success"]), _score(row["max_reward"])]
        if row["success"]
        else [row["block"], row["what"], "", ""]
        for row in rows
    ]
    yield _table(["task", "what", "success", "mean of the best reward"], body)
    for row in rows:
        yield f"{row['block']}, {row['what']}:\n\n```\n" + "\n".join(row["commands"]) + "\n```"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rate(interval: Json) -> str:
    return f"{interval['estimate'] * 100:.1f} % [{interval['low'] * 100:.1f}, {interval['high'] * 100:.1f}]"


def _score(interval: Json) -> str:
    return str(Interval(**interval)).partition(" of ")[0]


def _difference(interval: Json) -> str:
    return f"{interval['estimate']:+.3f} [{interval['low']:+.3f}, {interval['high']:+.3f}]"


def _name(row: str) -> str:
    return row.replace("/", " ", 1)


def _p_value(value: float) -> str:
    return f"p {value:.2g}" if value >= 0.001 else "p < 0.001"


def _seeds(seeds: Sequence[int]) -> str:
    return "1 training seed" if len(seeds) == 1 else f"{len(seeds)} training seeds"
