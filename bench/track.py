"""The MLflow mirror of a suite: the only file that imports mlflow. The store is the truth; this can be replayed.

One experiment per suite. A run is known again by the tag `bench.id`; one whose content has changed is replaced, so that
a replay leaves no stale number and writes nothing twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from bench.errors import BenchError
from bench.mirror import Run, runs
from bench.store import Store
from bench.suite import Suite

if TYPE_CHECKING:
    from mlflow import MlflowClient

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
PAGES = {"mlflow.experimentKind": "custom_model_development"}  # so that its pages are those of trained models
MEANS = "tags.kind = 'mean over replicates'"
LONGEST = 5_000  # characters of a tag or a parameter


class TrackingError(BenchError):
    """The tracking server cannot be reached or refuses; the store has everything."""


def default_uri(store: Store) -> str:
    """The SQLite file inside the store."""
    return f"sqlite:///{store.tracking_db}"


def sync(suite: Suite, store: Store, data_dir: Path | None, boards: Mapping[str, Path], *, uri: str | None) -> int:
    """Bring MLflow in line with the store. Gives the number of runs written; TrackingError where that failed."""
    if not os.access(store.root, os.W_OK):
        raise TrackingError(f"store {store.root} is read-only")
    with store.alone("tracking"):
        wanted = runs(suite, store, data_dir, boards)
        digest = hashlib.sha256("".join(run.digest for run in wanted).encode()).hexdigest()[:16]
        target = uri or default_uri(store)
        if uri is None and store.tracking_db.exists() and store.synced(target, suite.name) == digest:
            return 0
        _settle()
        try:
            written = _Mirror(suite, store, target).bring(wanted)
        except Exception as error:  # whatever a client or a database raises: never the end of a run
            why = _shown(" ".join(str(error).split()))[:160]
            raise TrackingError(f"MLflow at {_shown(target)}: {type(error).__name__}: {why}") from error
        if uri is None:
            store.mark_synced(target, suite.name, digest)
        return written


def serve(store: Store, host: str, port: int) -> None:
    """Become the MLflow server on a store's runs; ends with it. Raises BenchError where the store has none."""
    if not store.tracking_db.exists():
        raise BenchError(f"store {store.root}: no MLflow runs yet: `bench run` or `bench track` writes them")
    _settle()
    command = ["mlflow", "server", "--backend-store-uri", default_uri(store), "--default-artifact-root",
               str(store.artifacts), "--host", host, "--port", str(port), "--workers", "1"]  # fmt: skip
    print(f"MLflow on http://{host}:{port} (end with Ctrl-C)")
    for name, link in links(store, host, port).items():
        print(f"  compare generators, suite {name}: {link}")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", *command])


def links(store: Store, host: str, port: int) -> dict[str, str]:
    """Suite -> address of MLflow's table of its generators' means, best fidelity first."""
    from mlflow import MlflowClient

    search = urlencode(
        {"searchFilter": MEANS, "orderByKey": "metrics.`fidelity`", "orderByAsc": "false"}, quote_via=quote
    )
    found = MlflowClient(tracking_uri=default_uri(store)).search_experiments()
    return {
        e.name: f"http://{host}:{port}/#/experiments/{e.experiment_id}/runs?{search}"
        for e in reversed(found)
        if e.experiment_id != "0"
    }


class Background:
    """Brings MLflow in line now and then while a suite runs; that it fails is told once, and it is tried again."""

    def __init__(self, bring: Callable[[], Any], warn: Callable[[str], None], every_s: float = 60.0) -> None:
        self.bring, self.warn, self.every_s = bring, warn, every_s
        self.told = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, bring: Callable[[], Any]) -> None:
        """Stop, and bring MLflow in line a last time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._once(bring)

    def _loop(self) -> None:
        while not self._stop.wait(self.every_s):
            self._once(self.bring)

    def _once(self, bring: Callable[[], Any]) -> None:
        try:
            bring()
        except BenchError as error:
            if not self.told:
                self.warn(f"{error}; nothing is lost: it is tried again to the end, then replay with `bench track`")
            self.told = True


class _Mirror:
    """One experiment of one tracking server."""

    def __init__(self, suite: Suite, store: Store, uri: str) -> None:
        import logging

        logging.getLogger("alembic").setLevel(logging.WARNING)  # a new database's migrations
        from mlflow import MlflowClient

        self.pictures = store.pictures(suite.name)
        self.client: MlflowClient = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(suite.name)
        if found is None:
            local = uri == default_uri(store)
            place = (store.artifacts / suite.name).as_uri() if local else None
            self.experiment = self.client.create_experiment(suite.name, artifact_location=place, tags=PAGES)
        else:
            self.experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment)

    def bring(self, wanted: list[Run]) -> int:
        """Write what is missing, replace what has changed, point children at their parents."""
        have = self._have()
        ids: dict[str, str] = {}
        written = 0
        for run in wanted:
            run_id, digest, parent = have.get(run.id, ("", "", ""))
            above = ids[run.parent] if run.parent else ""
            if digest != run.digest:
                if run_id:
                    self.client.delete_run(run_id)
                run_id = self._write(run, above)
                written += 1
            elif above and parent != above:
                self.client.set_tag(run_id, "mlflow.parentRunId", above)
            ids[run.id] = run_id
        return written

    def _have(self) -> dict[str, tuple[str, str, str]]:
        """bench.id -> (run id, digest, parent's run id) of the runs there are; doubles are deleted.

        A client that got no answer asks again: the server may have made two.
        """
        out: dict[str, tuple[str, str, str]] = {}
        doubles, token = [], None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1_000, page_token=token)
            for run in page:
                tags = run.data.tags
                if tags.get("bench.id") in out:
                    doubles.append(run.info.run_id)
                elif "bench.id" in tags:
                    known = (run.info.run_id, tags.get("bench.digest", ""), tags.get("mlflow.parentRunId", ""))
                    out[tags["bench.id"]] = known
            token = page.token
            if not token:
                break
        for run_id in doubles:
            self.client.delete_run(run_id)
        return out

    def _write(self, run: Run, parent: str) -> str:
        """Write a run anew; its start and end are set so that its duration is that of the work."""
        from mlflow.entities import Metric, Param

        tags = {**run.tags, "bench.id": run.id, **({"mlflow.parentRunId": parent} if parent else {})}
        now = int(time.time() * 1_000)
        made = self.client.create_run(
            self.experiment,
            start_time=now - int(1_000 * run.seconds),
            run_name=run.name,
            tags={k: v[:LONGEST] for k, v in tags.items()},
        )
        run_id = made.info.run_id
        self.client.log_batch(
            run_id,
            metrics=[Metric(k, v, now, 0) for k, v in run.metrics.items()],
            params=[Param(k, v[:LONGEST]) for k, v in run.params.items()],
        )
        for file, text in run.texts.items():
            self.client.log_text(run_id, text, file)
        for name in run.pictures:
            self.client.log_artifact(run_id, str(self.pictures / name), "pictures")
        self.client.set_terminated(run_id, status=run.status, end_time=now)
        self.client.set_tag(run_id, "bench.digest", run.digest)  # last: a run cut off before it is written again
        return run_id


def _settle() -> None:
    """MLflow's settings, where the user has not chosen others; read when it is imported."""
    os.environ.update({k: os.environ.get(k, v) for k, v in SETTINGS.items()})


def _shown(text: str) -> str:
    """A text without the passwords that the URIs in it may hold."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)
