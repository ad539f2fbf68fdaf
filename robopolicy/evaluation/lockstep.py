"""Many simulated episodes in lockstep: simulation in worker processes, one policy call for all slots that ask.

An evaluation is a sequence of rounds. In each, every slot runs its loop up to its next question or its end, the actor
answers all questions at once, and slots that ended get the next seeds of the list, in slot order. Which slot runs which
seed, and which questions come together, depends on the episodes alone: results are the same, bit for bit, for any
number of worker processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from robopolicy.control.actor import Chunk
from robopolicy.control.loop import Ask
from robopolicy.errors import ConfigError
from robopolicy.evaluation.episodes import EpisodeJob, EpisodeResult
from robopolicy.evaluation.pool import InProcess, Pool, Workers
from robopolicy.evaluation.slots import Answer, Order, Question, Start
from robopolicy.spec import Nanoseconds


class SlotActor(Protocol):
    """An actor for many episodes at once."""

    def reset(self, slot: int, seed: int) -> None:
        """An episode with environment seed `seed` begins in `slot`: forget the last one."""

    def act(self, asks: Mapping[int, Ask]) -> Mapping[int, Chunk | None]:
        """A new chunk or None (nothing new) for every slot that asks. Slots come in ascending order."""

    def due(self, slot: int, now_ns: Nanoseconds) -> bool:
        """Whether `slot` is to be asked at the tick of `now_ns`, given what was answered so far.

        Ticks that are not due run without a question, as if the answer were None. It must not depend on other slots.
        """


def evaluate(
    job: EpisodeJob,
    seeds: Sequence[int],
    actor: SlotActor,
    *,
    slots: int = 20,
    workers: int = 2,
    videos: Sequence[int] = (),
    traces: Sequence[int] = (),
    camera: str | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Runs one episode for each seed; results come in the order of `seeds`.

    Args:
        slots: episodes under way at once. It decides what a policy call is padded to and which questions meet in one
            call, so it belongs to the settings of a result; `workers` does not.
        workers: simulation processes; 0 simulates in this process.
        videos, traces: seeds to film and to trace. Filming never ends an evaluation: see `EpisodeResult.render_error`.
        camera: for the videos; None is the robot's default camera.
        on_episode: called with each result as it comes.

    Raises:
        EvaluationError: a robot raised an error or a worker process died; all processes are ended.
        ConfigError: seeds are repeated or unknown, or there are no slots.
    """
    _check(seeds, slots, workers, videos, traces)
    starts = [Start(seed, seed in set(videos), camera, seed in set(traces)) for seed in seeds]
    used = min(slots, len(seeds))
    pool: Pool = Workers(job, used, min(workers, used)) if workers and used else InProcess(job, used)
    with closing(pool):
        rounds = _Rounds(pool, actor, job.max_steps, iter(starts), on_episode)
        results = rounds.run(used)
    return [results[seed] for seed in seeds]


@dataclass
class _Rounds:
    pool: Pool
    actor: SlotActor
    max_steps: int
    waiting: Iterator[Start]
    on_episode: Callable[[EpisodeResult], None] | None
    results: dict[int, EpisodeResult] = field(default_factory=dict)

    def run(self, slots: int) -> dict[int, EpisodeResult]:
        orders: dict[int, Order] = {}
        for slot in range(slots):
            self._start_next(slot, orders)
        while orders:
            orders = self._round(orders)
        return self.results

    def _round(self, orders: Mapping[int, Order]) -> dict[int, Order]:
        replies = self.pool.exchange(orders)
        following: dict[int, Order] = {}
        questions: dict[int, Question] = {}
        for slot in sorted(replies):
            reply = replies[slot]
            if isinstance(reply, Question):
                questions[slot] = reply
            else:
                self._finish(reply)
                self._start_next(slot, following)
        return following | self._answers(questions)

    def _answers(self, questions: Mapping[int, Question]) -> dict[int, Order]:
        if not questions:
            return {}
        chunks = self.actor.act({slot: question.ask for slot, question in questions.items()})
        if missing := sorted(set(questions) - set(chunks)):
            raise ValueError(f"the actor did not answer slots {missing}")
        return {slot: Answer(chunks[slot], self._quiet_ticks(slot, asked)) for slot, asked in questions.items()}

    def _quiet_ticks(self, slot: int, asked: Question) -> int:
        """How many ticks after this one are not due."""
        left = self.max_steps - asked.ask.step - 1
        for ticks in range(left):
            if self.actor.due(slot, asked.ask.now_ns + (ticks + 1) * asked.period_ns):
                return ticks
        return left

    def _finish(self, result: EpisodeResult) -> None:
        self.results[result.seed] = result
        if self.on_episode is not None:
            self.on_episode(result)

    def _start_next(self, slot: int, orders: dict[int, Order]) -> None:
        if (start := next(self.waiting, None)) is not None:
            self.actor.reset(slot, start.seed)
            orders[slot] = start


def _check(seeds: Sequence[int], slots: int, workers: int, videos: Sequence[int], traces: Sequence[int]) -> None:
    if len(set(seeds)) != len(seeds):
        repeated = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
        raise ConfigError(f"seeds {repeated} are listed more than once, expected each seed once")
    if slots < 1 or workers < 0:
        raise ConfigError(f"slots={slots} and workers={workers}, expected at least 1 slot and 0 workers")
    for name, chosen in (("videos", videos), ("traces", traces)):
        if unknown := sorted(set(chosen) - set(seeds)):
            raise ConfigError(f"{name} are asked for seeds {unknown} that are not evaluated")
