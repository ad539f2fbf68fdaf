"""The project's own scripts as child processes: one thread each, output into a log, and all of them ended together.

A child has a session of its own, so Ctrl+C reaches only the parent, which then ends every child with all that it
started. Checkpoints and results are renamed into place when complete, so nothing is lost but the work since then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from robopolicy.configuration import CONFIG_FOLDER
from robopolicy.errors import RobopolicyError
from robopolicy.evaluation.pool import THREAD_VARIABLES

SCRIPTS = CONFIG_FOLDER.parent / "scripts"
_LAST_LINES = 6
_GRACE_S = 20.0


class ScriptError(RobopolicyError):
    """A script that ended with an error; the last lines of its log follow."""


class StoppedError(RobopolicyError):
    """A script that was ended, or not started any more, because everything is being stopped."""


@dataclass(frozen=True)
class Command:
    """`python scripts/<script>.py <arguments>`."""

    script: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(["python", f"scripts/{self.script}.py", *self.arguments])


class Processes:
    """Runs commands, from any number of threads.

    `lock`, a file that is open and locked, is handed to every child: the lock lasts as long as one of them lives, even
    when this process is killed.
    """

    def __init__(self, lock: IO[str]) -> None:
        self._lock = lock
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.RLock()
        self._stopping = False

    def run(self, command: Command, log: Path) -> None:
        """Waits until it is done; its output is appended to `log`. Raises ScriptError or StoppedError."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"$ {command}\n".encode())
            output.flush()
            process = self._start(command, output)
        status = process.wait()
        with self._guard:
            self._running.discard(process)
        if self._stopping:
            raise StoppedError(f"{command.script}.py was ended")
        if status != 0:
            raise ScriptError(f"{command.script}.py ended with status {status}; the end of {log}:\n{_end_of(log)}")

    def stop(self) -> None:
        """Ends all that runs, without waiting for it, and starts nothing any more. May be called in a signal handler.

        What has not ended after a while is killed.
        """
        self._stopping = True
        self._signal_all(signal.SIGTERM)
        killer = threading.Timer(_GRACE_S, self._signal_all, [signal.SIGKILL])
        killer.daemon = True
        killer.start()

    def _signal_all(self, number: signal.Signals) -> None:
        """To every child and to what it started."""
        with self._guard:
            running = list(self._running)
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def _start(self, command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._stopping:
                raise StoppedError(f"{command.script}.py was not started")
            process = subprocess.Popen(
                [sys.executable, str(SCRIPTS / f"{command.script}.py"), *command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "COLUMNS": "160"},
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
            )
            self._running.add(process)
            return process


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[IO[str]]:
    """Holds the lock file `path`. Raises RobopolicyError with the sentence `refusal` when another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RobopolicyError(refusal) from error
        yield file


@contextmanager
def interruptible(processes: Processes) -> Iterator[None]:
    """Ctrl+C and SIGTERM end `processes` and raise KeyboardInterrupt in the main thread, also where a shell that put
    this process into the background had Ctrl+C ignored."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        processes.stop()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_of(log: Path) -> str:
    lines: Sequence[str] = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join(f"  | {line}" for line in lines)
