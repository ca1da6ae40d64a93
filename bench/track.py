"""The MLflow mirror of a suite: the only file that imports mlflow. The store is the truth; this can be replayed.

One experiment per suite. A parent run per (dataset, generator) holds means and intervals; its child runs, one per
replicate, hold parameters, headline scores, timings, environment and the record as an artifact; one run holds the
boards. Runs carry only the headline metrics, and all scores as an artifact: MLflow's pages slow down with many columns.
A run is known by the tag `bench.id`; one whose content has changed is replaced: a replay leaves no stale number.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cell import Record
from bench.collect import frame, records
from bench.errors import BenchError
from bench.store import Store
from bench.suite import Suite

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATUS = {"done": "FINISHED", "failed": "FAILED", "timeout": "KILLED", "skipped": "KILLED"}
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}


class TrackingError(BenchError):
    """The tracking server cannot be reached or refuses; the store has everything."""


def default_uri(store: Store) -> str:
    """The SQLite file inside the store."""
    return f"sqlite:///{store.tracking_db}"


def sync(suite: Suite, store: Store, data_dir: Path | None, boards: dict[str, Path], *, uri: str | None) -> int:
    """Bring MLflow in line with the store. Gives the number of runs written; TrackingError where that failed."""
    if not os.access(store.root, os.W_OK):
        raise TrackingError(f"store {store.root} is read-only")
    with store.alone("tracking"):
        wanted = _wanted(suite, store, data_dir, boards)
        digest = _digest({k: v["digest"] for k, v in wanted.items()})
        target = uri or default_uri(store)
        if uri is None and store.tracking_db.exists() and store.synced(target, suite.name) == digest:
            return 0
        os.environ.update({k: os.environ.get(k, v) for k, v in SETTINGS.items()})
        try:
            written = _Mirror(suite, store, target).bring(wanted)
        except Exception as error:  # whatever a client or a database raises: never the end of a run
            why = " ".join(str(error).split())[:160]
            raise TrackingError(_shown(f"MLflow at {target}: {type(error).__name__}: {why}")) from error
        store.mark_synced(target, suite.name, digest)
        return written


def serve(store: Store, host: str, port: int) -> None:
    """Become the MLflow server on a store's runs; ends with it. Raises BenchError where the store has none."""
    import sys

    if not store.tracking_db.exists():
        raise BenchError(f"store {store.root}: no MLflow runs yet: `bench run` or `bench track` writes them")
    os.environ.update({k: os.environ.get(k, v) for k, v in SETTINGS.items()})
    command = ["mlflow", "server", "--backend-store-uri", default_uri(store), "--default-artifact-root",
               str(store.artifacts), "--host", host, "--port", str(port), "--workers", "1"]  # fmt: skip
    print(f"MLflow on http://{host}:{port} (end with Ctrl-C)", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", *command])


class Background:
    """Brings MLflow in line now and then while a suite runs; a failure is told once and ends it."""

    def __init__(self, bring: Callable[[], Any], warn: Callable[[str], None], every_s: float = 60.0) -> None:
        self.bring, self.warn, self.every_s = bring, warn, every_s
        self.failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, bring: Callable[[], Any]) -> None:
        """Stop, and bring MLflow in line a last time unless it has failed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._once(bring)

    def _loop(self) -> None:
        while not self._stop.wait(self.every_s) and not self.failed:
            self._once(self.bring)

    def _once(self, bring: Callable[[], Any]) -> None:
        if self.failed:
            return
        try:
            bring()
        except BenchError as error:
            self.failed = True
            self.warn(f"{error}; nothing is lost: replay with `bench track`")


def _wanted(suite: Suite, store: Store, data_dir: Path | None, boards: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Every run MLflow should hold, by bench.id, parents before children."""
    from leaderboards.rank import Board
    from leaderboards.render import KEY

    found = [(c, s, r) for c, s, r in records(suite, store, data_dir) if r is not None]
    board = Board(frame(found, suite.metric_names))
    table = board.frame
    groups: dict[tuple[str, str], list[tuple[Any, Any, Record]]] = {}
    for cell, source, record in found:
        groups.setdefault((cell.dataset, cell.label), []).append((cell, source, record))
    out: dict[str, dict[str, Any]] = {}
    for (dataset, label), members in groups.items():
        rows = table[(table["dataset"] == dataset) & (table["generator"] == label)]
        first = members[0][1]
        common = {
            "dataset": dataset,
            "generator": label,
            "shape": first.row.shape,
            "native": str(bool(rows["native"].all())),
            "reference": str(bool(rows["reference"].all())),
        }
        values: dict[str, float] = {}
        for metric in KEY:
            if (dataset, label, metric) in board.means:
                score = board.summary.loc[(dataset, label, metric)]
                bounds = {f"{metric}.low": score["low"], f"{metric}.high": score["high"]}
                values |= {metric: score["mean"], **{k: v for k, v in bounds.items() if isfinite(v)}}
        states = [r.status for _, _, r in members]
        status = "done" if all(s == "done" for s in states) else next(s for s in states if s != "done")
        name = f"{dataset} · {label}"
        parent = f"{dataset}/{label}"
        columns = ["replicate", "metric", "value", "se", "undefined", "status", "reason"]
        out[parent] = {
            "name": name,
            "tags": {**common, "kind": "mean over replicates", "status": status, "replicates": str(len(members))},
            "metrics": values,
            "params": {"dataset": dataset, "generator": label},
            "texts": {"scores.csv": rows[columns].to_csv(index=False, lineterminator="\n")},
            "status": STATUS[status],
            "parent": None,
        }
        for cell, _, record in members:
            cost = store.note(cell.key, "cost") or {}
            seconds = {f"{k}_s": v["seconds"] for k, v in cost.get("phases", {}).items()}
            peaks = [v["peak_memory_mb"] for v in cost.get("phases", {}).values()]
            scores = {k: v["value"] for k, v in record.scores.items() if k in KEY and "value" in v}
            machine = cost.get("machine", {})
            out[cell.key] = {
                "name": f"{name} · replicate {cell.replicate}",
                "tags": {
                    **common,
                    "kind": "replicate",
                    "status": record.status,
                    "reason": record.reason,
                    **{f"env.{k}": str(v) for k, v in machine.items() if k != "packages"},
                    **{f"env.{k}": v for k, v in machine.get("packages", {}).items()},
                },
                "metrics": {**scores, **seconds, **({"peak_memory_mb": max(peaks)} if peaks else {})},
                "params": {
                    "dataset": dataset,
                    "generator": label,
                    "replicate": str(cell.replicate),
                    "split": cell.split,
                    "threads": str(cell.threads),
                    **{f"param.{k}": str(v) for k, v in _params(cell, record).items()},
                },
                "texts": {"record.json": json.dumps(asdict(record), indent=1, sort_keys=True)},
                "status": STATUS[record.status],
                "parent": parent,
            }
    out["board"] = {
        "name": f"board · {suite.name}",
        "tags": {"kind": "board"},
        "metrics": {},
        "params": {},
        "texts": {name: path.read_text(encoding="utf-8") for name, path in boards.items()},
        "status": "FINISHED",
        "parent": None,
    }
    for run in out.values():
        run["digest"] = _digest({k: v for k, v in run.items() if k != "digest"})
    return out


def _params(cell: Any, record: Record) -> dict[str, Any]:
    tuned = record.facts.get("tuned")
    return tuned["params"] if tuned else json.loads(cell.params)


class _Mirror:
    """One experiment of one tracking server."""

    def __init__(self, suite: Suite, store: Store, uri: str) -> None:
        import logging

        logging.getLogger("alembic").setLevel(logging.WARNING)  # a new database's migrations
        from mlflow import MlflowClient

        self.client: MlflowClient = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(suite.name)
        if found is None:
            local = uri == default_uri(store)
            place = (store.artifacts / suite.name).as_uri() if local else None
            self.experiment = self.client.create_experiment(suite.name, artifact_location=place)
        else:
            self.experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment)

    def bring(self, wanted: dict[str, dict[str, Any]]) -> int:
        """Write what is missing, replace what has changed, point children at their parents."""
        have = self._have()
        ids, written = {}, 0
        for name, run in wanted.items():
            held = have.get(name)
            if held and held[1] == run["digest"]:
                ids[name] = held[0]
                if run["parent"] and held[2] != ids[run["parent"]]:
                    self.client.set_tag(held[0], "mlflow.parentRunId", ids[run["parent"]])
                continue
            if held:
                self.client.delete_run(held[0])
            ids[name] = self._write(name, run, ids.get(run["parent"] or ""))
            written += 1
        return written

    def _have(self) -> dict[str, tuple[str, str, str]]:
        """bench.id -> (run id, digest, parent id) of the runs there are."""
        out, token = {}, None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1_000, page_token=token)
            for run in page:
                tags = run.data.tags
                if "bench.id" in tags:
                    digest, parent = tags.get("bench.digest", ""), tags.get("mlflow.parentRunId", "")
                    out[tags["bench.id"]] = (run.info.run_id, digest, parent)
            token = page.token
            if not token:
                return out

    def _write(self, name: str, run: dict[str, Any], parent: str | None) -> str:
        from mlflow.entities import Metric, Param, RunTag

        tags = {**run["tags"], "mlflow.runName": run["name"], "bench.id": name}
        if parent:
            tags["mlflow.parentRunId"] = parent
        made = self.client.create_run(
            self.experiment, run_name=run["name"], tags={k: v[:5_000] for k, v in tags.items()}
        )
        run_id, now = made.info.run_id, made.info.start_time
        self.client.log_batch(
            run_id,
            metrics=[Metric(k, v, now, 0) for k, v in run["metrics"].items()],
            params=[Param(k, v[:5_000]) for k, v in run["params"].items()],
        )
        for file, text in run["texts"].items():
            self.client.log_text(run_id, text, file)
        # the digest comes last: a run cut off before it is written again
        self.client.log_batch(run_id, tags=[RunTag("bench.digest", run["digest"])])
        self.client.set_terminated(run_id, status=run["status"])
        return run_id


def _shown(text: str) -> str:
    """A text without the passwords that the URIs in it may hold."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
