"""Reach a Ray cluster, or start one on this machine for as long as a command runs."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medtune.errors import MedtuneError

_LOCAL = re.compile(r"local(?::([1-9]\d*))?")
_STORE_BYTES = 128 * 2**20
"""Of the shared memory that Ray takes on each node of a local cluster; what passes through it here
is adapters and answers."""


@contextmanager
def connected(address: str) -> Iterator[str]:
    """A connection to the cluster while the block runs.

    Args:
        address: where a cluster answers (``auto``, ``HOST:6379``, ``ray://HOST:10001``), or ``local``
            for one of a single node here, or ``local:N`` for N nodes that share this machine's
            cores, each with processes of its own.

    Yields:
        The address that other libraries reach the cluster by.

    Raises:
        MedtuneError: Ray is not installed, the address means nothing, or no cluster answers.
    """
    ray = _ray()
    local = _LOCAL.fullmatch(address)
    if local:
        with _local_cluster(int(local[1] or 1)) as found:
            yield found
        return
    if address.startswith("local"):
        raise MedtuneError(
            f"{address!r} is no cluster; write local, local:2, or the address of one.", exit_code=2
        )
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise MedtuneError(
            f"No Ray cluster answers at {address} ({str(error).splitlines()[0]}); start one with "
            "`ray start --head`, or take --cluster local."
        ) from error
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


@contextmanager
def _local_cluster(nodes: int) -> Iterator[str]:
    import ray
    from ray.cluster_utils import Cluster

    cores = max(1, _cores() // nodes)
    node: dict[str, Any] = {"num_cpus": cores, "object_store_memory": _STORE_BYTES}
    # Its logs, its sockets: a path of some length is too long for a socket's name.
    scratch = tempfile.mkdtemp(prefix="ray-")
    head = {**node, "include_dashboard": False, "temp_dir": scratch}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _ray() -> Any:
    # Nothing is reported to Ray's authors, as nothing is to anybody's.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Where a GPU is not asked for, none is hidden either; and no advice on standard error.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MedtuneError(
            "Ray is not installed; get it with `pip install 'medtune[cluster]'`."
        ) from None
    return ray


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
