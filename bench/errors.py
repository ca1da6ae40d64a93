"""What the harness says when it cannot go on: one exception, one clear line."""

import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class BenchError(Exception):
    """A fault a user can mend. Its message names what was got, what was expected and what is known.

    Messages hold names, counts and paths, never a value out of a table, so that they may be shown, logged and tracked.
    """


def untold(error: BaseException) -> tuple[str, str]:
    """Class and place of an exception whose message may hold values of a table.

    A class that was made up while running may hold one in its name: the nearest that stands in a module is named.
    """
    known = (c for c in type(error).__mro__ if getattr(sys.modules.get(c.__module__), c.__name__, None) is c)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "unknown place"
    return next(known).__name__, f"raised at {place}"


def unknown(kind: str, got: str, known: Iterable[str]) -> BenchError:
    """The error for a name that is not known, with the nearest one that is.

    >>> print(unknown("suite", "smoek", ["full", "smoke"]))
    unknown suite 'smoek': did you mean 'smoke'? known: full, smoke
    """
    names = sorted(known)
    near = get_close_matches(got, names, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return BenchError(f"unknown {kind} '{got}':{hint} known: {', '.join(names) or 'none'}")
