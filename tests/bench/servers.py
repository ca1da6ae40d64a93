"""Real servers for tests, on loopback, with the test's life: PostgreSQL, and MLflow on it. Without them tests skip."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import environment
from test_end_to_end import wait_for

PASSWORD = "hunter2"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, even if nobody has asked for its exit code."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class PostgreSQL:
    """A server that can be killed, frozen and started again."""

    def __init__(self, programs: Path, folder: Path, as_user: dict[str, Any]) -> None:
        self.programs, self.folder, self.as_user = programs, folder, as_user
        self.port = free_port()
        self.url = self.at("postgres")
        (folder / "password").write_text(f"{PASSWORD}\n")
        self._run("initdb", "-U", "bench", "-A", "scram-sha-256", "-N", f"--pwfile={folder}/password")

    def at(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://bench:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def add(self, database: str) -> str:
        """Make a database, and give its URL."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"create database {database}")
        return self.at(database)

    def start(self) -> None:
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-w", "-l", f"{self.folder}/log", "-o", settings, "start")

    def kill(self) -> None:
        """End all its processes at once, as a machine that dies does."""
        found = self._processes()
        self._send(signal.SIGKILL)
        wait_for(lambda: all(map(gone, found)))
        for lock in ("db/postmaster.pid", f".s.PGSQL.{self.port}.lock"):  # of a process that may still have its number
            (self.folder / lock).unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections, and answers nothing."""
        self._send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes():
            process.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(int((self.folder / "db/postmaster.pid").read_text().split()[0]))
        return [main, *main.children()]

    def _run(self, program: str, *args: str) -> None:
        subprocess.run(
            [str(self.programs / program), "-D", f"{self.folder}/db", *args], check=True, cwd="/",
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.as_user,
        )  # fmt: skip


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """A server that runs; skips where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="no psycopg here: pip install 'synth-health-bench[postgres]'")
    programs = [Path(p).resolve().parent for p in [shutil.which("initdb")] if p]
    programs += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path("/tmp") / f"bench-pg-{os.getpid()}-{time.time_ns() % 10**9}"  # a socket's path must be short
    folder.mkdir(mode=0o755)
    as_user: dict[str, Any] = {}
    try:
        if os.geteuid() == 0:  # a server refuses to run as root
            try:
                who = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL does not run as root, and there is no user `postgres`")
            os.chown(folder, who.pw_uid, who.pw_gid)
            as_user = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        server = PostgreSQL(programs[0], folder, as_user)
        server.start()
        try:
            yield server
        finally:
            if (folder / "db/postmaster.pid").exists():
                server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class MLflow:
    """A tracking server on a database, which can be killed and started again. url: where it is."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database, self.folder = database.replace("postgresql:", "postgresql+psycopg:"), folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "mlflow.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.database,
                 "--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1",
                 "--port", str(self.port), "--workers", "1"],
                cwd=self.folder, env=environment(**quiet), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: self._answers() or self.process.poll() is not None, 120)
        assert self.process.poll() is None, (self.folder / "mlflow.log").read_text()

    def kill(self) -> None:
        """End all its processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextmanager
def mlflow_server(database: str, folder: Path) -> Iterator[MLflow]:
    """A tracking server that runs."""
    server = MLflow(database, folder)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
