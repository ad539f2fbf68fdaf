"""What every script shares: Hydra's command line, a run folder, a progress bar, a summary, `result.json`, exit codes.

A user's mistake ends in one sentence on standard error and exit status 1; a bug keeps its traceback.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robopolicy import configuration
from robopolicy.errors import ConfigError, RobopolicyError
from robopolicy.files import write_json

_PASSED_TO_HYDRA = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion")

_SAY_EVERY_S = 60.0
"""Where there is no terminal to draw a bar on, a line says so often how far it is."""


@dataclass
class Run:
    """One run of one command: where it writes and how it talks."""

    name: str
    folder: Path
    console: Console = field(default_factory=lambda: _console())

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """A bar with an ETA; yields `advance(steps=1, note="", total=None)`, which may bring the total later."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with _bar(self.console, columns) as bar:
            task = bar.add_task(label, total=total, note="")

            said = time.monotonic()

            def advance(steps: int = 1, note: str = "", total: int | None = None) -> None:
                nonlocal said
                bar.update(task, advance=steps, note=note, total=total)
                if not self.console.is_terminal and time.monotonic() - said >= _SAY_EVERY_S:
                    said = time.monotonic()
                    state = bar.tasks[task]
                    self.say(f"{label}: {state.completed:.0f} of {state.total or 0:.0f} {note}".rstrip())

            yield advance


def command(config_name: str) -> Callable[[Callable[[DictConfig, Run], Mapping[str, Any]]], Callable[[], None]]:
    """Makes `main(config, run) -> result` a script with the configuration `configs/<config_name>.yaml`.

    The result is written to `<run folder>/result.json`. The run folder is `config.run_folder`, which each script's
    configuration sets to `runs/<date>_<time>_<name>`; `main` reads it from `run.folder` and may put another one there
    (train.py does when it resumes a run).
    """

    def decorate(function: Callable[[DictConfig, Run], Mapping[str, Any]]) -> Callable[[], None]:
        def start() -> None:
            logging.getLogger().setLevel(logging.WARNING)
            try:
                config = _read(config_name)
                if config is None:
                    return
                _work(config_name, function, config)
            except RobopolicyError as error:
                print(f"error: {error}", file=sys.stderr)
                sys.exit(1)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(130)

        return start

    return decorate


def is_main_process() -> bool:
    """True in all processes but those that torchrun started beside the first: only one talks and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def _work(name: str, function: Callable[[DictConfig, Run], Mapping[str, Any]], config: DictConfig) -> None:
    run = Run(name, Path(config.run_folder))
    run.console.quiet = not is_main_process()
    began = time.monotonic()
    result = dict(function(config, run))
    result |= {"command": command_line(name), "seconds": round(time.monotonic() - began, 2)}
    if is_main_process():
        write_json(run.folder / "result.json", result)


def command_line(name: str) -> str:
    """What a shell was told, for results that say how they were made."""
    return shlex.join(["python", f"scripts/{name}.py", *sys.argv[1:]])


def _read(name: str) -> DictConfig | None:
    """The configuration of this command line; None when Hydra itself answered (--help, --cfg job, ...)."""
    arguments = sys.argv[1:]
    if any(argument.split("=")[0] in _PASSED_TO_HYDRA for argument in arguments):
        hydra.main(str(configuration.CONFIG_FOLDER), name, version_base="1.3")(lambda _: None)()
        return None
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        raise ConfigError(f"unknown option {flags[0]}: settings are written key=value, --cfg job shows all of them")
    config = configuration.load(name, arguments)
    missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{name}.py needs {' and '.join(f'{key}=...' for key in missing)}")
    return config


def _console() -> Console:
    """Where there is no terminal a line may be long: nobody's window cuts it."""
    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 160)


@contextmanager
def _bar(console: Console, columns: tuple[Any, ...]) -> Iterator[Progress]:
    """On a terminal the bar redraws itself; in a log file it prints one line when it is done."""
    with Progress(*columns, console=console, refresh_per_second=4 if console.is_terminal else 0.1) as bar:
        yield bar
