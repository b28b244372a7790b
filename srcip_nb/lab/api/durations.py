"""How long ago, as kubectl prints it: 5s, 2m30s, 3h25m, 8d, 2y10d.

Source: kubernetes v1.36.2 apimachinery pkg/util/duration/duration.go (HumanDuration).
"""

from __future__ import annotations

from srcip_nb.lab.api.objects import seconds_of

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def human_duration(seconds: float) -> str:
    """A duration in at most two units; "<invalid>" for one that lies well in the future."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole // _MINUTE, "m", whole % _MINUTE, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole // _HOUR, "h", whole // _MINUTE % 60, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole // _DAY, "d", whole // _HOUR % 24, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole // _YEAR, "y", whole // _DAY % 365, "d")
    return f"{whole // _YEAR}y"


def age(stamp: str | None, now: float) -> str:
    """How long before `now` (seconds since 1970) a time stamp lies; "<unknown>" without one."""
    return human_duration(now - seconds_of(stamp)) if stamp else "<unknown>"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def go_duration(seconds: float) -> str:
    """Whole seconds as Go's time.Duration prints them up to an hour: "10s", "2m40s"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
