"""A Ray cluster of several nodes on one machine, each with processes of its own, until stdin ends.

    python nodes.py 3        # prints {"address": ..., "raylets": [PID, ...]}

The first node has no cores, so no work lands on it; the others have one each.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from typing import Any

from ray.cluster_utils import Cluster

scratch = tempfile.mkdtemp(prefix="ray-")
node: dict[str, Any] = {"object_store_memory": 80 * 2**20}
cluster: Any = Cluster(
    initialize_head=True,
    head_node_args={**node, "num_cpus": 0, "include_dashboard": False, "temp_dir": scratch},
)
nodes = [cluster.add_node(num_cpus=1, **node) for _ in range(int(sys.argv[1]))]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
sys.stdin.read()
for node in list(nodes):
    if node.remaining_processes_alive():
        cluster.remove_node(node)
cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
shutil.rmtree(scratch, ignore_errors=True)
