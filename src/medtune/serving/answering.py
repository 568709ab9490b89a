"""One answer in a thread of its own, read from the event loop; a client that leaves ends it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fastapi import Request

from medtune.serving.limits import Gate
from medtune.serving.metered import Metered

_T = TypeVar("_T")


class ClientLeft(Exception):
    """The client closed the connection; nobody reads the answer."""


class Answer:
    """Pieces that an engine writes in a slot.  The slot is free once the engine has let go.

    The pieces wait in memory for a slow reader: an answer is short, a slot is dear.
    """

    def __init__(self, meter: Metered) -> None:
        self._meter = meter
        self._pieces: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, gate: Gate, meter: Metered, pieces: Callable[[], Iterator[str]]) -> Answer:
        """Wait for a slot and begin.

        Raises:
            Refused: no slot can be had.
        """
        await gate.enter()
        began = time.monotonic()
        answer, loop = cls(meter), asyncio.get_running_loop()

        def tell(item: str | BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed under a stopped server
                loop.call_soon_threadsafe(answer._pieces.put_nowait, item)

        def work() -> None:
            try:
                for piece in pieces():
                    tell(piece)
            except BaseException as error:  # handed to the reader, who raises it
                tell(error)
            tell(None)

        work_done = loop.run_in_executor(gate.pool, work)
        work_done.add_done_callback(lambda _: gate.leave(time.monotonic() - began))
        answer._timer = loop.call_later(gate.limits.answer_seconds, meter.expire)
        return answer

    async def next(self) -> str | None:
        """The next piece, or None at the end.

        Raises:
            MedtuneError: what went wrong in the engine.
        """
        item = await self._pieces.get()
        if isinstance(item, BaseException):
            raise item
        return item

    async def whole(self) -> str:
        """The rest of the answer."""
        return "".join([piece async for piece in self])

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self.next()) is not None:
            yield piece

    def end(self) -> None:
        """Let the engine stop soon; nothing happens after its end."""
        if self._timer is not None:
            self._timer.cancel()
        self._meter.cancelled.set()


async def unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of ``work``, which ends when the client closes the connection.

    Raises:
        ClientLeft: it did.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft
    finally:
        for one in (task, gone):
            if not one.done():
                one.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await one


async def _gone(request: Request) -> None:
    # The body has been read; what still comes is the end of the connection.
    while (await request.receive())["type"] != "http.disconnect":
        pass
