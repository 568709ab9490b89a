"""Trackers that a training reports to, beside the run's own ``metrics.jsonl``."""

from __future__ import annotations

from importlib.util import find_spec

from medtune.errors import MedtuneError


def check_installed(tracker: str) -> None:
    """See that the library of ``tracking.report_to`` is there, before hours of work report to it.

    Raises:
        MedtuneError: it is not; the sentence says how to get it.
    """
    if tracker != "none" and find_spec(tracker) is None:
        raise MedtuneError(
            f"tracking.report_to {tracker} needs the package {tracker}; install it with "
            "`pip install 'medtune[tracking]'`, or set tracking.report_to to none."
        )
