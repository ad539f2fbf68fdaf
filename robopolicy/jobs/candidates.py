"""The compositions that a search tries: made from their weights, run on seeds, remembered on disk, and saved.

<run>/candidates/settings.json      what all of them share: a folder with other settings is refused
<run>/candidates/0.3_0.7.json       the episodes of these weights so far; a search that goes on reads them
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from robopolicy.actors.policy import PolicyActor
from robopolicy.configuration import build
from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeJob, EpisodeResult, load_results, results_json
from robopolicy.evaluation.lockstep import evaluate
from robopolicy.files import write_json
from robopolicy.inference.compose import ComposedEnergyPolicy, ComposedPolicy, compose
from robopolicy.inference.recipe import composed_config
from robopolicy.inference.superposition import Superposition
from robopolicy.inference.weight_search import Weights, is_parent
from robopolicy.jobs.task import robot_spec
from robopolicy.policies.policy import PolicyModule
from robopolicy.spec import check_fits
from robopolicy.training import checkpoint

_FOLDER = "candidates"


@dataclass(frozen=True)
class Parent:
    """A trained policy, what its checkpoint says, and the hash of its weights."""

    name: str
    policy: PolicyModule
    description: checkpoint.Description
    weights_hash: str


def loaded_parents(folders: Sequence[Path]) -> list[Parent]:
    """Named after their folders; names that repeat get a number. Raises CheckpointError."""
    parents: list[Parent] = []
    for folder in folders:
        policy, description = checkpoint.load(folder)
        taken, name, number = {parent.name for parent in parents}, folder.resolve().name, 2
        while name in taken:
            name, number = f"{folder.resolve().name} ({number})", number + 1
        weights = (checkpoint.newest(folder) / "weights.safetensors").read_bytes()
        parents.append(Parent(name, policy, description, hashlib.sha256(weights).hexdigest()))
    return parents


class Candidates:
    """Compositions of `parents` for one task.

    Args:
        task: its configuration.
        sampler: configuration of the sampler; None: the policies' own. AND and OR are for compositions, so a policy
            alone then has its own too.
        scales: of the parents' energies; None where they have none.
        config: that of compose.py.
        folder: where episodes are kept.
    """

    def __init__(
        self,
        parents: Sequence[Parent],
        task: Mapping[str, Any],
        sampler: Mapping[str, Any] | None,
        scales: Sequence[float] | None,
        config: DictConfig,
        folder: Path,
    ) -> None:
        self.parents, self.task = parents, task
        self._sampler, self._scales, self._config, self._folder = sampler, scales, config, folder
        self._robot = robot_spec(task)

    @property
    def alone(self) -> list[Weights]:
        """The weights of each parent alone."""
        count = len(self.parents)
        return [tuple(float(place == own) for place in range(count)) for own in range(count)]

    @property
    def settings(self) -> dict[str, Any]:
        """What every candidate shares, and what decides its results beside weights and seeds."""
        return {
            "parents": [{"name": each.name, "weights": each.weights_hash} for each in self.parents],
            "scales": self._scales,
            "task": json.loads(json.dumps(self.task)),
            "sampler": self._sampler or [str(getattr(each.policy, "sampler", "none")) for each in self.parents],
            "execution": self._config.execution,
            "noise seed": int(self._config.noise_seed),
            "slots": int(self._config.slots),
            "device": self._config.device,
        }

    def claim_folder(self) -> None:
        """Writes down what the candidates share. Raises ConfigError when the folder is of a search with others."""
        path = self._folder / _FOLDER / "settings.json"
        if path.is_file():
            former = _read(path)
            if different := [key for key, value in self.settings.items() if former.get(key) != value]:
                raise ConfigError(
                    f"run_folder={self._folder} holds a search with other settings ({', '.join(different)}): choose "
                    "another folder"
                )
        write_json(path, self.settings)

    def described(self, weights: Weights) -> str:
        """Such as "0.3 diffusion + 0.7 flow"; a policy alone by its name."""
        terms = [(weight, parent.name) for weight, parent in zip(weights, self.parents, strict=True) if weight]
        return terms[0][1] if len(terms) == 1 else " + ".join(f"{weight:g} {name}" for weight, name in terms)

    def policy(self, weights: Weights) -> ComposedPolicy | ComposedEnergyPolicy:
        """Shares its networks with all others. Raises ConfigError or SpecError."""
        policy = compose(
            [parent.policy for parent in self.parents],
            weights,
            names=[parent.name for parent in self.parents],
            sampler=None if (sampler := self._sampler_for(weights)) is None else build(sampler),
            execution=self._config.execution,
            scales=self._scales,
        )
        check_fits(policy.spec, self._robot, who="the composed policy", whom=f"task '{self.task['name']}'")
        return policy

    def evaluate(self, weights: Weights, seeds: Sequence[int], on_episode: Callable[[], None]) -> list[EpisodeResult]:
        """The episodes of `seeds`, in their order; those that are on disk are not run again."""
        path = self._folder / _FOLDER / ("_".join(f"{weight:g}" for weight in weights) + ".json")
        known = {result.seed: result for result in load_results(path)} if path.is_file() else {}
        if known and _read(path).get("weights") != list(weights):
            raise ConfigError(f"{path} holds episodes of other weights, expected {list(weights)}: remove it")
        for _ in set(known) & set(seeds):
            on_episode()
        if fresh := [seed for seed in seeds if seed not in known]:
            known |= {result.seed: result for result in self._run(weights, fresh, on_episode)}
            write_json(path, {"weights": list(weights), **results_json([known[seed] for seed in sorted(known)])})
        return [known[seed] for seed in seeds]

    def save(self, weights: Weights) -> Path:
        """Writes the composition as a checkpoint of the folder, and returns that of the checkpoint."""
        policy, first = self.policy(weights), self.parents[0].description
        used = [parent.description for parent in self.parents if parent.name in policy.names]
        configs = {parent.name: (parent.description.config, parent.description.spec) for parent in self.parents}
        description = checkpoint.Description(
            composed_config(policy, configs, self._sampler_for(weights)),
            policy.spec,
            str(self.task["name"]),
            _datasets([each.dataset for each in used]),
            first.seed,
            max(parent.description.step for parent in self.parents),
            checkpoint.versions(),
            checkpoint.commit(),
        )
        return checkpoint.save(self._folder, policy, description, None)

    def _run(self, weights: Weights, seeds: Sequence[int], on_episode: Callable[[], None]) -> list[EpisodeResult]:
        policy = self.policy(weights).to(self._config.device)
        actor = PolicyActor(
            policy,
            seed=int(self._config.noise_seed),
            batch_size=int(self._config.slots),
            device=self._config.device,
        )
        job = EpisodeJob(
            self.task["robot"], int(self.task["max_steps"]), self.task["step_limits"], policy.horizon.observation_steps
        )
        return evaluate(
            job,
            list(seeds),
            actor,
            slots=int(self._config.slots),
            workers=int(self._config.workers),
            on_episode=lambda _: on_episode(),
        )

    def _sampler_for(self, weights: Weights) -> Mapping[str, Any] | None:
        """The configuration of the sampler of a composition, None for the policies' own."""
        if self._sampler is None or (is_parent(weights) and isinstance(build(self._sampler), Superposition)):
            return None
        return self._sampler


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}): choose another run_folder") from error
    return found


def _datasets(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a composed policy was trained on: one dataset's facts, or those of several, named together."""
    prints = list(dict.fromkeys(str(each["fingerprint"]) for each in facts))
    if len(prints) == 1:
        return dict(facts[0])
    together = hashlib.sha256(" ".join(prints).encode()).hexdigest()
    episodes = " and ".join(str(each["episodes"]) for each in facts)
    return {**facts[0], "fingerprint": together, "episodes": episodes, "parts": [dict(each) for each in facts]}
