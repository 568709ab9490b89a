"""The files for clusters, by the schema tools that can be had, and by what they promise."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
KUBERNETES = ("1.31", "1.34")


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def _pods(tree: Any) -> Iterator[dict[str, Any]]:
    """Every pod that a manifest would make, wherever it is written."""
    if isinstance(tree, dict):
        if "containers" in tree:
            yield tree
        for value in tree.values():
            yield from _pods(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _pods(value)


def _medtune(text: str) -> list[str]:
    """The arguments of the medtune command in a text."""
    lines = text.replace("\\\n", " ").splitlines()
    line = next(line for line in lines if line.strip().startswith("medtune "))
    return shlex.split(line)[1:]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", ["kuberay-train.yaml", "kuberay-serve.yaml", "vllm.yaml"])
def test_kubernetes_accepts_the_manifests(name: str, version: str) -> None:
    """Ray's own kinds are not in Kubernetes' schema; the pods that they make are."""
    validator = pytest.importorskip("kubernetes_validate")
    for document in _documents(name):
        if not document["apiVersion"].startswith("ray.io"):
            validator.validate(document, version, strict=True)
        for pod in _pods(document):
            made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
            validator.validate(made, version, strict=True)


@pytest.mark.parametrize("name", ["kuberay-train.yaml", "kuberay-serve.yaml"])
def test_rays_kinds_have_what_they_require_and_the_version_that_is_tested(name: str) -> None:
    ray = pytest.importorskip("ray")
    (document,) = (d for d in _documents(name) if d["apiVersion"] == "ray.io/v1")
    cluster = document["spec"].get("rayClusterSpec") or document["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["headGroupSpec"]["template"]["spec"]["containers"]
    for group in cluster["workerGroupSpecs"]:
        assert group["groupName"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_every_medtune_command_in_the_files_is_spelt_right() -> None:
    from typer.main import get_command

    from medtune.cli.app import app
    from medtune.recipe import load_recipe

    job = next(d for d in _documents("kuberay-train.yaml") if d["kind"] == "RayJob")
    (serving,) = (
        pod for d in _documents("vllm.yaml") for pod in _pods(d) if pod["containers"][0]["name"] == "medtune"
    )  # fmt: skip
    sky = _documents("sky-train.yaml")[0]
    commands = [
        _medtune(job["spec"]["entrypoint"]),
        _medtune((DEPLOY / "train.slurm").read_text(encoding="utf-8")),
        _medtune(sky["run"]),
        serving["containers"][0]["args"],
    ]
    known = get_command(app).commands  # type: ignore[attr-defined]
    for command, *words in commands:
        options = {option for p in known[command].params for option in p.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options
        overrides = [word for word in words if word.startswith("cluster.")]
        for word in ("$SLURM_JOB_NUM_NODES", "$SKYPILOT_NUM_NODES", "$SLURM_CPUS_PER_TASK"):
            overrides = [one.replace(word, "4") for one in overrides]
        overrides = [one.replace("$SKYPILOT_NUM_GPUS_PER_NODE", "1") for one in overrides]
        section = load_recipe("llama3-8b-qlora", overrides).cluster
        if command == "train":
            assert section.workers == 4
            assert section.resources_per_worker["GPU"] == 1
            assert section.storage


def test_the_slurm_script_is_a_script_with_directives_that_sbatch_reads() -> None:
    path = DEPLOY / "train.slurm"
    subprocess.run(["bash", "-n", str(path)], check=True)
    lines = path.read_text(encoding="utf-8").splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [i for i, line in enumerate(lines) if line.startswith("#SBATCH --")]
    assert len(directives) >= 6
    assert max(directives) < first_command, "sbatch stops reading at the first command"
    assert "#SBATCH --requeue" in lines


def test_skypilot_accepts_its_file() -> None:
    schemas = pytest.importorskip("sky.utils.schemas", reason="SkyPilot is not installed")
    import jsonschema

    jsonschema.validate(_documents("sky-train.yaml")[0], schemas.get_task_schema())


def test_who_serves_a_patient_is_behind_the_safety_layer() -> None:
    """vLLM itself has no safety layer: only Medtune's service has the port for people."""
    services = {d["metadata"]["name"]: d for d in _documents("vllm.yaml") if d["kind"] == "Service"}
    assert services["medtune"]["spec"]["ports"][0]["port"] == 80
    assert all(s["spec"].get("type", "ClusterIP") == "ClusterIP" for s in services.values())
