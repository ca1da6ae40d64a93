"""What the harness says when it cannot go on: one exception, one clear line."""

import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

LONGEST = 200  # characters of a message


class BenchError(Exception):
    """A fault a user can mend. Its message names what was got, what was expected and what is known.

    Messages hold names, counts and paths, never a value out of a table, so that they may be shown, logged and tracked.
    """


class Away(BenchError):
    """A server that the work needs cannot be reached: the next run takes up again what this ends."""


def untold(error: BaseException) -> tuple[str, str]:
    """Class and place of an exception whose message may hold values of a table.

    A class that was made up while running may hold one in its name: the nearest that stands in a module is named.
    """
    known = (c for c in type(error).__mro__ if getattr(sys.modules.get(c.__module__), c.__name__, None) is c)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "unknown place"
    return next(known).__name__, f"raised at {place}"


def told(error: Exception, *, shareable: bool, ours: bool) -> tuple[str, str]:
    """What may be said of an exception in a record, a board or a report: its class, and its message in one line.

    A message that is not the harness's own may hold values of the table. It is shown for data whose values may be
    (shareable), and where a generator of ours says that it is not made for something; otherwise the place it was raised
    at is said, and the message stays in the cell's private log.
    """
    from generators.base import Unsupported

    if shareable or isinstance(error, BenchError) or (ours and isinstance(error, Unsupported)):
        blank = "not implemented" if isinstance(error, NotImplementedError) else "no message"
        text = " ".join(str(error).split()) or blank
        return type(error).__name__, text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    name, place = untold(error)
    return name, f"{place}; the message is in the cell's private log"


def unknown(kind: str, got: str, known: Iterable[str]) -> BenchError:
    """The error for a name that is not known, with the nearest one that is.

    >>> print(unknown("suite", "smoek", ["full", "smoke"]))
    unknown suite 'smoek': did you mean 'smoke'? known: full, smoke
    """
    names = sorted(known)
    near = get_close_matches(got, names, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return BenchError(f"unknown {kind} '{got}':{hint} known: {', '.join(names) or 'none'}")
