"""A small Hugging Face Hub on loopback: repositories, branches, commits, large files, downloads.

It answers what ``huggingface_hub`` 2 and transformers 5 ask for when they make a repository, commit
to its branches without Xet, and load from them. Anything else is a 404 that names itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopback"
_LARGE = re.compile(r".*\.(safetensors|bin)")
_MODELS = r"/api/models/(?P<repo>[^/]+/[^/]+)"


@dataclass
class Commit:
    """
    Attributes:
        files: content by name.
    """

    files: dict[str, bytes]
    message: str
    parent: str | None

    def name(self) -> str:
        parts = [self.message, str(self.parent)]
        parts += [f"{name}:{_sha256(content)}" for name, content in sorted(self.files.items())]
        return hashlib.sha1("\n".join(parts).encode()).hexdigest()


@dataclass
class Repository:
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, commit: Commit) -> str:
        name = commit.name()
        self.commits[name] = commit
        self.branches[branch] = name
        return name

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)

    def files(self, revision: str) -> dict[str, bytes]:
        name = self.resolve(revision)
        assert name is not None, revision
        return self.commits[name].files

    def history(self, revision: str) -> list[str]:
        """Newest first."""
        found, name = [], self.resolve(revision)
        while name is not None:
            found.append(name)
            name = self.commits[name].parent
        return found


@dataclass
class Fault:
    """What goes wrong with a request, once or more often.

    Attributes:
        method, path: of the request; a pattern that is searched for.
        skip: so many such requests pass before.
        times: so many are hit.
        status: it is answered with this; None drops the connection.
        is_done: whether what was asked is done first, and only the answer is lost.
        action: called at that moment.
    """

    method: str
    path: str
    skip: int = 0
    times: int = 1
    status: int | None = None
    message: str = ""
    is_done: bool = False
    action: Callable[[], None] = lambda: None

    def hits(self, method: str, path: str) -> bool:
        if self.times == 0 or method != self.method or not re.search(self.path, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class LoopbackHub:
    """Runs while it is entered.

    Attributes:
        requests: method and path of all so far.
        uploads: SHA-256 of every large file that was uploaded.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.uploads: list[str] = []
        self.faults: list[Fault] = []
        self.writers = {TOKEN}
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def create(self, name: str, *, private: bool = False) -> Repository:
        repository = Repository(private)
        first = Commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit", None)
        repository.commit("main", first)
        self.repositories[name] = repository
        return repository

    def add(self, name: str, branch: str, files: dict[str, bytes]) -> str:
        """Commit to a branch as a person would."""
        repository = self.repositories[name]
        before = repository.resolve(branch) or repository.history("main")[-1]
        whole = {**repository.commits[before].files, **files}
        return repository.commit(branch, Commit(whole, "by hand", before))

    def writes(self) -> list[str]:
        """Paths of the requests that could have changed something."""
        return [path for method, path in self.requests if method in ("POST", "PUT", "DELETE")]


class _AnswerLostError(Exception):
    """The connection is dropped."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _handle(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
            fault = next((f for f in self.hub.faults if f.hits(self.command, path)), None)
        try:
            if fault is not None:
                if fault.is_done:
                    with self.hub.lock:
                        self._route(path, body)
                fault.action()
                if fault.status is None:
                    raise _AnswerLostError
                headers = {"X-Error-Message": fault.message} if fault.message else {}
                self._send(fault.status, b"{}", headers)
                return
            with self.hub.lock:
                status, content, headers = self._route(path, body)
            self._send(status, content, headers)
        except (_AnswerLostError, ConnectionError):
            self.close_connection = True
            self.connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        routes: tuple[tuple[str, str, Callable[..., Any]], ...] = (
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", lambda body: {}),
            ("GET", rf"{_MODELS}(/revision/(?P<revision>[^/]+))?", self._info),
            ("GET", rf"{_MODELS}/refs", self._refs),
            ("GET", rf"{_MODELS}/commits/(?P<revision>[^/]+)", self._commits),
            ("GET", rf"{_MODELS}/tree/(?P<revision>[^/]+)(/(?P<below>.*))?", self._tree),
            ("POST", rf"{_MODELS}/branch/(?P<branch>[^/]+)", self._branch),
            ("POST", rf"{_MODELS}/preupload/(?P<revision>[^/]+)", self._preupload),
            ("POST", rf"{_MODELS}/commit/(?P<branch>[^/]+)", self._commit),
            ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            ("PUT", r"/large/(?P<oid>[0-9a-f]{64})", self._upload),
            (
                "(GET|HEAD)",
                r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)",
                self._download,
            ),
        )
        if self.command == "PUT" or not self._is_refused(path):
            for method, pattern, answer in routes:
                match = re.fullmatch(pattern, path)
                if match and re.fullmatch(method, self.command):
                    named = {k: v and unquote(v) for k, v in match.groupdict().items()}
                    try:
                        found = answer(body=body, **named)
                    except _RefusedError as refused:
                        return refused.status, b"{}", refused.headers
                    if isinstance(found, tuple):
                        return found
                    return 200, json.dumps(found).encode(), {"Content-Type": "application/json"}
            return 404, b"{}", {"X-Error-Message": f"no such request: {self.command} {path}"}
        return self._refusal()

    def _is_refused(self, path: str) -> bool:
        given = self.headers.get("Authorization")
        if given is None:
            return self.command == "POST"
        if given.removeprefix("Bearer ") not in {*self.hub.writers, "hf_reader"}:
            return True
        return self.command == "POST" and given == "Bearer hf_reader"

    def _refusal(self) -> tuple[int, bytes, dict[str, str]]:
        if self.headers.get("Authorization") == "Bearer hf_reader":
            return 403, b"{}", {"X-Error-Message": "no right to write"}
        return 401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"}

    def _repository(self, repo: str) -> Repository:
        if repo not in self.hub.repositories:
            raise _RefusedError(404, "RepoNotFound")
        return self.hub.repositories[repo]

    def _head(self, repo: str, revision: str) -> tuple[Repository, str]:
        repository = self._repository(repo)
        head = repository.resolve(revision)
        if head is None:
            raise _RefusedError(404, "RevisionNotFound")
        return repository, head

    def _create(self, body: bytes) -> Any:
        given = json.loads(body)
        name = f"{given['organization']}/{given['name']}"
        answer = {"url": f"{self.hub.endpoint}/{name}", "name": name}
        if name in self.hub.repositories:
            return 409, json.dumps(answer).encode(), {}
        self.hub.create(name, private=given.get("visibility") == "private")
        return answer

    def _info(self, body: bytes, repo: str, revision: str | None) -> Any:
        repository, head = self._head(repo, revision or "main")
        siblings = [{"rfilename": name} for name in repository.commits[head].files]
        return {
            "id": repo,
            "modelId": repo,
            "sha": head,
            "private": repository.private,
            "siblings": siblings,
            "tags": [],
        }

    def _refs(self, body: bytes, repo: str) -> Any:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": head}
            for name, head in self._repository(repo).branches.items()
        ]
        return {"branches": branches, "tags": [], "converts": []}

    def _commits(self, body: bytes, repo: str, revision: str) -> Any:
        repository, head = self._head(repo, revision)
        return [
            {
                "id": name,
                "title": repository.commits[name].message,
                "message": "",
                "authors": [],
                "date": "2025-01-01T00:00:00.000Z",
            }
            for name in repository.history(head)
        ]

    def _tree(self, body: bytes, repo: str, revision: str, below: str | None) -> Any:
        repository, head = self._head(repo, revision)
        files = repository.commits[head].files
        inside = f"{below}/" if below else ""
        if inside and not any(name.startswith(inside) for name in files):
            raise _RefusedError(404, "EntryNotFound")
        return [
            {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}
            for name, content in files.items()
            if name.startswith(inside)
        ]

    def _branch(self, body: bytes, repo: str, branch: str) -> Any:
        repository = self._repository(repo)
        if branch in repository.branches:
            return 409, b"{}", {}
        _, head = self._head(repo, json.loads(body).get("startingPoint", "main"))
        repository.branches[branch] = head
        return {}

    def _preupload(self, body: bytes, repo: str, revision: str) -> Any:
        repository, head = self._head(repo, revision)
        files = repository.commits[head].files
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if _LARGE.fullmatch(file["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": self._oid(file["path"], files),
                }
                for file in json.loads(body)["files"]
            ]
        }

    def _oid(self, name: str, files: dict[str, bytes]) -> str | None:
        if name not in files:
            return None
        return _sha256(files[name]) if _LARGE.fullmatch(name) else _blob(files[name])

    def _batch(self, body: bytes, repo: str) -> Any:
        self._repository(repo)
        objects: list[dict[str, Any]] = []
        for wanted in json.loads(body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.large:
                href = f"{self.hub.endpoint}/large/{wanted['oid']}?X-Amz-Signature=signed"
                answer["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def _upload(self, body: bytes, oid: str) -> Any:
        assert "X-Amz-Signature" in parse_qs(urlsplit(self.path).query)
        assert _sha256(body) == oid
        self.hub.large[oid] = body
        self.hub.uploads.append(oid)
        return {}

    def _commit(self, body: bytes, repo: str, branch: str) -> Any:
        repository, head = self._head(repo, branch)
        if branch not in repository.branches:
            raise _RefusedError(404, "RevisionNotFound")
        files, message = dict(repository.commits[head].files), ""
        for line in body.splitlines():
            key, value = json.loads(line).values()
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        name = repository.commit(branch, Commit(files, message, head))
        address = f"{self.hub.endpoint}/{repo}/commit/{name}"
        return {"success": True, "commitOid": name, "commitUrl": address}

    def _download(self, body: bytes, repo: str, revision: str, file: str) -> Any:
        repository, head = self._head(repo, revision)
        files = repository.commits[head].files
        if file not in files:
            raise _RefusedError(404, "EntryNotFound", head)
        content = files[file]
        return 200, content, {"ETag": f'"{_sha256(content)}"', "X-Repo-Commit": head}


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, commit: str | None = None) -> None:
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": code}
        if commit is not None:
            self.headers["X-Repo-Commit"] = commit


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
