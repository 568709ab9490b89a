"""Ray nodes with an address of their own, each on a link that can be cut, until stdin ends.

    unshare --net --pid --fork --kill-child --mount-proc python network.py FOLDER 2

Run in network and process namespaces of its own, as above, where it is process 1: when it ends, all
that it started ends, and the links with it.  The first node lies at ``HEAD``, has one core, and its
interface is the bridge that joins the links.  The others have a namespace and one core each; the
other end of the link of node 1 is ``port1`` in the bridge's namespace, of node 2 ``port2``.  Prints a
line once all nodes are there.

FOLDER is for what Ray keeps on a node; the path must be short, for sockets lie in it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

HEAD = "10.77.0.1"
PORT = 6379
# Of the head and of the nodes alike, so that one setting names the interface of all.
INTERFACE = "eth0"


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


def _ray_start(folder: str, address: str) -> str:
    what = f"--head --port={PORT} --include-dashboard=false"
    if address != HEAD:
        what = f"--address={HEAD}:{PORT}"
    return (
        f"exec {sys.executable} -m ray.scripts.scripts start {what} --node-ip-address={address} "
        f"--num-cpus=1 --object-store-memory={80 * 2**20} --temp-dir={folder} --block "
        "--disable-usage-stats </dev/null >&2"
    )


def _head(folder: str) -> None:
    _ip("link set lo up")
    _ip(f"link add {INTERFACE} type bridge")
    _ip(f"link set {INTERFACE} up")
    _ip(f"addr add {HEAD}/24 dev {INTERFACE}")
    _ip(f"route add default dev {INTERFACE}")  # what asks for the way out learns its own address
    subprocess.Popen(["sh", "-c", _ray_start(folder, HEAD)])


def _node(number: int, folder: str) -> None:
    address = f"10.77.0.{number + 1}"
    script = (
        f"read linked; ip link set lo up; ip addr add {address}/24 dev {INTERFACE}; "
        f"ip link set {INTERFACE} up; ip route add default via {HEAD}; "
        f"{_ray_start(folder, address)}"
    )
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdin=subprocess.PIPE)
    here = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{process.pid}/ns/net").readlink() == here:
        time.sleep(0.01)
    _ip(f"link add port{number} type veth peer name {INTERFACE} netns {process.pid}")
    _ip(f"link set port{number} master {INTERFACE} up")
    process.stdin.write(b"linked\n")  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]


def _wait_for(nodes: int) -> None:
    import ray

    while True:
        try:
            ray.init(address=f"{HEAD}:{PORT}", log_to_driver=False)
            break
        except (ConnectionError, RuntimeError):
            time.sleep(0.5)
    while sum(node["Alive"] for node in ray.nodes()) < nodes:
        time.sleep(0.1)
    ray.shutdown()


if __name__ == "__main__":
    folder, others = sys.argv[1], int(sys.argv[2])
    _head(f"{folder}/0")
    for number in range(1, others + 1):
        _node(number, f"{folder}/{number}")
    _wait_for(1 + others)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans that end are not kept as zombies
    print("up", flush=True)
    sys.stdin.read()
