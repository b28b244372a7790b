"""Progress in one line that changes, and stays as what came of it.

     • 20 requests from client to 192.168.1.56:80 … 12/20
     ✓ 20 requests from client to 192.168.1.56:80: 20 answered (0.3 s)

A terminal and a notebook show the line changing; anywhere else, and in an executed notebook, the last line is all.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

REDRAW_EVERY = 0.1  # seconds; a notebook keeps every message it gets until it is drawn


class Progress:
    """One step, its line drawn while the block runs; an error ends the line with ✗ and goes on upward.

    Args:
        text: what is being done.
        show: False draws nothing.
    """

    def __init__(self, text: str, show: bool = True) -> None:
        self.text = text
        self.show = show
        self.result = ""
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
        sign, result = (" ✗", "") if error else (" ✓", self.result)
        seconds = time.monotonic() - self._started
        self._draw(f"{sign} {self.text}{': ' + result if result else ''} ({seconds:.1f} s)", last=True)

    def _draw(self, line: str, last: bool = False) -> None:
        if not self.show:
            return
        self._drawn = time.monotonic()
        if in_notebook():
            from IPython.display import display

            data = {"text/plain": line}
            if self._handle is None:
                self._handle = display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)
        elif sys.stdout.isatty():
            print(f"\r\x1b[K{line}", end="\n" if last else "", flush=True)
        elif last:
            print(line, flush=True)


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel: outputs are rich and can be changed after they were shown."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
