"""Makes a loaded policy fast to act with, without changing what it is: its networks are written anew, checked against
the policy as it was loaded, and chosen by measurement where that is asked for.

`docs/methods/speed.md` says what each way does. Everything that takes time (compilation, warm-up, measurement) is over
when `make_fast` returns.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robopolicy.errors import ConfigError
from robopolicy.files import write_json
from robopolicy.inference.compiled import compile_in_place
from robopolicy.inference.trial import Trial
from robopolicy.inference.ways import WAYS, obstacle
from robopolicy.policies.policy import PolicyModule

FILE = "fast.json"
"""In a run's folder: what was chosen, on which machine, and the figures behind it."""
REFERENCE, AUTO = "reference", "auto"
TOLERANCE = 0.05
"""How far a normalised action may move: a fortieth of the range of the data. Trained policies move by 0.003 to 0.035 in
bf16, the smallest networks in int8 by 0.1 (docs/methods/speed.md)."""

Say = Callable[[str], None]
_Networks = dict[PolicyModule, nn.Module]


@dataclass(frozen=True)
class Figures:
    """Milliseconds of a call, and the largest difference to the reference's normalised chunks (`Trial.difference`)."""

    milliseconds: float
    difference: float


@dataclass(frozen=True)
class FastReport:
    """What `make_fast` did: the way in force, figures of all ways that were tried, and why others were not."""

    way: str
    measured: Mapping[str, Figures] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    reused: bool = False

    def __str__(self) -> str:
        if self.way not in self.measured:
            return self.way
        if self.reused:
            return f"{self.way}, chosen by an earlier measurement on this machine"
        here, before = self.measured[self.way], self.measured[REFERENCE].milliseconds
        return (
            f"{self.way}, {here.milliseconds:.2f} ms a call instead of {before:.2f} ms, "
            f"actions within {here.difference:.4f} of the reference's (normalised)"
        )


def make_fast(
    policy: PolicyModule, way: str, *, batch_size: int, folder: Path | None = None, say: Say = print
) -> FastReport:
    """Replaces the networks of `policy` in place and warms them up; its samplers, wrappers and `sample` stay.

    The policy must be on its device, with its final weights, sampler and guidance, and may not be trained or saved
    afterwards. Calls of other batch sizes work too, though without compiled code.

    Args:
        way: a key of `WAYS`; "reference": nothing is done; "auto": the fastest that stays within `TOLERANCE`.
        batch_size: rows of the calls to come.
        folder: of the run, where "auto" keeps its choice and finds it again; None: it measures each time.
        say: told in one sentence what was left out and why.

    Raises:
        ConfigError: an unknown way, or one that does not work here or moves the actions by more than `TOLERANCE`.
    """
    if way not in (REFERENCE, AUTO, *WAYS):
        raise ConfigError(f"fast={way} is unknown, expected one of {', '.join((REFERENCE, AUTO, *WAYS))}")
    if way == REFERENCE:
        return FastReport(REFERENCE)
    workshop = _Workshop(policy.eval(), batch_size)
    return workshop.forced(way) if way != AUTO else _automatic(workshop, folder, say)


def _automatic(workshop: _Workshop, folder: Path | None, say: Say) -> FastReport:
    path = None if folder is None else folder / FILE
    known = [] if path is None else _read(path, say)
    for entry in known:
        if entry["conditions"] == workshop.conditions and (report := workshop.again(entry["way"], say)):
            return report
    report = workshop.fastest(say)
    if path is not None:
        entry = {"conditions": workshop.conditions, **asdict(report)}
        others = [old for old in known if old["conditions"] != workshop.conditions]
        write_json(path, {"choices": [*others, entry]})
    return report


class _Workshop:
    """A policy with its own networks kept aside, so that one way after the other can be put in and tried."""

    def __init__(self, policy: PolicyModule, batch_size: int) -> None:
        self._batch_size = batch_size
        self._originals = _networks(policy)
        self._device = next((value.device for value in policy.parameters()), torch.device("cpu"))
        self._trial = Trial(policy, batch_size, self._device)
        self._reference = Figures(self._trial.milliseconds, 0.0)
        self.conditions = self._conditions(policy)

    def forced(self, way: str) -> FastReport:
        if reason := self._obstacle(way):
            raise ConfigError(f"fast={way} does not work here: {reason}; use fast=auto or fast=reference")
        figures = self._attempt(way)
        if isinstance(figures, str):
            self._install(self._originals)
            raise ConfigError(f"fast={way} does not work here: {figures}; use fast=auto or fast=reference")
        if not figures.difference <= TOLERANCE:
            self._install(self._originals)
            raise ConfigError(
                f"fast={way} moves normalised actions by {figures.difference:.3f}, expected at most {TOLERANCE}: use "
                "fast=auto or fast=reference"
            )
        return FastReport(way, {REFERENCE: self._reference, way: figures})

    def again(self, way: str, say: Say) -> FastReport | None:
        """The choice of an earlier time, if it still holds."""
        if way == REFERENCE:
            return FastReport(REFERENCE, {REFERENCE: self._reference}, reused=True)
        reason = self._obstacle(way) if way in WAYS else "it is no way that there is"
        figures = None if reason else self._attempt(way)
        if isinstance(figures, Figures) and figures.difference <= TOLERANCE:
            return FastReport(way, {REFERENCE: self._reference, way: figures}, reused=True)
        say(f"the kept choice fast={way} does not hold any more, all ways are measured again")
        self._install(self._originals)
        return None

    def fastest(self, say: Say) -> FastReport:
        """Tries everything, puts the best in."""
        measured, left_out = {REFERENCE: self._reference}, {}
        best, best_networks = REFERENCE, self._originals
        for way in WAYS:
            result = self._obstacle(way) or self._attempt(way)
            if isinstance(result, Figures):
                measured[way] = result
                if not result.difference <= TOLERANCE:
                    result = f"it moves normalised actions by {result.difference:.3f}, more than {TOLERANCE}"
            if isinstance(result, str):
                left_out[way] = result
                say(f"fast={way} is left out: {result}")
            elif result.milliseconds < measured[best].milliseconds:
                best, best_networks = way, self._installed
        self._install(best_networks)
        return FastReport(best, measured, left_out)

    def _attempt(self, way: str) -> Figures | str:
        """Its figures, or what went wrong: torch's compilers and int8 kernels raise whatever they like."""
        try:
            return self._put_in(way)
        except Exception as error:
            return (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason'}"
            )

    def _put_in(self, way: str) -> Figures:
        networks = {policy: WAYS[way].rewrite(net).eval() for policy, net in self._originals.items()}
        nets = networks.values() if WAYS[way].compiled else []
        compiled = [compile_in_place(net, self._device) for net in nets]
        self._install(networks)
        self._trial.warm_up()
        for forward in compiled:
            forward.learning = False
        return Figures(self._trial.time(), self._trial.difference())

    def _obstacle(self, way: str) -> str | None:
        return obstacle(way, list(self._originals.values()), self._batch_size, self._device)

    def _install(self, networks: _Networks) -> None:
        self._installed = networks
        for policy, net in networks.items():
            policy.net = net

    def _conditions(self, policy: PolicyModule) -> dict[str, Any]:
        """What the choice depends on."""
        return {
            "processor": _processor(),
            "device": torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "batch_size": self._batch_size,
            "sampler": str(getattr(policy, "sampler", "none")),
            "networks": [_summary(net) for net in self._originals.values()],
        }


def _networks(policy: PolicyModule) -> _Networks:
    """Its own, and those of the policies that it is made of."""
    policies = [module for module in policy.modules() if isinstance(module, PolicyModule)]
    found = {module: getattr(module, "net", None) for module in policies}
    return {module: net for module, net in found.items() if isinstance(net, nn.Module)}


def _read(path: Path, say: Say) -> list[dict[str, Any]]:
    """The choices kept so far; none where the file is not ours to read."""
    if not path.exists():
        return []
    try:
        choices: list[dict[str, Any]] = json.loads(path.read_text())["choices"]
        if all(isinstance(entry["conditions"], dict) and isinstance(entry["way"], str) for entry in choices):
            return choices
    except (ValueError, KeyError, TypeError):
        pass
    say(f"{path} is damaged, all ways are measured again")
    return []


def _processor() -> str:
    """Its model name, as far as the system tells."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _summary(net: nn.Module) -> str:
    return f"{type(net).__name__}, {sum(value.numel() for value in net.parameters())} weights"
