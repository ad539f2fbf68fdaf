"""Child processes: their logs, their ends, and the lock that outlives their parent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from robopolicy.errors import RobopolicyError
from robopolicy.jobs import processes
from robopolicy.jobs.processes import Command, Processes, ScriptError, StoppedError, interruptible, locked

SCRIPT = """
import os, subprocess, sys, time
print("threads", os.environ["OMP_NUM_THREADS"], *sys.argv[1:], flush=True)
if "wait" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open("pids", "w").write(f"{os.getpid()} {child.pid}")
    time.sleep(60)
sys.exit(3 if "fail" in sys.argv else 0)
"""


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`other.py`, a script that does what its arguments say."""
    (tmp_path / "other.py").write_text(SCRIPT)
    monkeypatch.setattr(processes, "SCRIPTS", tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Processes]:
    with locked(tmp_path / "lock", "busy") as lock:
        yield Processes(lock)


def command(*arguments: str) -> Command:
    return Command("other", arguments)


def test_output_is_appended_to_the_log(running: Processes, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "cell.log"
    running.run(command("a=1"), log)
    running.run(command("b=2"), log)
    lines = ["$ python scripts/other.py a=1", "threads 1 a=1", "$ python scripts/other.py b=2", "threads 1 b=2"]
    assert log.read_text().splitlines() == lines


def test_a_failure_brings_the_end_of_its_log(running: Processes, tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"other\.py ended with status 3; the end of .*cell\.log:\n") as caught:
        running.run(command("fail"), tmp_path / "cell.log")
    assert str(caught.value).endswith("  | threads 1 fail")


def test_stopping_ends_a_child_with_all_that_it_started(running: Processes, tmp_path: Path) -> None:
    ended: list[Exception] = []

    def work() -> None:
        try:
            running.run(command("wait"), tmp_path / "cell.log")
        except StoppedError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    pids = _started(tmp_path)
    running.stop()
    thread.join(30)
    assert len(ended) == 1
    _wait_until(lambda: not any(_alive(pid) for pid in pids))
    with pytest.raises(StoppedError, match="was not started"):
        running.run(command("a=1"), tmp_path / "cell.log")


def test_a_termination_stops_the_children_and_interrupts(running: Processes, tmp_path: Path) -> None:
    def terminate_soon() -> None:
        _started(tmp_path)  # within `interruptible`, since the script is run there
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=terminate_soon)
    thread.start()
    with interruptible(running), pytest.raises(KeyboardInterrupt):
        running.run(command("wait"), tmp_path / "cell.log")
    thread.join(30)
    assert signal.getsignal(signal.SIGTERM) is before
    _wait_until(lambda: not any(_alive(pid) for pid in _started(tmp_path)))


def test_the_lock_lasts_as_long_as_a_child_lives(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", "busy") as lock:
        children = Processes(lock)
        with pytest.raises(RobopolicyError, match="^busy$"), locked(tmp_path / "lock", "busy"):
            pass
        thread = threading.Thread(target=lambda: _quietly(children, tmp_path))
        thread.start()
        _started(tmp_path)
    with pytest.raises(RobopolicyError, match="^busy$"), locked(tmp_path / "lock", "busy"):
        pass
    children.stop()
    thread.join(30)
    _wait_until(lambda: _free(tmp_path / "lock"))


def _quietly(children: Processes, folder: Path) -> None:
    with pytest.raises(StoppedError):
        children.run(command("wait"), folder / "cell.log")


def _started(folder: Path) -> list[int]:
    """The waiting script and its child, once both run."""
    _wait_until(lambda: (folder / "pids").is_file() and len((folder / "pids").read_text().split()) == 2)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def _free(path: Path) -> bool:
    try:
        with locked(path, "busy"):
            return True
    except RobopolicyError:
        return False


def _alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.is_file() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def _wait_until(condition: object) -> None:
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 30 s")
