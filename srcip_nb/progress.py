"""Progress in one line that changes, and stays as what came of it.

     • 20 requests from client to 192.168.1.56:80 … 12/20
     ✓ 20 requests from client to 192.168.1.56:80: 20 answered (0.3 s)

A terminal and a notebook show the line changing; anywhere else, and in an executed notebook, the last line is all.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, TextIO

REDRAW_EVERY = 0.1  # seconds; a notebook keeps every message it gets until it is drawn


class Progress:
    """One step, its line drawn while the block runs; an error ends the line with ✗ and goes on upward.

    Args:
        text: what is being done.
        show: False draws nothing.
        stream: where to; None: the notebook, or standard output.

    Attributes:
        result: what came of it, for the last line.
        failed: that line begins with ✗ though nothing was raised.
    """

    def __init__(self, text: str, show: bool = True, stream: TextIO | None = None) -> None:
        self.text = text
        self.show = show
        self.stream = stream
        self.result = ""
        self.failed = False
        self._started = self._drawn = 0.0
        self._handle: Any = None

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        self._draw(f" • {self.text} …")
        return self

    def update(self, state: str) -> None:
        """Show how far it is."""
        if time.monotonic() - self._drawn >= REDRAW_EVERY:
            self._draw(f" • {self.text} … {state}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sign, result = (" ✗" if error or self.failed else " ✓"), ("" if error else self.result)
        seconds = time.monotonic() - self._started
        self._draw(f"{sign} {self.text}{': ' + result if result else ''} ({seconds:.1f} s)", last=True)

    def _draw(self, line: str, last: bool = False) -> None:
        if not self.show:
            return
        self._drawn = time.monotonic()
        stream = self.stream or sys.stdout
        if self.stream is None and in_notebook():
            from IPython.display import display

            data = {"text/plain": line}
            if self._handle is None:
                self._handle = display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)
        elif stream.isatty():
            print(f"\r\x1b[K{line}", end="\n" if last else "", file=stream, flush=True)
        elif last:
            print(line, file=stream, flush=True)


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel: outputs are rich and can be changed after they were shown."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
