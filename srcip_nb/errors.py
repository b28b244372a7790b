"""Every error a user meets: one sentence for the cause, one for what to type next."""

from __future__ import annotations


class SrcipError(Exception):
    """Something a user can act on.

    Args:
        cause: what went wrong, one sentence, no trailing full stop needed.
        remedy: what to type or change next; "" where nothing helps.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = cause.rstrip(".")
        self.remedy = remedy
        super().__init__(f"{self.cause}. {remedy}".strip())


class UsageError(SrcipError):
    """The caller asked for something that does not exist or does not fit; nothing was done."""


class LabError(SrcipError):
    """The lab cannot be started, reached or stopped."""


class ClusterError(SrcipError):
    """The Kubernetes API refused or did not answer."""


class NotFinishedError(SrcipError):
    """A wait came to its time limit; the message holds the last state seen."""


class ManifestError(SrcipError):
    """A manifest cannot be read or is not what Kubernetes takes."""
