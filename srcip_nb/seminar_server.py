r"""The process that is a seminar: it owns the seats' labs and JupyterLabs, and serves the pages that lead to them.

    srcip-nb seminar up --starts--> this process --owns--> a lab for each seat, forked from one warm process
                                         \--starts at a seat's first click--> that seat's JupyterLab, its kernels

A seat that nobody has opened costs its lab and nothing else. What this process started ends with it, kill -9 included:
labs watch their owner, JupyterLabs have the kernel's word for it (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from aiohttp import web

from srcip_nb.errors import LabError, SrcipError, UsageError
from srcip_nb.lab.lifecycle import start
from srcip_nb.lab.spec import DEFAULT_NAME, LabSpec
from srcip_nb.lab.state import Process, trim_log
from srcip_nb.lab.template import Template
from srcip_nb.seats import Seat, Seminar, environment, jupyter_command, read_seminar, write_process
from srcip_nb.seminar_page import links_page, page, sentence_page, table
from srcip_nb.seminar_rows import SeatRow, count_checks, rows
from srcip_nb.text import t

AT_ONCE = max(2, os.cpu_count() or 1)
"""Labs, and JupyterLabs, that start at the same time; more would only slow each other."""

JUPYTER_WITHIN = 120.0  # seconds; thirty may be asked for at once
ANSWER_WITHIN = 2.0  # seconds that a click waits for its JupyterLab before it is told to wait
END_WITHIN = 10.0  # seconds
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}


def main() -> None:
    """Be the seminar of a folder until SIGTERM; tell on a pipe, a JSON line each, what came of each seat's start."""
    order = json.loads(sys.argv[1])
    tell = os.fdopen(order["ready_fd"], "w")
    try:
        seminar = read_seminar(Path(order["folder"]))
        if seminar is None:
            raise UsageError(f"{order['folder']} holds no seminar", "Make it: srcip-nb seminar up")
        with _listening(seminar) as listener:
            asyncio.run(_serve(seminar, listener, tell))
    except SrcipError as error:
        _tell(tell, {"error": {"cause": error.cause, "remedy": error.remedy}})


def _tell(stream: TextIO, message: dict[str, Any]) -> None:
    """Say it to whoever waits for the start; one that has gone is not waited for either."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        stream.write(json.dumps(message) + "\n")
        stream.flush()


@contextlib.contextmanager
def _listening(seminar: Seminar) -> Iterator[socket.socket]:
    """The page's socket, once all the seats' ports have turned out to be free."""
    for seat in seminar.seats:
        _bind(seminar.listen, seat.port).close()
    with _bind(seminar.listen, seminar.port) as listener:
        yield listener


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        raise UsageError(
            f"port {port} on {address} cannot be had ({error.strerror})",
            "Choose another --port: the page takes it and the seats those after it. --listen takes an address of this "
            "machine.",
        ) from error


async def _serve(seminar: Seminar, listener: socket.socket, tell: TextIO) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    jupyters = Jupyters(seminar)
    runner = web.AppRunner(make_app(seminar, jupyters), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        starting = asyncio.ensure_future(start_labs(seminar, partial(_tell, tell)))
        ending = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _tell(tell, {"ready": True})
            tell.close()
        await ending
    finally:
        await runner.cleanup()
        await jupyters.close()


async def start_labs(seminar: Seminar, tell: Any) -> None:
    """Start every seat's lab, forked from one warm process; on a real cluster there is nothing to start.

    Args:
        seminar: whose seats.
        tell: called with what came of each: ``{"seat": NAME, "cause": "" or why not, "remedy": ...}``.
    """
    if seminar.context:
        return
    owner = Process.of(os.getpid())
    loop = asyncio.get_running_loop()
    with Template() as template, ThreadPoolExecutor(AT_ONCE) as threads:

        async def one(seat: Seat) -> None:
            begin = partial(start, LabSpec(DEFAULT_NAME), owner, seminar.labs(seat), template.launch)
            try:
                await loop.run_in_executor(threads, begin)
            except SrcipError as error:
                tell({"seat": seat.name, "cause": error.cause, "remedy": error.remedy})
            else:
                tell({"seat": seat.name, "cause": "", "remedy": ""})

        await asyncio.gather(*map(one, seminar.seats))


class Jupyters:
    """The JupyterLabs of the seats, each started when its seat is opened."""

    def __init__(self, seminar: Seminar) -> None:
        self.seminar = seminar
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._few_at_once = asyncio.Semaphore(AT_ONCE)

    def start(self, seat: Seat) -> asyncio.Task[None]:
        """The task that is done when the seat's JupyterLab answers; LabError is its outcome if it does not."""
        task = self._starting.get(seat.name)
        process = self._processes.get(seat.name)
        has_ended = process is not None and process.returncode is not None
        has_failed = task is not None and task.done() and (task.cancelled() or task.exception() is not None)
        if task is None or (task.done() and (has_ended or has_failed)):
            task = self._starting[seat.name] = asyncio.ensure_future(self._start(seat))
        return task

    async def _start(self, seat: Seat) -> None:
        async with self._few_at_once:
            log_path = self.seminar.own(seat) / "jupyterlab.log"
            trim_log(log_path)
            with open(log_path, "ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *jupyter_command(self.seminar, seat),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment(self.seminar, seat),
                    cwd=self.seminar.work(seat),
                    start_new_session=True,
                )
            self._processes[seat.name] = process
            write_process(self.seminar, seat, Process.of(process.pid))
            await self._answers(seat, process)

    async def _answers(self, seat: Seat, process: asyncio.subprocess.Process) -> None:
        listen = self.seminar.listen
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)
        deadline = time.monotonic() + JUPYTER_WITHIN
        while process.returncode is None and time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection(address, seat.port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
        await self._end(process)  # the next click starts another on the same port
        log = self.seminar.own(seat) / "jupyterlab.log"
        raise LabError(f"JupyterLab of {seat.name} did not start", f"Its log: {log}")

    async def close(self) -> None:
        """End them all, kernels included, and return when they are gone."""
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await asyncio.gather(*(self._end(process) for process in self._processes.values()))
        for seat in self.seminar.seats:
            write_process(self.seminar, seat, None)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is not None:
                return
            process.send_signal(number)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), END_WITHIN)


def make_app(seminar: Seminar, jupyters: Jupyters) -> web.Application:
    """The pages: ``/`` and ``/links`` for the instructor's token, ``/SEAT`` for the seat's."""
    totals = count_checks(seminar.lang)
    seats = {seat.name: seat for seat in seminar.seats}

    def html(text: str, status: int = 200, **headers: str) -> web.Response:
        return web.Response(text=text, status=status, content_type="text/html", headers={**HEADERS, **headers})

    def refuse() -> web.Response:
        return html(sentence_page(seminar, t("seminar.wrong_token", lang=seminar.lang)), 403)

    def may(request: web.Request, token: str) -> bool:
        return secrets.compare_digest(request.query.get("token", "").encode(), token.encode())

    async def current() -> tuple[list[SeatRow], str]:
        found = await asyncio.to_thread(rows, seminar, totals)
        return found, time.strftime("%H:%M:%S UTC", time.gmtime())

    async def overview(request: web.Request) -> web.Response:
        if not may(request, seminar.token):
            return refuse()
        found, now = await current()
        return html(page(seminar, found, _host(request), now))

    async def only_table(request: web.Request) -> web.Response:
        if not may(request, seminar.token):
            return refuse()
        found, now = await current()
        return html(table(seminar, found, _host(request), now))

    async def links(request: web.Request) -> web.Response:
        return html(links_page(seminar, _host(request))) if may(request, seminar.token) else refuse()

    async def open_seat(request: web.Request) -> web.Response:
        seat = seats.get(request.match_info["seat"])
        if seat is None or not may(request, seat.token):
            return refuse()
        task = jupyters.start(seat)
        await asyncio.wait([task], timeout=ANSWER_WITHIN)
        if not task.done():
            say = t("seminar.starting", lang=seminar.lang, seat=seat.name)
            return html(sentence_page(seminar, say), Refresh="1")
        if task.cancelled() or task.exception():
            log = seminar.own(seat) / "jupyterlab.log"
            say = t("seminar.not_started", lang=seminar.lang, seat=seat.name, log=log)
            return html(sentence_page(seminar, say), 503)
        place = f"http://{_host(request)}:{seat.port}/{seat.name}/lab/tree/{seminar.first_notebook()}"
        raise web.HTTPFound(f"{place}?token={seat.token}", headers=HEADERS)

    app = web.Application()
    app.add_routes([web.get("/", overview), web.get("/table", only_table), web.get("/links", links)])
    app.add_routes([web.get("/{seat}", open_seat)])
    return app


def _host(request: web.Request) -> str:
    """By which name or address the browser reached this machine; IPv6 in its brackets."""
    return request.host.rpartition("]")[0] + "]" if request.host.startswith("[") else request.host.partition(":")[0]


if __name__ == "__main__":
    main()
