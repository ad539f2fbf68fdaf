"""The report of one evaluation: what was reached, with what settings, and how it looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from robopolicy.evaluation import page, pictures
from robopolicy.evaluation.comparison import Comparison
from robopolicy.evaluation.episodes import EpisodeResult, success_by_detail
from robopolicy.evaluation.page import Section
from robopolicy.evaluation.statistics import bootstrap_mean, wilson
from robopolicy.spec import RobotSpec

_COUNTERS = {
    "limited": "actions moved inside the limits of the action spec",
    "shortened": "steps shortened to the step limit",
    "exhausted": "ticks after the end of the last chunk",
    "repeats": "samples that were seen before",
    "missed": "deadlines that passed before the tick was done",
}


def write_evaluation(
    folder: Path,
    results: Sequence[EpisodeResult],
    *,
    title: str,
    settings: Mapping[str, object],
    spec: RobotSpec,
    training: Sequence[Mapping[str, float]] = (),
    comparisons: Sequence[Comparison] = (),
    no_videos: str = "No videos were asked for.",
) -> Path:
    """Writes `folder/report.html` and returns its path.

    Args:
        settings: rows of the settings table (task, policy, sampler, checkpoint, versions, git commit, ...); seeds and
            episodes are added here.
        spec: the robot's, for names, units and the rate.
        training: records with `step` and `loss` or `validation_loss`.
        no_videos: the sentence that stands where videos would, when none was made and no camera failed.
    """
    sections = [
        settings_section(results, settings),
        *(comparison_section(comparison) for comparison in comparisons),
        *training_section(training),
        episodes_section(results),
        *details_section(results),
        *rewards_section(results, spec.rate_hz),
        *info_section(results),
        videos_section(results, no_videos),
        *chunks_section(results, spec),
        counters_section(results),
    ]
    return page.write_report(folder, *sections, title=title, head=headline(results, spec.rate_hz))


def headline(results: Sequence[EpisodeResult], rate_hz: float) -> str:
    """The success rate and its interval, and beside it the best rewards and the time to success."""
    successes = [result for result in results if result.success]
    rate = wilson(len(successes), len(results))
    interval = (
        f"95 % interval (Wilson): {100 * rate.low:.1f} to {100 * rate.high:.1f} %. With this many episodes, every true "
        "success rate inside the band would explain what was seen."
    )
    facts = {"Mean of the best reward": str(bootstrap_mean([result.max_reward for result in results]))}
    if successes:
        median_s = float(np.median([result.summary.steps for result in successes])) / rate_hz
        facts["Median time to success"] = f"{median_s:.1f} s ({median_s * rate_hz:.0f} steps)"
    stops = sum(result.summary.stop is not None for result in results)
    facts["Episodes that were stopped"] = f"{stops} of {len(results)}"
    what = f"success, {len(successes)} of {len(results)} episodes"
    return page.headline(f"{100 * rate.estimate:.1f} %", what, interval, (rate.low, rate.estimate, rate.high), facts)


def settings_section(results: Sequence[EpisodeResult], settings: Mapping[str, object]) -> Section:
    """The settings that were given, and which episodes were run."""
    seeds = [result.seed for result in results]
    in_a_row = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    listed = f"{seeds[0]} to {seeds[-1]}" if in_a_row and len(seeds) > 1 else ", ".join(map(str, seeds))
    return Section("Settings", page.table({**settings, "episodes": len(seeds), "environment seeds": listed}))


def comparison_section(comparison: Comparison) -> Section:
    """Both success rates, the paired differences, and what may be claimed."""
    named = f"reference {comparison.reference}".rstrip()
    rows = {
        "this run": comparison.success_a,
        named: comparison.success_b,
        "difference of success": comparison.success,
        "difference of the best reward": comparison.max_reward,
        "solved by one alone": f"{comparison.discordant[0]} by this run, {comparison.discordant[1]} by the reference",
        "p-value of equal success": comparison.test,
        "verdict": comparison.verdict,
    }
    return Section("Comparison on the same seeds", page.table(rows))


def training_section(records: Sequence[Mapping[str, float]]) -> list[Section]:
    """Nothing without records."""
    curve = pictures.training_curve(records)
    if curve is None:
        return []
    return [
        Section("Training", page.picture(curve, "Loss over gradient steps; dots are the loss on held-out episodes."))
    ]


def episodes_section(results: Sequence[EpisodeResult]) -> Section:
    """A bar for each episode, and why some were stopped."""
    caption = "Every episode by seed: its length, and whether it succeeded (green) or not (red, hatched)."
    stops = Counter(_stop(result) for result in results if result.summary.stop is not None)
    body = page.picture(pictures.episode_strip(results), caption)
    if stops:
        body += page.grid_table(["stopped because of", "episodes"], sorted(stops.items()))
    return Section("Episodes", body)


def details_section(results: Sequence[EpisodeResult]) -> list[Section]:
    """The success rate for each value of what takes few of them; nothing where nothing does."""
    rows = [
        [name, value, f"{rate.estimate * rate.count:.0f} of {rate.count}", str(rate)]
        for name, rates in success_by_detail(results).items()
        for value, rate in rates.items()
    ]
    header = ["detail", "value", "successes", "success rate (95 % Wilson interval)"]
    return [Section("Success by detail", page.grid_table(header, rows))] if rows else []


def rewards_section(results: Sequence[EpisodeResult], rate_hz: float) -> list[Section]:
    """Nothing where nobody gave rewards."""
    curves = pictures.reward_curves(results, rate_hz)
    if curves is None:
        return []
    caption = "Left: reward over time, a line for each episode. Right: the best reward of each episode."
    return [Section("Rewards", page.picture(curves, caption))]


def info_section(results: Sequence[EpisodeResult]) -> list[Section]:
    """What the actor said of its chunks: gradient steps and energies, evaluations; nothing where it said nothing."""
    histograms = pictures.info_histograms(results)
    if histograms is None:
        return []
    values = {name: pictures.info_values(results, name) for name in pictures.info_names(results)}
    rows = [[name, len(v), *(f"{number:.4g}" for number in np.quantile(v, [0, 0.5, 1]))] for name, v in values.items()]
    table = page.grid_table(["what", "chunks", "least", "median", "most"], rows)
    caption = "Of all chunks of all episodes. Filled: successes. Outlined: failures."
    if "seam" in values:
        caption += " Seam: from what the last chunk said for now to the first action of the new one (normalised)."
    return [Section("What the policy said of its chunks", table + page.picture(histograms, caption))]


def videos_section(results: Sequence[EpisodeResult], otherwise: str) -> Section:
    """The videos and every reason why one is missing; the sentence `otherwise` where there is neither."""
    filmed = [
        page.video(result.video, f"seed {result.seed}: {_outcome(result)}", good=result.success)
        for result in results
        if result.video is not None
    ]
    failures = sorted({result.render_error for result in results if result.render_error is not None})
    body = page.gallery(filmed) if filmed else ""
    body += "".join(page.paragraph(f"No video: {failure}") for failure in failures)
    return Section("Videos", body or page.paragraph(otherwise))


def chunks_section(results: Sequence[EpisodeResult], spec: RobotSpec) -> list[Section]:
    """One picture for each traced episode; nothing without traces."""
    width = spec.action.shape[0]
    more = "" if width <= pictures.MOST_DIMENSIONS else f" The first {pictures.MOST_DIMENSIONS} of {width} dimensions."
    figures = [
        page.picture(
            pictures.chunk_picture(result.trace, spec),
            f"Seed {result.seed}: {_outcome(result)}. Coloured: predicted chunks, early (dark) to late (light), each "
            f"with a dot where it begins, one tick after its observation. Black: what was sent.{more}",
        )
        for result in results
        if result.trace is not None
    ]
    return [Section("Predicted chunks", "".join(figures))] if figures else []


def counters_section(results: Sequence[EpisodeResult]) -> Section:
    """What the safety filter changed and what the loop noticed."""
    steps = max(1, sum(result.summary.steps for result in results))
    rows: list[list[object]] = []
    for name, meaning in _COUNTERS.items():
        counts = [result.summary.counters.get(name, 0) for result in results]
        touched = sum(count > 0 for count in counts)
        rows.append([name, sum(counts), f"{1000 * sum(counts) / steps:.1f}", touched, max(counts, default=0), meaning])
    header = ["counter", "total", "per 1,000 ticks", "episodes with any", "most in one", "what it counts"]
    return Section("Safety filter and loop", page.grid_table(header, rows))


def _stop(result: EpisodeResult) -> str:
    reason = result.summary.stop
    return "" if reason is None else f"{reason.value}: {result.summary.stop_detail}"


def _outcome(result: EpisodeResult) -> str:
    if result.summary.stop is not None:
        return f"stopped ({result.summary.stop.value}) after {result.summary.steps} steps"
    return f"{'success' if result.success else 'failure'} after {result.summary.steps} steps"
