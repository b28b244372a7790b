"""The first byte of every message on a command's websocket: which stream the rest belongs to.

An empty message on STDIN ends the input; EXIT carries the exit code, RESIZE the terminal's size as JSON, SIGNAL a
signal's name without SIG.
"""

from __future__ import annotations

STDIN, STDOUT, STDERR, EXIT, RESIZE, SIGNAL = range(6)
