"""Where slots live: worker processes, or this one for debugging.

Workers are fresh interpreters (not forks, and not a second run of the caller's script) on one thread each, so they hold
no torch and no locks of the parent. A message is one batch for each worker and round over a pipe; a worker ends when
its pipe closes, however the parent went.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Protocol

from robopolicy.errors import RobopolicyError
from robopolicy.evaluation.episodes import EpisodeJob
from robopolicy.evaluation.slots import Order, Reply, Slot, sendable

_COMMAND = "from robopolicy.evaluation.pool import serve; serve()"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What numerical libraries read, when they are imported, for their number of threads."""


class EvaluationError(RobopolicyError):
    """A simulated robot could not be built or run, or the process that ran it died."""


class RobotFailedError(RuntimeError):
    """A simulated robot raised what is no `RobopolicyError`: a bug, which keeps its traceback."""


class Pool(Protocol):
    """Some slots; `exchange` sends each an order and returns when all have replied."""

    def exchange(self, orders: Mapping[int, Order]) -> dict[int, Reply]: ...

    def close(self) -> None: ...


class InProcess:
    """All slots in this process."""

    def __init__(self, job: EpisodeJob, slots: int) -> None:
        self._slots = {slot: Slot(job) for slot in range(slots)}

    def exchange(self, orders: Mapping[int, Order]) -> dict[int, Reply]:
        return _obey(self._slots, orders)

    def close(self) -> None:
        for slot in self._slots.values():
            slot.close()


class Workers:
    """Slot i lives in worker i modulo `workers`. Raises EvaluationError when a robot fails or a worker dies."""

    def __init__(self, job: EpisodeJob, slots: int, workers: int) -> None:
        self._workers: list[_Worker] = []
        try:
            for index in range(workers):
                worker = _Worker(index, range(index, slots, workers))
                self._workers.append(worker)
                worker.send((job, worker.slots))
        except BaseException:
            self.close()
            raise

    def exchange(self, orders: Mapping[int, Order]) -> dict[int, Reply]:
        asked = []
        for worker in self._workers:
            batch = {slot: order for slot, order in orders.items() if slot in worker.slots}
            if batch:
                worker.send(batch)
                asked.append(worker)
        replies: dict[int, Reply] = {}
        for worker in asked:
            replies |= worker.receive()
        return replies

    def close(self) -> None:
        """Closing the pipes tells the workers to end; one that does not within 2 s is killed."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.end()


class _Worker:
    """The parent's view of one worker process."""

    def __init__(self, index: int, slots: range) -> None:
        self.index = index
        self.slots = slots
        self.connection, theirs = Pipe()
        descriptor = theirs.fileno()
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(descriptor)],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"PYTHONPATH": paths},
        )
        theirs.close()

    @property
    def process_id(self) -> int:
        return self._process.pid

    def send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except ConnectionError as error:
            self.receive()
            raise self._died() from error

    def receive(self) -> dict[int, Reply]:
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._died() from error
        if isinstance(answer, _Failure):
            raise answer.error(self.index)
        replies: dict[int, Reply] = answer
        return replies

    def end(self) -> None:
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _died(self) -> EvaluationError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        status = self._process.returncode
        how = f"exit status {status}" if status is None or status >= 0 else f"signal {signal.Signals(-status).name}"
        return EvaluationError(
            f"simulation worker {self.index} (process {self.process_id}) died with {how}: "
            "see its output above; SIGKILL often means that memory ran out, fewer slots or workers need less"
        )


@dataclass(frozen=True)
class _Failure:
    """An error on its way to the parent, as text: not every error can be pickled."""

    sentence: str
    traceback: str
    known: bool

    @staticmethod
    def of(error: Exception) -> _Failure:
        known = isinstance(error, RobopolicyError)
        sentence = str(error) if known or isinstance(error, RobotFailedError) else f"{type(error).__name__}: {error}"
        return _Failure(sentence, traceback.format_exc(), known)

    def error(self, worker: int) -> Exception:
        error = EvaluationError(self.sentence) if self.known else RobotFailedError(self.sentence)
        error.add_note(f"in simulation worker {worker}:\n{self.traceback}")
        return error


def serve() -> None:
    """The life of a worker process: one job, then batches of orders until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    slots: dict[int, Slot] = {}
    try:
        job, mine = connection.recv()
        slots = {slot: Slot(job) for slot in mine}
        while True:
            connection.send(sendable(_obey(slots, connection.recv())))
    except (EOFError, ConnectionError):
        pass  # nobody asks any more: the evaluation is over, or its process is gone
    except Exception as error:
        with contextlib.suppress(ConnectionError):
            connection.send(_Failure.of(error))
    for slot in slots.values():
        slot.close()


def _obey(slots: Mapping[int, Slot], orders: Mapping[int, Order]) -> dict[int, Reply]:
    replies: dict[int, Reply] = {}
    for number, order in orders.items():
        try:
            replies[number] = slots[number].obey(order)
        except RobopolicyError as error:
            raise EvaluationError(f"the episode with seed {slots[number].seed} failed: {error}") from error
        except Exception as error:
            sentence = f"the episode with seed {slots[number].seed} failed: {type(error).__name__}: {error}"
            raise RobotFailedError(sentence) from error
    return replies
