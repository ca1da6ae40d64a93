"""A Ray cluster of several nodes on this machine, by loopback addresses, for tests."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from conftest import environment

MEMORY, OBJECTS = 6_000_000_000, 100_000_000  # bytes of each node


class Rays:
    """Nodes at 127.0.0.2, the head, and the addresses after it; one core each. env: of all of them."""

    def __init__(self, folder: Path, nodes: int = 3, **env: str) -> None:
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'synth-health-bench[ray]'")
        self.folder, self.env = folder, env
        with socket.socket() as free:
            free.bind(("127.0.0.2", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.2:{self.port}"
        self.pids: set[int] = set()
        for i in range(nodes):
            self.start(i)

    def start(self, i: int, **env: str) -> None:
        """Start a node."""
        role = ["--address", self.address]
        if i == 0:
            # a path longer than 107 characters is none of a socket
            role = ["--head", "--port", str(self.port), "--include-dashboard=false", "--temp-dir", str(self.folder)]
        before = {p.pid for p in psutil.process_iter()}
        done = subprocess.run(
            [Path(sys.executable).parent / "ray", "start", *role, "--node-ip-address", f"127.0.0.{2 + i}", "--num-cpus",
             "1", "--memory", str(MEMORY), "--object-store-memory", str(OBJECTS)],
            env=self.environment(**env), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        ours = (p for p in psutil.process_iter(["cmdline"]) if p.pid not in before)
        self.pids |= {p.pid for p in ours if str(self.port) in " ".join(p.info["cmdline"] or [])}

    def environment(self, **more: str) -> dict[str, str]:
        """Of its nodes and of its driver."""
        ray = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        return environment(**ray, **self.env, **more)

    def kill(self, i: int) -> None:
        """Kill a node, as if its machine were switched off."""
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if f"--node_ip_address=127.0.0.{2 + i}" in line and line[0].endswith("raylet") and process.pid in self.pids:
                family = [process, *process.children(recursive=True)]
                for one in family:
                    one.send_signal(signal.SIGKILL)
                psutil.wait_procs(family, timeout=10)
                return
        raise AssertionError(f"node {i} is not there")

    def stop(self) -> None:
        """Kill all that is left."""
        for pid in self.pids:
            try:
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
            for one in family:
                try:
                    one.kill()
                except psutil.Error:
                    continue

    def run(self, folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`bench run` on the cluster."""
        return subprocess.run(
            self._command(args), cwd=folder, env=self.environment(**env), capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip

    def begin(self, folder: Path, *args: str) -> subprocess.Popen[str]:
        """The same, while the test goes on."""
        return subprocess.Popen(
            self._command(args), cwd=folder, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def _command(self, args: tuple[str, ...]) -> list[str]:
        ray = ["--launcher", "ray", "--address", self.address]
        return [sys.executable, "-m", "bench", "run", *ray, "--no-track", *args]
