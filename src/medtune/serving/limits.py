"""What a client may ask for: how much at once, how much in a minute, how much waits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Zero for a rate means that there is none."""

    slots: int = 1
    """Answers that the engine works on at a time."""
    waiting: int = 32
    """Requests that may wait for a slot; one more is refused with 429."""
    wait_seconds: float = 60.0
    """The longest wait for a slot; then 503."""
    answer_seconds: float = 300.0
    """An answer that takes longer ends as if it had reached its length limit."""
    requests_per_minute: int = 600
    """Of one client: of one key, or of one address where there are no keys."""
    tokens_per_minute: int = 0
    """Prompt and answer together, of one client."""
    body_bytes: int = 256 * 1024
    messages: int = 200


class Refused(Exception):
    """A request that is well-formed and gets no answer now.

    Args:
        status: 429 where the client asks too much, 503 where the server cannot.
        message: one plain sentence.
        retry_after: seconds.
        reason: a word for the metrics.
    """

    def __init__(self, status: int, message: str, retry_after: float, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = max(1, math.ceil(retry_after))
        self.reason = reason


class Rate:
    """A token bucket per client, refilled evenly over the minute.

    Spending may overdraw a bucket, since an answer's length is only known at its end.

    Args:
        per_minute: size and refill of a bucket; 0 is no limit.
        clock: seconds.
    """

    _MOST_CLIENTS = 10_000

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> float:
        """Seconds until the client may go on, 0 for now."""
        if not self._size:
            return 0.0
        return max(0.0, (1 - self._level(client)) * 60 / self._size)

    def spend(self, client: str, amount: float = 1) -> None:
        if not self._size:
            return
        if len(self._levels) >= self._MOST_CLIENTS:
            # A client whose bucket is full again is like one that never came.
            self._levels = {
                known: level for known, level in self._levels.items() if self._level(known) < self._size
            }  # fmt: skip
        self._levels[client] = (self._level(client) - amount, self._clock())

    def _level(self, client: str) -> float:
        level, at = self._levels.get(client, (self._size, self._clock()))
        return min(self._size, level + (self._clock() - at) * self._size / 60)


class Gate:
    """The slots of the engine, and who waits for one."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.running = self.waiting = 0
        self.draining = False
        """No new answer begins; those that run may end."""
        self.goodbye = asyncio.Event()
        """The server ends; what still listens to it is let go."""
        self.pool = ThreadPoolExecutor(limits.slots, thread_name_prefix="answer")
        self._free = asyncio.Semaphore(limits.slots)
        self._usual_seconds = 2.0

    async def enter(self) -> None:
        """Wait for a slot.

        Raises:
            Refused: too many wait already, the wait was too long, or the server is stopping.
        """
        if self.draining:
            raise Refused(503, "The server is stopping; please ask again.", 5, "stopping")
        if self._free.locked() and self.waiting >= self.limits.waiting:
            raise Refused(429, "Too many requests are waiting.", self._expected_wait(), "queue")
        self.waiting += 1
        try:
            async with asyncio.timeout(self.limits.wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Refused(
                503, "No slot came free in time.", self._expected_wait(), "wait"
            ) from None
        finally:
            self.waiting -= 1
        self.running += 1

    def leave(self, seconds: float) -> None:
        """Give the slot back after an answer that took so long."""
        self._usual_seconds += 0.2 * (seconds - self._usual_seconds)
        self.running -= 1
        self._free.release()

    def _expected_wait(self) -> float:
        return min(60.0, self._usual_seconds * (self.waiting + 1) / self.limits.slots)
