"""Before Ray starts: these are read by its processes."""

from __future__ import annotations

import os

for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A lost node is noticed after a second and a half, not after a quarter of a minute.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}.items():
    os.environ.setdefault(name, value)
