"""Which network interface the workers talk over: the one of their node's address in Ray."""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray.util
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

_FOR_GLOO = "GLOO_SOCKET_IFNAME"


class AtNodeAddress(TorchConfig):
    """Processes that find each other at the addresses by which Ray knows their nodes."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(name_interface)
        super().on_start(worker_group, backend_config)


def name_interface() -> None:
    """Tell gloo the interface, unless the environment does.

    Left to itself gloo takes the address that the machine's own name stands for.  On many machines
    that is the loopback's, where no other node can reach it.
    """
    if _FOR_GLOO in os.environ:
        return
    address = ray.util.get_node_ip_address()
    for interface, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            os.environ[_FOR_GLOO] = interface
