"""A real Triton server on this machine, without a GPU, from the wheel `nvidia-pytriton`.

The wheel pins numpy below 2, so it cannot be an extra: `pip install --no-deps nvidia-pytriton`. Nothing of
it is imported; the server in it is run.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from surgeon.errors import ExportError, InputError

from . import backend


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """Where the parts of the server lie.

    Attributes:
        binary: the server.
        python_backend: its backend for models written in Python.
        stub: what runs such a model, built for this version of Python.
        libraries: the shared libraries that came with it.
    """

    binary: Path
    python_backend: Path
    stub: Path
    libraries: Path


def find_server() -> ServerFiles | None:
    """Find the server of an installed `nvidia-pytriton`; None where it is missing or not for this Python."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    files = ServerFiles(
        root / "bin" / "tritonserver",
        root / "backends" / "python",
        root / "python_backend_stubs" / version / "triton_python_backend_stub",
        package.parent / "nvidia_pytriton.libs",
    )
    found = (files.binary, files.python_backend, files.stub, files.libraries)
    return files if all(path.exists() for path in found) else None


class TritonServer:
    """Serves a model repository on 127.0.0.1 while its block runs.

    Args:
        repository: the `triton/` folder of an export.
        config: which of a model's `configs/` to use; None for `config.pbtxt`.
        timeout: seconds to wait until it is ready.

    Raises:
        InputError: the repository is missing.
        ExportError: no server is installed, it refuses the repository, or it does not get ready.

    Example:
        >>> with TritonServer("out/triton") as server:  # doctest: +SKIP
        ...     client = tritonclient.http.InferenceServerClient(server.http)
    """

    def __init__(self, repository: str | Path, *, config: str | None = "cpu", timeout: float = 60.0) -> None:
        self.repository = Path(repository).absolute()
        self._config = config
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._work: Path | None = None
        self.http = self.grpc = self.metrics = ""

    def __enter__(self) -> TritonServer:
        files = find_server()
        if not self.repository.is_dir():
            raise InputError(
                "there is no such model repository",
                where=str(self.repository),
                fix="export with target='triton' and give its triton/ folder",
            )
        if files is None:
            raise ExportError(
                "no Triton server is installed for this Python",
                where="nvidia-pytriton",
                fix="pip install --no-deps nvidia-pytriton (Linux x86-64), or run NVIDIA's container",
            )
        self._work = Path(tempfile.mkdtemp(prefix="triton-"))
        try:
            self._start(files, self._work)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Return what the server wrote so far."""
        path = self._work / "log.txt" if self._work else None
        return path.read_text(encoding="utf-8", errors="replace") if path and path.exists() else ""

    def stop(self) -> None:
        """Stop the server and remove its temporary files; may be called twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
            self._work = None

    def _start(self, files: ServerFiles, work: Path) -> None:
        _lay_backends(files, work / "backends")
        ports = _free_ports(3)
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in ports)
        environment = os.environ | {
            # The Python backend runs the first python3 of PATH: this one, which has onnxruntime.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
            "LD_LIBRARY_PATH": str(files.libraries),
        }
        with (work / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(files, work, ports), env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _command(self, files: ServerFiles, work: Path, ports: list[int]) -> list[str]:
        command = [
            str(files.binary),
            f"--model-repository={self.repository}",
            f"--backend-directory={work / 'backends'}",
            "--disable-auto-complete-config",
        ]
        for protocol, port in zip(("http", "grpc", "metrics"), ports, strict=True):
            command += [f"--{protocol}-address=127.0.0.1", f"--{protocol}-port={port}"]
        return [*command, f"--model-config-name={self._config}"] if self._config else command

    def _wait(self) -> None:
        assert self._process is not None
        end = time.monotonic() + self._timeout
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise self._failure("Triton refuses the model repository")
            if _is_ready(self.http):
                return
            time.sleep(0.1)
        raise self._failure(f"Triton is not ready after {self._timeout:.0f} seconds")

    def _failure(self, what: str) -> ExportError:
        problems = [
            line.strip() for line in self.log.splitlines() if line[:1] == "E" or line.startswith("error")
        ]
        return ExportError(
            f"{what}: {' '.join(problems[:2])[:400] or self.log[-300:].strip()}",
            where=str(self.repository),
            fix="export it again with target='triton'",
        )


def _lay_backends(files: ServerFiles, folder: Path) -> None:
    shutil.copytree(files.python_backend, folder / "python")
    stub = folder / "python" / "triton_python_backend_stub"
    shutil.copyfile(files.stub, stub)
    stub.chmod(0o755)
    (folder / "onnxruntime").mkdir()
    shutil.copyfile(str(backend.__file__), folder / "onnxruntime" / "model.py")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]
    finally:
        for item in sockets:
            item.close()


def _is_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
