"""Where a study is kept: a journal file or a database; patience with a database that is away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from bench.errors import Away, BenchError

PATIENCE_S = 60.0  # for which a database may be away before what needs it gives up
ANSWER_S = 20.0  # without an answer, after which a database is taken for away
CONNECT_S = 10  # to get a connection
RETRY_S = 1.0  # between two tries
ATTEMPTS = 3  # to open a storage while other workers may be making the same tables
SAID = ("connection refused", "authentication failed", "timeout", "does not exist", "starting up", "shutting down",
        "server closed the connection", "failed to resolve host", "unable to open database file", "locked")  # fmt: skip


class Storage:
    """Optuna's storage, each of whose operations is tried again while its database is away; then it raises Away.

    hurried: do not try again. away_at: when the database was last found away, in seconds since 1970; 0 for never.
    """

    def __init__(self, kept: Any, url: str) -> None:
        self.kept, self.url = kept, url
        self.hurried = False
        self.away_at = 0.0

    def __getattr__(self, name: str) -> Any:
        return partial(self._patiently, getattr(self.kept, name))

    def _patiently(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        while True:
            try:
                return operation(*args, **kwargs)
            except Exception as error:
                if not _is_away(error):
                    raise
                self.away_at = time.time()
                _give_up(self.url, start, error, hurried=self.hurried)
            time.sleep(RETRY_S)


def open_storage(folder: Path, url: str, *, hurried: bool = False) -> Storage:
    """The storage of a study. url: of a database, "" for a journal file in `folder`. hurried: do not wait for it.

    Raises BenchError where it cannot be used, and Away where its database is away.
    """
    start, attempt = time.monotonic(), 0
    while True:
        try:
            return Storage(_opened(folder, url), url)
        except (BenchError, OSError):
            raise
        except Exception as error:  # whatever a database's driver raises; its text may hold the password
            attempt += 1
            if _is_away(error):
                _give_up(url, start, error, hurried=hurried)
            elif attempt == ATTEMPTS:
                raise BenchError(f"study storage {shown(url)}: {type(error).__name__}: it cannot be used") from error
        time.sleep(RETRY_S)


def _opened(folder: Path, url: str) -> Any:
    if not url:
        from optuna.storages.journal import JournalFileBackend

        folder.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    if url.startswith("sqlite:"):
        settings: dict[str, Any] = {"connect_args": {"timeout": 60}}
    elif url.startswith("postgresql"):
        url = url.replace("postgresql:", "postgresql+psycopg:", 1)
        settings = {"connect_args": {"connect_timeout": CONNECT_S}, "pool_events": [(_wait_less, "connect")]}
    else:
        raise BenchError(f"study storage {shown(url)}: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    try:
        return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=settings))
    except ImportError as error:
        raise BenchError(
            f"study storage {shown(url)}: needs a driver: pip install 'synth-health-bench[postgres]'"
        ) from error


def _wait_less(connection: Any, _: Any) -> None:
    """Have a connection to PostgreSQL end where the server does not answer; by itself it would wait for ever."""
    import psycopg

    wait = connection.wait

    def limited(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """A driver's steps; it sends 0 where nothing has come for a while, a tenth of a second."""
        start, ready = time.monotonic(), None
        while True:
            try:
                ready = yield steps.send(ready)
            except StopIteration as done:
                return done.value
            if not ready and time.monotonic() - start > ANSWER_S:
                connection.close()  # so that it is not used again
                raise psycopg.OperationalError("timeout")

    connection.wait = lambda steps, *args, **kwargs: wait(limited(steps), *args, **kwargs)


def _is_away(error: Exception) -> bool:
    """Whether an error says that a database cannot be reached, or does not answer."""
    from sqlalchemy import exc

    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return isinstance(cause, exc.OperationalError | exc.InterfaceError | exc.TimeoutError)


def _give_up(url: str, start: float, error: Exception, *, hurried: bool) -> None:
    """Raise Away where a database has been waited for since `start` (monotonic) for long enough."""
    if not hurried and time.monotonic() - start < PATIENCE_S:
        return
    text = f"{error.__cause__} {error}".lower()  # may hold the password
    why = next((words for words in SAID if words in text), "no answer")
    waited = "" if hurried else f" for {PATIENCE_S:.0f} s"
    raise Away(
        f"study storage {shown(url)}: cannot be reached{waited} ({why}); its trials are kept: run again once it can be"
    ) from error


def shown(url: str) -> str:
    """A URL without the user and the password it may hold.

    >>> shown("postgresql://bench:secret@db.example:5432/studies?password=secret")
    'postgresql://db.example:5432/studies'
    """
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2].partition("?")[0]
