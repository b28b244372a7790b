"""Which of a log's lines were had already, when it is asked for again.

A log is asked for again from a second before its newest line on, since the API takes whole seconds, and answers in the
order of the file: first what was had, then what is new::

    had        10:00:03.1 a   10:00:03.9 b   10:00:03.9 b
    answer     10:00:03.1 a   10:00:03.9 b   10:00:03.9 b   10:00:03.9 b   10:00:04.2 c
                                                            `----- new -------------'

Times alone do not tell new from old: access log and error log are written by two hands, so their times may be out of
order, and lines of one moment may be equal. So a line is left out as often as it was had, with the same time and the
same words. Two things break that order, and are seen by it: a rotated file, which lacks lines that were had (and may
lack others that never were), and a node whose clock was set back, which makes old lines look younger than new ones.
"""

from __future__ import annotations

from collections import Counter, deque

from srcip_nb.parse_prefix import logged_at

SECOND = 1_000_000_000  # nanoseconds
OVERLAP = 1  # seconds that are asked for again; also how far two hands' times may be out of order


class Had:
    """What was had of one start of a container.

    Attributes:
        has_gap: of the answer being taken, lines are missing that were had: between them and the first that is new,
            others may be missing too.
    """

    def __init__(self) -> None:
        self.has_gap = False
        self._recent: deque[tuple[int, bytes]] = deque()  # second and line, in the order of the file
        self._newest: int | None = None  # second of the file's last line
        self._set_back_from = 0  # the greatest second before the node's clock was set back, if it was
        self._owed: Counter[bytes] = Counter()  # had, and to come again
        self._left = 0  # how many of those
        self._is_met = True  # one of them has come
        self._not_before = 0  # nanoseconds: until one is met, lines up to then are older than what is wanted

    def since(self) -> int | None:
        """From which second on to ask again; None before the first line."""
        return None if self._newest is None else self._newest - OVERLAP

    def begin_after(self, line: bytes) -> None:
        """Nothing up to this line is wanted."""
        self._not_before = logged_at(line) or 0
        self._keep(line, self._not_before // SECOND)

    def begin_again(self) -> None:
        """The log comes anew from ``since()`` on."""
        since = self.since()
        self._owed = Counter(line for second, line in self._recent if since is not None and second >= since)
        self._left = self._owed.total()
        self._is_met = not self._left
        self.has_gap = False

    def take(self, line: bytes) -> bool:
        """Whether the line is new; from now on it was had."""
        if self._owed[line] > 0:
            self._owed[line] -= 1
            self._left -= 1
            self._is_met = True
            return False
        at = logged_at(line)
        second = (self._newest or 0) if at is None else at // SECOND  # a kubelet's own words bear no time
        if not self._is_met and self._newest is not None and at is not None:
            is_from_before_the_clock_was_set_back = self._newest - OVERLAP <= second <= self._set_back_from
            is_not_wanted = at <= self._not_before
            if is_from_before_the_clock_was_set_back or is_not_wanted:
                return False
        self.has_gap = self.has_gap or self._left > 0
        self._keep(line, second)
        return True

    def _keep(self, line: bytes, second: int) -> None:
        if self._newest is not None and second < self._newest - OVERLAP:
            self._set_back_from = max(self._set_back_from, self._newest)
        self._newest = second
        self._recent.append((second, line))
        while abs(self._recent[0][0] - second) > OVERLAP:
            self._recent.popleft()
