"""The report page: complete, self-contained, and safe against odd names."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from robopolicy.control.actor import chunk_from
from robopolicy.control.loop import EpisodeSummary
from robopolicy.control.robot import StopReason
from robopolicy.evaluation.comparison import compare
from robopolicy.evaluation.episodes import EpisodeResult, Trace
from robopolicy.evaluation.page import Section, paragraph, table, write_report
from robopolicy.evaluation.report import write_evaluation
from robopolicy.spec import ArraySpec, RobotSpec

SPEC = RobotSpec("arm", {}, ArraySpec((2,)), 10.0)
VOID = {"meta", "img", "br", "link"}


class Tags(HTMLParser):
    """Checks that tags are balanced and collects every source and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text())
    assert tags.open == []
    assert all(source.startswith("data:") for source in tags.sources)
    return tags


def episodes(count: int = 10) -> list[EpisodeResult]:
    made = []
    for index in range(count):
        success = index % 5 != 0
        summary = EpisodeSummary(30, None, "", success, success, not success, (0.1,) * 30, {"limited": index})
        made.append(EpisodeResult(10_000 + index, summary))
    return made


def full_results() -> list[EpisodeResult]:
    results = episodes()
    chunk = chunk_from(np.zeros((8, 2)), 0, SPEC.period_ns, "policy")
    trace = Trace(np.arange(8) * SPEC.period_ns, np.zeros((8, 2)), (chunk,))
    results[0] = replace(results[0], trace=trace, video=b"not really a film")
    stopped = EpisodeSummary(4, StopReason.BAD_ACTION, "the action [nan] is not finite", False, False, False, ())
    results[1] = replace(results[1], summary=stopped)
    return results


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    results = full_results()
    path = write_evaluation(
        tmp_path / "run",
        results,
        title="Lift",
        settings={"task": "lift", "sampler": "ddim"},
        spec=SPEC,
        training=[{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}],
        comparisons=[compare(results, results)],
    )
    assert path == tmp_path / "run" / "report.html"
    page = parsed(path)
    for words in (
        "70.0 %",
        "success, 7 of 10 episodes",
        "10000 to 10009",
        "ddim",
        "Training",
        "Comparison on the same seeds",
        "undecided (under 100 pairs)",
        "bad action: the action [nan] is not finite",
        "seed 10000: failure after 30 steps",
        "stopped",
        "Predicted chunks",
        "actions moved inside the limits",
    ):
        assert words in page.text, words
    assert sum(source.startswith("data:video/mp4") for source in page.sources) == 1
    assert sum(source.startswith("data:image/svg") for source in page.sources) == 4
    assert list(tmp_path.glob("run/*")) == [path]


def test_what_the_policy_said_of_its_chunks_is_on_the_page(tmp_path: Path) -> None:
    results = [replace(result, info={"steps": (2.0, 5.0), "energy": (0.25,)}) for result in episodes()]
    text = parsed(write_evaluation(tmp_path, results, title="t", settings={}, spec=SPEC)).text
    assert "What the policy said of its chunks" in text
    assert "energy" in text


def test_success_is_told_for_each_goal(tmp_path: Path) -> None:
    results = [replace(result, details={"goal": float(index % 2)}) for index, result in enumerate(episodes())]
    text = parsed(write_evaluation(tmp_path, results, title="x", settings={}, spec=SPEC)).text
    assert "Success by detail" in text
    assert "goal04 of 580.0 % [37.6, 96.4] of 5" in text


def test_counters_are_summed_over_episodes(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path, episodes(), title="x", settings={}, spec=SPEC)
    row = re.search(r"<tr><td>limited</td>(.*?)</tr>", path.read_text())
    assert row is not None
    assert re.findall(r"<td>(.*?)</td>", row[1])[:4] == ["45", "150.0", "9", "9"]


def test_without_videos_a_sentence_says_why(tmp_path: Path) -> None:
    results = episodes()
    path = write_evaluation(tmp_path, results, title="x", settings={}, spec=SPEC, no_videos="videos=0 was given.")
    assert "videos=0 was given." in parsed(path).text
    results[2] = replace(results[2], render_error="no GL library: install libegl1")
    text = parsed(write_evaluation(tmp_path, results, title="x", settings={}, spec=SPEC)).text
    assert "No video: no GL library: install libegl1" in text


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    lost = [EpisodeResult(3, EpisodeSummary(0, None, "", False, False, True, ()))]
    text = parsed(write_evaluation(tmp_path, lost, title="x", settings={}, spec=SPEC)).text
    for words in (
        "Training",
        "Rewards",
        "Predicted chunks",
        "Median time to success",
        "Comparison",
        "Success by detail",
    ):
        assert words not in text
    assert "0.0 %" in text


def test_text_is_escaped(tmp_path: Path) -> None:
    path = write_report(
        tmp_path,
        Section("a < b", paragraph("<script>alert(1)</script>") + table({"<i>": "$body & co"})),
        title="${title} <b>",
    )
    assert "<script>" not in path.read_text()
    page = parsed(path)
    assert "<script>alert(1)</script>" in page.text
    assert "$body & co" in page.text
    assert page.text.count("${title} <b>") == 2


@pytest.mark.parametrize("name", ["https://", "http://", "@import", "url("])
def test_nothing_comes_from_the_network(tmp_path: Path, name: str) -> None:
    path = write_evaluation(tmp_path, full_results(), title="x", settings={}, spec=SPEC)
    assert name not in re.sub(r'"data:[^"]*"', "", path.read_text())
