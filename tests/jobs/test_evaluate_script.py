"""`scripts/eval.py`: the last link of collect, train, evaluate; options that are chosen are the ones in force."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from damage import truncate
from script_runs import TINY, output_of, refusal_of

from robopolicy.control.loop import EpisodeSummary
from robopolicy.evaluation.episodes import EpisodeResult, results_json
from robopolicy.files import write_json

SMALL = ("slots=3", "workers=1", "videos=0", "traces=1", "run_folder=evaluation")


def result(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "evaluation" / "result.json").read_text())
    return data


def test_collect_train_and_evaluate_end_in_a_report(reach_run: Path, tmp_path: Path) -> None:
    text = output_of("eval", f"run={reach_run}", "episodes=4", *SMALL, cwd=tmp_path)
    assert "of 4 episodes (95 % Wilson interval)" in text
    assert "report: evaluation/report.html" in text
    found = result(tmp_path)
    assert [episode["seed"] for episode in found["episodes"]] == [10000, 10001, 10002, 10003]
    assert found["success"]["count"] == 4
    assert found["settings"]["task"] == "reach"
    assert f"<title>reach: {reach_run.name}</title>" in (tmp_path / "evaluation" / "report.html").read_text()
    assert found["settings"]["seeds"] == "result"
    assert "warning" not in text
    cost = found["cost"]
    assert cost["evaluations_per_control_step"] > 0
    assert 0 < cost["milliseconds_per_call"] <= cost["milliseconds_of_slowest_call"]
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "reach" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_task_and_a_sampler_that_were_chosen_are_used(reach_run: Path, tmp_path: Path) -> None:
    options = ("task=reach", "task.max_steps=1", "sampler=ddpm", "episodes=3")
    output_of("eval", f"run={reach_run}", *options, *SMALL, cwd=tmp_path)
    found = result(tmp_path)
    assert [episode["steps"] for episode in found["episodes"]] == [1, 1, 1]
    assert "ddpm" in found["settings"]["sampler"].lower()
    assert f"<title>reach: {reach_run.name}, ddpm</title>" in (tmp_path / "evaluation" / "report.html").read_text()


@pytest.mark.slow
def test_films_are_files_too(reach_run: Path, tmp_path: Path) -> None:
    """Where this machine can draw; where it cannot, neither the page nor the folder has one."""
    options = ("episodes=1", "slots=1", "workers=1", "videos=1", "traces=0", "run_folder=evaluation")
    output_of("eval", f"run={reach_run}", *options, cwd=tmp_path)
    filmed = "<video" in (tmp_path / "evaluation" / "report.html").read_text()
    files = sorted((tmp_path / "evaluation").glob("videos/*.mp4"))
    assert [path.name for path in files] == (["seed_10000.mp4"] if filmed else [])


def test_an_unknown_device_is_refused(reach_run: Path, tmp_path: Path) -> None:
    assert "expected cpu or cuda" in refusal_of("eval", f"run={reach_run}", "device=tpu", cwd=tmp_path)


@pytest.mark.slow
def test_a_policy_compared_with_itself_does_not_differ(reach_run: Path, tmp_path: Path) -> None:
    options = ("eval", f"run={reach_run}", "episodes=3", *SMALL)
    output_of(*options, cwd=tmp_path)
    first = result(tmp_path)
    shutil.move(tmp_path / "evaluation" / "result.json", tmp_path / "first.json")
    output_of(*options, "against=first.json", cwd=tmp_path)
    second = result(tmp_path)
    assert second["episodes"] == first["episodes"]
    (comparison,) = second["comparisons"]
    assert (comparison["reference"], comparison["p_value"], comparison["discordant"]) == ("first.json", 1.0, [0, 0])
    output_of(*options, "against=[first.json,first.json]", "replace=true", cwd=tmp_path)
    assert [comparison["references"] for comparison in result(tmp_path)["comparisons"]] == [2, 2]
    assert "Holm over 2 references" in (tmp_path / "evaluation" / "report.html").read_text()


def test_a_sampler_that_does_not_denoise_is_refused(reach_run: Path, tmp_path: Path) -> None:
    sentence = refusal_of("eval", f"run={reach_run}", "sampler=descent", cwd=tmp_path)
    assert sentence.startswith("a policy that denoises cannot use the sampler 'descent, 2 to 20 steps")


def test_a_policy_without_sampler_and_experts_says_so(reach_data: Path, tmp_path: Path) -> None:
    options = ("policy=bc_mse", "task=reach", f"data={reach_data}", "run_folder=run", "training.steps=2")
    output_of("train", *options, cwd=tmp_path)
    sentence = refusal_of("eval", "run=run", "sampler=descent", cwd=tmp_path)
    assert sentence.startswith("the sampler 'descent, 2 to 20 steps")
    assert sentence.endswith(
        "' was given, but this policy (MeanSquaredCloning) answers in one pass: leave out sampler="
    )
    output_of("eval", "run=run", "episodes=2", "task=reach", "task.max_steps=2", *SMALL, cwd=tmp_path)
    settings = result(tmp_path)["settings"]
    assert settings["sampler"] == "none: one evaluation a chunk"
    assert not {"experts", "critic", "guidance", "network"} & set(settings)  # nothing to say of them


@pytest.mark.slow
def test_how_experts_were_chosen_is_said(reach_run: Path, reach_data: Path, tmp_path: Path) -> None:
    options = ("policy=mode", "task=reach", f"data={reach_data}", "net.heads=2", *TINY, "run_folder=run")
    output_of("train", *options, cwd=tmp_path)
    episodes = []
    for cached, said in (
        ("false", "routed at every call"),
        ("true", "cached for the sampler's own 10 levels, others are routed"),
    ):
        output_of("eval", "run=run", "episodes=2", f"cache_experts={cached}", *SMALL, cwd=tmp_path)
        assert result(tmp_path)["settings"]["experts"] == said
        episodes.append([episode["steps"] for episode in result(tmp_path)["episodes"]])
        shutil.rmtree(tmp_path / "evaluation")
    assert episodes[0] == episodes[1]
    refused = refusal_of("eval", f"run={reach_run}", "cache_experts=true", cwd=tmp_path)
    assert "needs a mixture of experts" in refused


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal_of("eval", "run=runs/none", cwd=tmp_path).startswith("runs/none does not exist")


def test_a_reference_that_is_not_there_is_refused(reach_run: Path, tmp_path: Path) -> None:
    sentence = refusal_of("eval", f"run={reach_run}", "against=none.json", cwd=tmp_path)
    assert sentence.startswith("there is no file none.json")


@pytest.mark.parametrize(
    ("task", "first_seed", "sentence"),
    [
        ("lift", 10000, "against=other.json is an evaluation of task 'lift', this one is of 'reach'"),
        ("reach", 10001, "against=other.json: the two results cannot be paired: seeds only in the first: 1 (10000)"),
    ],
)
def test_a_reference_of_other_seeds_or_another_task_is_refused_before_anything_runs(
    tmp_path: Path, reach_run: Path, task: str, first_seed: int, sentence: str
) -> None:
    """Before even the policy is read: the weights of this run are damaged."""
    shutil.copytree(reach_run, tmp_path / "run")
    truncate(tmp_path / "run/checkpoints/step_00000020/weights.safetensors")
    episodes = [EpisodeResult(first_seed + i, EpisodeSummary(1, None, "", True, True, False, ())) for i in range(2)]
    write_json(tmp_path / "other.json", {"settings": {"task": task}, **results_json(episodes)})
    refused = refusal_of("eval", "run=run", "episodes=2", "against=other.json", cwd=tmp_path)
    assert refused.startswith(sentence)


def test_the_simulator_is_the_one_that_evaluated_and_demonstration_seeds_are_warned_of(
    reach_run: Path, tmp_path: Path
) -> None:
    """A run that was trained with another simulator, evaluated on seeds that it may have seen."""
    shutil.copytree(reach_run, tmp_path / "run")
    path = tmp_path / "run/checkpoints/step_00000020/policy.json"
    described = json.loads(path.read_text())
    described["dataset"]["versions"] = {"mujoco": "0.0.1"}
    write_json(path, described)
    text = output_of(
        "eval", "run=run", "episodes=2", "seed=4999", "task=reach", "task.max_steps=2", *SMALL, cwd=tmp_path
    )
    assert "warning: demonstration seeds are among 4999 to 5000" in text
    settings = result(tmp_path)["settings"]
    assert settings["dataset made with"] == "mujoco 0.0.1"
    assert f"mujoco {metadata.version('mujoco')}" in settings["simulator"]
    assert settings["seeds"] == "demonstration and tuning"
    page = (tmp_path / "evaluation" / "report.html").read_text()
    for words in ("demonstration and tuning", "dataset made with", "the slowest"):
        assert words in page


def test_damaged_weights_are_refused(reach_run: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_run, tmp_path / "run")
    truncate(tmp_path / "run/checkpoints/step_00000020/weights.safetensors")
    sentence = refusal_of("eval", "run=run", "episodes=1", cwd=tmp_path)
    assert sentence.startswith("run/checkpoints/step_00000020/weights.safetensors cannot be read")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("sampler=rti", "execution=1"), {"sampler": "rti ddpm at 0.3, re-noised", "actions between calls": "1"}),
        (("sampler=rtc", "execution=1"), {"sampler": "rtc (network Jacobian, beta 5, delay 2, exp weights) in euler"}),
        (("sampler=inpaint", "execution=1", "fast=bf16"), {"sampler": "inpaint (first ", "network": "bf16, "}),
    ],
)
def test_what_is_done_at_inference_is_an_option(
    reach_run: Path, tmp_path: Path, options: tuple[str, ...], said: dict[str, str]
) -> None:
    output_of(
        "eval", f"run={reach_run}", *options, "task=reach", "task.max_steps=10", "episodes=2", *SMALL, cwd=tmp_path
    )
    found = result(tmp_path)
    for name, text in said.items():
        assert found["settings"][name].startswith(text)
    assert any("seam" in episode["info"] for episode in found["episodes"])


def test_candidates_without_a_critic_are_refused(reach_run: Path, tmp_path: Path) -> None:
    sentence = refusal_of("eval", f"run={reach_run}", "candidates=4", *SMALL, cwd=tmp_path)
    assert sentence == "candidates= and temperature= need a critic that chooses: add critic=<run of critic.py>"


def test_a_training_run_is_never_overwritten_by_an_evaluation(reach_run: Path, tmp_path: Path) -> None:
    shutil.copytree(reach_run, tmp_path / "run")
    before = (tmp_path / "run" / "result.json").read_bytes()
    sentence = refusal_of("eval", "run=run", "episodes=1", "run_folder=run", cwd=tmp_path)
    assert sentence.startswith("run_folder=run holds a training run, whose result this would replace")
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_an_earlier_evaluation_is_never_overwritten(reach_run: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "evaluation" / "result.json", {"success": "earlier"})
    sentence = refusal_of("eval", f"run={reach_run}", "episodes=1", *SMALL, cwd=tmp_path)
    assert sentence == "run_folder=evaluation holds a result: choose another, or replace it with replace=true"
    assert result(tmp_path) == {"success": "earlier"}
    options = ("episodes=1", "task=reach", "task.max_steps=1", "replace=true")
    output_of("eval", f"run={reach_run}", *options, *SMALL, cwd=tmp_path)
    assert result(tmp_path)["success"]["count"] == 1
