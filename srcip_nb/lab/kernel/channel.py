r"""The host's end of the wire to an agent: requests out, answers and events in, for asyncio.

A long request goes packed and in pieces (``&PIECE\n``), and every line waits for the agent's ``+`` to the one before: a
serial line of User Mode Linux stops for ever when its buffer fills. How long a piece may be the agent says in its first
line; the rest is in ``agent/protocol.py``.
One task writes, one reads, so any number of requests may be under way at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

from srcip_nb.errors import LabError
from srcip_nb.lab.agent.protocol import pack, unpack

PIECE = 3000
LONGEST_ANSWER = 256 << 20
_STDERR_KEPT = 4096

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[dict[str, Any]], None]


class AgentError(LabError):
    """The agent answered that a request cannot be done, or has ended.

    Attributes:
        code: 126 or 127, as a shell tells it, where a program could not be run; else None.
    """

    def __init__(self, cause: str, remedy: str = "", code: int | None = None) -> None:
        super().__init__(cause, remedy)
        self.code = code


def last_line(words: str) -> str:
    """The last line of a text."""
    return words.rpartition("\n")[2]


class Stream:
    """A request that sends events while it runs: ``async for event in stream``, then ``stream.result``."""

    def __init__(self, agent: Agent, number: int, answer: asyncio.Future[Any]) -> None:
        self.id = number
        self._agent = agent
        self._answer = answer
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        answer.add_done_callback(lambda _: self._events.put_nowait(None))

    def put(self, event: dict[str, Any]) -> None:
        """Take in an event."""
        self._events.put_nowait(event)

    @property
    def result(self) -> Any:
        """What the request answered; raises its error. To be asked after the last event."""
        return self._answer.result()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Yield events until the request is done; its error is raised after the last one."""
        while (event := await self._events.get()) is not None:
            yield event
        self._answer.result()

    async def input(self, data: bytes | None) -> None:
        """Write to the program's standard input; None ends it."""
        await self._tell("input", data=None if data is None else base64.b64encode(data).decode())

    async def signal(self, name: str) -> None:
        """Signal the program, or end a visit."""
        await self._tell("signal", signal=name)

    async def resize(self, rows: int, cols: int) -> None:
        """Tell the program's terminal its size."""
        await self._tell("resize", rows=rows, cols=cols)

    async def _tell(self, op: str, **arguments: Any) -> None:
        try:
            await self._agent.call(op, to=self.id, **arguments)
        except AgentError:
            # A request that came to its end on the way takes no notice.
            if not self._answer.done():
                raise

    async def cancel(self) -> None:
        """Kill what still runs and wait for the end, whatever it is."""
        if not self._answer.done():
            self._agent.interrupt(self.id)
        await asyncio.wait([self._answer])
        if not self._answer.cancelled():
            # Taken notice of: nobody is left to raise it to.
            self._answer.exception()


class Agent:
    """A running agent.

    Attributes:
        ready: what it said of itself: {"kernel": release, "features": {...}}.
        kernel: which kernel it runs on, by its name in ``kernel.KERNELS``.
        passed_over: kernels that were tried before this one, and why they would not do.
        closed: a future, done when the agent has ended; its result is the reason, one sentence.

    Args:
        process: what holds it, leader of a session of its own.
        wire: to and from the agent.
        stderr: what the process says beside.
        explain: makes a reason of the last words of one that ended by itself.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        wire: Wire,
        stderr: asyncio.StreamReader,
        explain: Callable[[str], str] = last_line,
    ) -> None:
        self._explain = explain
        self._process = process
        self._stdout, self._stdin = wire
        self._stderr = stderr
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, Stream] = {}
        self._handlers: dict[str, list[Handler]] = {}
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._may_send = asyncio.Semaphore(1)
        self._last_words = b""
        self._is_closing = False
        self._loop = asyncio.get_running_loop()
        self.ready: dict[str, Any] = {}
        self.kernel = ""
        self.passed_over: dict[str, str] = {}
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._first_line: asyncio.Future[None] = self._loop.create_future()
        self._watch_front()
        self._tasks = [asyncio.create_task(work) for work in (self._read(), self._write(), self._listen_to_stderr())]

    @property
    def pid(self) -> int:
        """The pid of the process that holds the agent; killing it ends the lab's kernel side."""
        return self._process.pid

    def _watch_front(self) -> None:
        """See to it that what the process in front started ends with it: its children hold the wire open too."""
        try:
            front = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            self._kill()
            return

        def ended() -> None:
            self._loop.remove_reader(front)
            os.close(front)
            self._kill()

        self._loop.add_reader(front, ended)

    def _kill(self) -> None:
        # It leads a session of its own, and a User Mode Linux is more than one process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait_ready(self, timeout: float) -> None:
        """Wait for the agent's first line.

        Raises:
            LabError: it ended before, or said nothing in time.
        """
        either: list[asyncio.Future[Any]] = [self._first_line, self.closed]
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._first_line.done():
            return
        reason = self.closed.result() if self.closed.done() else f"it said nothing for {timeout:g} s"
        await self.close()
        raise LabError(f"the lab's kernel process did not start: {reason}", "type: srcip-nb doctor")

    def on(self, event: str, handler: Handler) -> None:
        """Call a function with every message of a kind that belongs to no request: "log", "exited"."""
        self._handlers.setdefault(event, []).append(handler)

    async def call(self, op: str, **arguments: Any) -> Any:
        """Ask for an operation and wait for its result; cancelling the wait kills what it runs.

        Raises:
            AgentError: the agent answered with an error, or has ended.
        """
        number, answer = self._ask(op, arguments)
        try:
            return await answer
        except asyncio.CancelledError:
            self.interrupt(number)
            raise

    def stream(self, op: str, **arguments: Any) -> Stream:
        """Ask for an operation that sends events while it runs."""
        number, answer = self._ask(op, arguments)
        stream = self._streams[number] = Stream(self, number, answer)
        return stream

    def interrupt(self, number: int) -> None:
        """Kill what a request runs, without waiting."""
        if not self.closed.done():
            self._queue({"id": 0, "op": "signal", "to": number, "signal": "KILL"})

    def _ask(self, op: str, arguments: dict[str, Any]) -> tuple[int, asyncio.Future[Any]]:
        if self.closed.done():
            raise AgentError(f"the lab's kernel process has ended: {self.closed.result()}")
        number = next(self._numbers)
        answer = self._answers[number] = self._loop.create_future()
        self._queue({"id": number, "op": op, **arguments})
        return number, answer

    def _queue(self, request: dict[str, Any]) -> None:
        self._lines.put_nowait(json.dumps(request, separators=(",", ":")).encode())

    async def _write(self) -> None:
        while True:
            line = await self._lines.get()
            length = self.ready.get("piece", PIECE)
            if len(line) > length:
                line = pack(line)
            pieces = [line[at : at + length] for at in range(0, len(line), length)]
            for number, piece in enumerate(pieces, start=1):
                await self._may_send.acquire()
                is_last = number == len(pieces)
                self._stdin.write(piece + b"\n" if is_last else b"&" + piece + b"\n")
                try:
                    await self._stdin.drain()
                except ConnectionError:
                    # The reading task sees the end too, and says why.
                    return

    async def _read(self) -> None:
        try:
            while line := await self._stdout.readline():
                if line == b"+\n":
                    self._may_send.release()
                    continue
                self._take(json.loads(unpack(line.rstrip(b"\n"))))
        except (ValueError, TypeError, KeyError) as error:
            self._last_words = f"it said what cannot be understood: {error!r}".encode()
            self._kill()
        except asyncio.CancelledError:
            # Nobody would hear it any more, and waiting for its end below would last for ever.
            self._kill()
            raise
        finally:
            code = await self._process.wait()
            await asyncio.wait(self._tasks[2:], timeout=0.5)
            words = self._last_words.decode(errors="replace").strip()
            self._end("it was closed" if self._is_closing else self._explain(words or f"exit status {code}"))

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if "ready" in message:
            self.ready = message["ready"]
            self._first_line.set_result(None)
        elif number is None:
            for handler in self._handlers.get(message.get("event", ""), ()):
                try:
                    handler(message)
                except Exception as error:
                    # One listener's mistake must not stop the answers that others wait for.
                    self._loop.call_exception_handler({"message": f"{handler!r} failed", "exception": error})
        elif "event" in message:
            if number in self._streams:
                self._streams[number].put(message["event"])
        else:
            self._streams.pop(number, None)
            answer = self._answers.pop(number, None)
            if answer is None or answer.done():
                return
            if "error" in message:
                answer.set_exception(AgentError(message["error"], code=message.get("code")))
            else:
                answer.set_result(message["result"])

    async def _listen_to_stderr(self) -> None:
        while data := await self._stderr.read(4096):
            self._last_words = (self._last_words + data)[-_STDERR_KEPT:]

    def _end(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(AgentError(f"the lab's kernel process has ended: {reason}"))
                # Whoever waits still gets it; a stream that nobody reads any more is no news.
                answer.exception()
        self._answers.clear()
        self._streams.clear()

    async def close(self, timeout: float = 3.0) -> None:
        """End the agent, and with it every process and namespace of the lab."""
        self._is_closing = True
        self._stdin.close()
        done, _ = await asyncio.wait([self.closed], timeout=timeout)
        if not done:
            self._kill()
            await asyncio.shield(self.closed)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
