"""A small Hugging Face Hub on this machine: the part of its protocol that push and pull use.

It keeps repositories in memory and can be told to fail: a number is an HTTP status, ``cut``
closes the connection before an answer, ``half`` after half of a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "hf_secret"


@dataclass
class Fault:
    path: str
    """A regular expression."""
    what: int | str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{self.commits}".encode()).hexdigest()


class Hub:
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.ranges: list[str] = []
        """The parts of files that were asked for."""
        self.user: dict[str, Any] = {
            "name": "me", "type": "user", "orgs": [{"name": "clinic"}],
            "auth": {"accessToken": {"role": "write"}},
        }  # fmt: skip
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def handle_any(self) -> None:
                hub.answer(self)

            do_GET = do_POST = do_PUT = do_HEAD = handle_any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, path: str, what: int | str, times: int = 1, **headers: str) -> None:
        self.faults.append(
            Fault(path, what, times, {k.replace("_", "-"): v for k, v in headers.items()})
        )

    def answer(self, request: Any) -> None:
        path = unquote(urlparse(request.path).path)
        path = path.replace("/api/datasets/", "/api/models/").removeprefix("/datasets")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.log.append(f"{request.command} {path}")
        for fault in self.faults:
            if fault.times and re.search(fault.path, path):
                if fault.what == "half" and request.command == "HEAD":
                    continue
                fault.times -= 1
                if fault.what == "cut":
                    request.close_connection = True
                    request.connection.close()
                elif fault.what == "half":
                    request.half = True
                    break
                else:
                    self.send(request, int(fault.what), {"error": "told to fail"}, fault.headers)
                return
        known = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not known and not path.startswith("/lfs/"):
            self.send(request, 401, {"error": "Invalid credentials"})
            return
        self.route(request, path, body)

    def route(self, request: Any, path: str, body: bytes) -> None:
        if path == "/api/whoami-v2":
            return self.send(request, 200, self.user)
        if path == "/api/validate-yaml":
            return self.validate(request, json.loads(body)["content"])
        if path == "/api/repos/create":
            return self.create(request, json.loads(body))
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            self.blobs[match[1]] = body
            assert hashlib.sha256(body).hexdigest() == match[1]
            return self.send(request, 200, {})
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self.batch(request, json.loads(body))
        if match := re.fullmatch(
            r"/api/models/([^/]+/[^/]+)/(preupload|commit|revision)/main", path
        ):
            repo = self.repositories.get(match[1])
            if repo is None:
                return self.send(request, 404, {}, {"X-Error-Code": "RepoNotFound"})
            if match[2] == "preupload":
                return self.preupload(request, repo, json.loads(body))
            if match[2] == "commit":
                return self.commit(request, match[1], repo, body)
            return self.info(request, match[1], repo)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            repo = self.repositories.get(match[1])
            if repo is None:
                return self.send(request, 404, {}, {"X-Error-Code": "RepoNotFound"})
            return self.info(request, match[1], repo)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/\w+", path):
            return self.tree(request, self.repositories[match[1]])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self.resolve(request, match[1], match[2])
        return self.send(request, 404, {"error": f"no such place: {path}"})

    def validate(self, request: Any, card: str) -> None:
        """The real Hub knows its licences by name."""
        found = re.search(r"^license: (.*)$", card, re.M)
        if found and found[1] not in ("apache-2.0", "mit", "llama2", "other"):
            error = {"message": '"license" must be one of [apache-2.0, mit, ...]'}
            return self.send(request, 400, {"errors": [error], "warnings": []})
        self.send(request, 200, {"errors": [], "warnings": []})

    def create(self, request: Any, wish: dict[str, Any]) -> None:
        name = f"{wish.get('organization') or self.user['name']}/{wish['name']}"
        url = {"url": f"{self.address}/{name}", "name": name}
        if name in self.repositories:
            return self.send(request, 409, {**url, "error": "You already created this model repo"})
        private = wish.get("private") or wish.get("visibility") == "private"
        self.repositories[name] = Repository(bool(private))
        return self.send(request, 200, url)

    def preupload(self, request: Any, repo: Repository, wish: dict[str, Any]) -> None:
        files = []
        for file in wish["files"]:
            known = repo.files.get(file["path"])
            mode = "lfs" if file["path"].endswith((".safetensors", ".gguf")) else "regular"
            oid = None
            if known is not None:
                header = f"blob {len(known)}\0".encode()
                oid = (
                    hashlib.sha256(known).hexdigest()
                    if mode == "lfs"
                    else hashlib.sha1(header + known).hexdigest()
                )
            files.append(
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            )
        self.send(request, 200, {"files": files})

    def batch(self, request: Any, wish: dict[str, Any]) -> None:
        objects = []
        for entry in wish["objects"]:
            found: dict[str, Any] = {"oid": entry["oid"], "size": entry["size"]}
            if entry["oid"] not in self.blobs:
                found["actions"] = {"upload": {"href": f"{self.address}/lfs/{entry['oid']}"}}
            objects.append(found)
        self.send(
            request,
            200,
            {"transfer": "basic", "objects": objects},
            {"Content-Type": "application/vnd.git-lfs+json"},
        )

    def commit(self, request: Any, name: str, repo: Repository, body: bytes) -> None:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repo.files[value["path"]] = self.blobs[value["oid"]]
        repo.commits += 1
        url = f"{self.address}/{name}/commit/{repo.sha}"
        self.send(request, 200, {"success": True, "commitUrl": url, "commitOid": repo.sha, "hookOutput": ""})  # fmt: skip

    def info(self, request: Any, name: str, repo: Repository) -> None:
        self.send(
            request,
            200,
            {
                "id": name, "_id": "1", "sha": repo.sha, "private": repo.private, "tags": [],
                "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in repo.files],
            },
        )  # fmt: skip

    def tree(self, request: Any, repo: Repository) -> None:
        entries = []
        for path, content in repo.files.items():
            header = f"blob {len(content)}\0".encode()
            entries.append(
                {
                    "type": "file", "path": path, "size": len(content),
                    "oid": hashlib.sha1(header + content).hexdigest(),
                }
            )  # fmt: skip
        self.send(request, 200, entries)

    def resolve(self, request: Any, name: str, path: str) -> None:
        repo = self.repositories.get(name)
        if repo is None or path not in repo.files:
            return self.send(request, 404, {}, {"X-Error-Code": "EntryNotFound"})
        content = repo.files[path]
        headers = {
            "X-Repo-Commit": repo.sha, "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream",
        }  # fmt: skip
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        if asked is None:
            return self.send(request, 200, content, headers)
        self.ranges.append(asked[0])
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.send(request, 206, content[first : last + 1], headers)

    def send(
        self, request: Any, status: int, value: Any, headers: dict[str, str] | None = None
    ) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        request.send_response(status)
        found = {"Content-Type": "application/json", **(headers or {})}
        for key, text in found.items():
            request.send_header(key, text)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "HEAD":
            return
        if getattr(request, "half", False):
            request.wfile.write(content[: len(content) // 2])
            request.wfile.flush()
            request.close_connection = True
            request.connection.close()
            return
        request.wfile.write(content)
