"""What changed for the worse between two frames of records, and how much worse it had to be to be seen.

A score is the mean over replicates of a (dataset, generator, metric). Its loss, the change for the worse, is tested
one-sided by Student's t, as if replicates of the two sides were independent: where both sides share splits, or even
values, that is cautious. Spreads are moderated by empirical Bayes, the levels of a metric's spreads being those of its
datasets. Holm's method holds the chance of any false alarm in a check to ALPHA.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from tabulate import tabulate

from leaderboards.losses import ALPHA, POWER, weigh
from leaderboards.scores import DIGITS
from metrics import METRICS

MOST = 8  # headline metrics: every further test makes all losses harder to see
SAME = 1e-6  # relative: scores that agree to six significant digits are the same score

ROW = ["dataset", "generator", "metric"]
WORSE = ("regression", "broken", "vanished")
VERDICTS = (*WORSE, "improvement", "mended", "new", "same")
MANY = {"regression": "regressions", "improvement": "improvements"}
NO_SPREAD = "no spread known: any change counts"


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    rows: verdict, dataset, generator, metric, reference, was, now, loss, se, df, t, tolerance, visible, p, reason,
    worst first. p: of the loss, after Holm. tests: how many rows were tested. shared, unchanged: scores of replicates
    that both sides have, and those of them that agree to six significant digits. undefined: rows without a value on
    either side, which are not among `rows`.
    """

    rows: pd.DataFrame
    metrics: tuple[str, ...]
    tests: int
    shared: int
    unchanged: int
    undefined: int

    @property
    def failed(self) -> bool:
        """Whether anything is worse: a loss, a score that is broken, a row that has vanished."""
        return bool(self.rows["verdict"].isin(WORSE).any())

    @property
    def said(self) -> str:
        """How many rows have which verdict, in words."""
        n = self.rows["verdict"].value_counts()
        return ", ".join(f"{n[v]:,} {MANY.get(v, v) if n[v] > 1 else v}" for v in VERDICTS if v in n)

    def markdown(self, all: bool = False) -> str:
        """What changed, for a pull request, and every row folded away. all: every row in the open."""
        changed = self.rows[self.rows["verdict"] != "same"]
        parts = ["**Worse than the reference.**" if self.failed else "Nothing is worse than the reference."]
        parts += [_changes(changed, len(self.metrics))] if len(changed) else []
        moved = self.rows[self.rows["reference"] & self.rows["verdict"].isin(("regression", "improvement"))]
        parts += [
            f"`{name}` moved: a metric, a split or a dataset changed, not a generator."
            for name in sorted(moved["generator"].unique())
        ]
        blank = f" {self.undefined:,} have no value on either side." if self.undefined else ""
        parts.append(
            f"{len(self.rows):,} scores: {self.said}.{blank} {self.unchanged:,} of {self.shared:,} scores of shared "
            "replicates are unchanged."
        )
        parts.append(
            f"A loss beyond its tolerance is a regression; one of the size `visible` is seen with {POWER:.0%} power. "
            f"Where noise is near normal, {ALPHA:.0%} of checks cry in vain (one-sided t of moderated spreads, Holm "
            f"over {self.tests:,} tests; the tolerance is that of Holm's first step)."
        )
        every = _every(self.rows)
        folded = f"<details>\n<summary>All {len(self.rows):,} scores</summary>\n\n{every}\n\n</details>"
        return "\n\n".join([*parts, every if all else folded]) + "\n"

    def junit(self) -> str:
        """The rows as a JUnit report: one suite, a test per row, which fails where it is worse."""
        worse = self.rows["verdict"].isin(WORSE)
        counts = {"tests": str(len(self.rows)), "failures": str(int(worse.sum())), "errors": "0", "skipped": "0"}
        suite = ElementTree.Element("testsuite", {"name": "bench check", **counts, "time": "0"})
        for row, bad in zip(self.rows.to_dict("records"), worse, strict=True):
            where = {"classname": f"{row['dataset']}.{row['generator']}", "name": str(row["metric"]), "time": "0"}
            case = ElementTree.SubElement(suite, "testcase", where)
            if bad:
                said = _printable(_tell(row))
                ElementTree.SubElement(case, "failure", {"type": str(row["verdict"]), "message": said}).text = said
        ElementTree.indent(suite)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def compare(reference: pd.DataFrame, now: pd.DataFrame, metrics: Sequence[str]) -> Comparison:
    """Compare two frames (see leaderboards/__init__.py) by at most eight metrics, given by their full names.

    A row is "regression" or "improvement" where its mean moved; "broken" where a value is lost that the reference has
    in this replicate (or, of a replicate it lacks, has in all others), "mended" where one is found; "vanished" where
    its cells or its metric are no more, "new" the reverse; else "same". Raises ValueError for too many or unknown
    metrics, and where no side has two replicates of anything.
    """
    ups = _directions(metrics)
    keys = [*ROW, "replicate"]
    both = _side(reference, metrics).merge(_side(now, metrics), on=keys, how="outer", suffixes=("_was", "_now"))
    rows, pairs = _rows(both.sort_values(keys, ignore_index=True))
    tested = ((rows["n_was"] > 0) & (rows["n_now"] > 0) & ~rows["lost"]).to_numpy()
    spread, df = _pooled(rows)
    if tested.any() and not (df[tested] > 0).any():
        raise ValueError("one replicate on both sides: there is no spread to judge a change by")
    change = (rows["now"] - rows["was"]).to_numpy()
    loss = np.where(rows["metric"].map(ups), -change, change)
    loss = np.where(_same(rows["was"].to_numpy(), rows["now"].to_numpy()), 0.0, loss) + 0.0  # no -0
    columns = ["loss", "se", "df", "t", "tolerance", "visible", "p", "p_gain"]
    rows[columns] = np.nan
    if tested.any():
        here = rows[tested]
        found = weigh(loss[tested], spread[tested], df[tested], here["n_was"].to_numpy(), here["n_now"].to_numpy(),
                      here["dataset"].to_numpy(), here["metric"].to_numpy())  # fmt: skip
        rows.loc[tested, columns] = found.assign(loss=loss[tested])[columns].to_numpy()
    _judge(rows, tested)
    # without a value on either side there is nothing to compare; a new cell that is not done stays, with its reason
    blank = (rows["n_was"] == 0) & (rows["n_now"] == 0) & ~((rows["verdict"] == "new") & (rows["off"] != ""))
    kept = rows[~blank]
    place = kept["verdict"].map({v: i for i, v in enumerate(VERDICTS)})
    worst = kept["t"].where(kept["verdict"] != "improvement", -kept["t"])
    order = kept.assign(place=place, worst=worst).sort_values(
        ["place", "worst", *ROW], ascending=[True, False] + [True] * 3
    )
    shown = ["verdict", *ROW, "reference", "was", "now", *columns[:-1], "reason"]
    return Comparison(
        rows=order[shown].reset_index(drop=True), metrics=tuple(metrics), tests=int(tested.sum()),
        shared=len(pairs), unchanged=int(pairs.sum()), undefined=int(blank.sum()),
    )  # fmt: skip


# --- rows ---


def _directions(metrics: Sequence[str]) -> dict[str, bool]:
    """Full name -> whether more is better."""
    if not 0 < len(metrics) <= MOST:
        raise ValueError(f"{len(metrics)} metrics, expected 1 to {MOST}: every further one makes losses harder to see")
    for name in metrics:
        base = name.split("/")[0]
        if base not in METRICS:
            near = get_close_matches(base, METRICS, n=1)
            raise ValueError(f"unknown metric '{name}'" + (f": did you mean '{near[0]}'?" if near else ""))
    return {name: METRICS[name.split("/")[0]].up for name in metrics}


def _side(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per (cell, metric): value, why it has none, whether the cell is done, whether the metric was scored."""
    cell = ["dataset", "generator", "replicate"]
    cells = frame.drop_duplicates(cell)[[*cell, "status", "reason", "reference"]]
    scores = frame.loc[frame["metric"].isin(metrics), [*cell, "metric", "value", "undefined"]].assign(scored=True)
    grid = cells.merge(pd.DataFrame({"metric": list(metrics)}), how="cross").merge(
        scores, how="left", on=[*cell, "metric"]
    )
    done, value = grid["status"] == "done", grid["value"].to_numpy(float)
    off = (grid["status"] + ": " + grid["reason"]).str.removesuffix(": ")
    blank = grid["undefined"].where(grid["undefined"].notna() & (grid["undefined"] != ""), "not scored")
    return grid[[*ROW, "replicate"]].assign(
        value=[float(f"{v:.{DIGITS}g}") for v in np.where(done, value, np.nan)],  # as a file of scores holds them
        why=blank.mask(~done, off).mask(done & ~np.isnan(value), ""),
        done=done, scored=grid["scored"].notna(), reference=grid["reference"].astype(bool),
    )  # fmt: skip


def _rows(both: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """One row per (dataset, generator, metric), and which scores of shared replicates agree to six digits."""
    was, now = both["value_was"], both["value_now"]
    there, here = both["done_was"].notna(), both["done_now"].notna()
    true = {c: both[c].eq(True) for c in ("done_was", "done_now", "scored_was", "scored_now")}
    both = both.assign(
        held_was=true["scored_was"] | (there & ~true["done_was"]),  # of a cell that is not done, nothing is known
        held_now=true["scored_now"] | (here & ~true["done_now"]),
        reference=both["reference_was"].eq(True) | both["reference_now"].eq(True),
        size=was.abs().combine(now.abs(), np.fmax),
    )
    key = [both[c] for c in ROW]
    whole = (~there | was.notna()).groupby(key).transform("all")
    lost = here & now.isna() & np.where(there, was.notna(), whole)
    gained = there & was.isna() & now.notna()
    off = here & ~true["done_now"]
    both = both.assign(
        lost=lost, gained=gained, why=both["why_now"].where(lost), off=both["why_now"].where(off),
        why_was=both["why_was"].where(there & was.isna()), cells_now=here,
    )  # fmt: skip
    rows = both.groupby(ROW).agg(
        was=("value_was", "mean"), now=("value_now", "mean"), n_was=("value_was", "count"),
        n_now=("value_now", "count"), v_was=("value_was", "var"), v_now=("value_now", "var"), size=("size", "max"),
        held_was=("held_was", "any"), held_now=("held_now", "any"), cells_now=("cells_now", "any"),
        reference=("reference", "any"), lost=("lost", "any"), gained=("gained", "any"), why=("why", "first"),
        off=("off", "first"), why_was=("why_was", "first"),
    )  # fmt: skip
    reasons = ["why", "off", "why_was"]
    rows[reasons] = rows[reasons].astype(object).where(rows[reasons].notna(), "")
    rows["gone"] = np.where(rows["cells_now"], "its cells no longer have this score", "it has no cell any more")
    shared = (was.notna() & now.notna()).to_numpy()
    return rows.reset_index(), _same(was.to_numpy()[shared], now.to_numpy()[shared])


def _judge(rows: pd.DataFrame, tested: np.ndarray) -> None:
    """Add the verdict of each row, and its reason."""
    rows["verdict"] = np.select(
        [
            (rows["n_was"] > 0) & ~rows["held_now"],
            (rows["n_was"] > 0) & rows["lost"],
            tested & (rows["p"] <= ALPHA),
            tested & (rows["p_gain"] <= ALPHA),
            ~rows["held_was"] & rows["held_now"],
            (rows["n_now"] > 0) & ((rows["n_was"] == 0) | rows["gained"]),
        ],
        ["vanished", "broken", "regression", "improvement", "new", "mended"],
        "same",
    )
    said = {"vanished": rows["gone"], "broken": rows["why"], "mended": rows["why_was"], "new": rows["off"]}
    rows["reason"] = np.where(tested & (rows["se"] == 0) & (rows["loss"] != 0), NO_SPREAD, "")
    for verdict, why in said.items():
        rows["reason"] = rows["reason"].mask(rows["verdict"] == verdict, why)


def _pooled(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Variance of one replicate, pooled over both sides, and its degrees of freedom; what is rounding alone is zero."""
    d_was, d_now = (np.maximum(rows[c].to_numpy() - 1, 0) for c in ("n_was", "n_now"))
    df = d_was + d_now
    squares = d_was * rows["v_was"].fillna(0).to_numpy() + d_now * rows["v_now"].fillna(0).to_numpy()
    spread = squares / np.maximum(df, 1)
    return np.where(np.sqrt(spread) > SAME * rows["size"].fillna(0).to_numpy(), spread, 0.0), df


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b) <= SAME * np.fmax(np.abs(a), np.abs(b))


# --- in words ---


def _changes(changed: pd.DataFrame, most: int) -> str:
    """A table of what changed; rows without a value that share a reason are one line. most: metrics compared."""
    moved = changed["verdict"].isin(("regression", "improvement"))
    keys = ["verdict", "dataset", "generator", "reason"]
    lines = [[r["verdict"], r["dataset"], r["generator"], r["metric"], *_numbers(r), r["reason"]]
             for r in changed[moved].to_dict("records")]  # fmt: skip
    for (verdict, dataset, generator, reason), rows in changed[~moved].groupby(keys, sort=False):
        numbers = _numbers(rows.iloc[0].to_dict()) if len(rows) == 1 else [""] * 5
        named = f"all {most} metrics" if len(rows) == most > 1 else ", ".join(rows["metric"])
        lines.append([verdict, dataset, generator, named, *numbers, reason])
    lines.sort(key=lambda line: VERDICTS.index(line[0]))  # stable: worst first within a verdict
    return _table(lines, ["verdict", *ROW, "was", "now", "loss", "tolerance", "visible", "why"])


def _every(rows: pd.DataFrame) -> str:
    lines = [[*(r[c] for c in ROW), *_numbers(r), r["verdict"]] for r in rows.to_dict("records")]
    return _table(lines, [*ROW, "was", "now", "loss", "tolerance", "visible", "verdict"])


def _table(lines: list[list[str]], heads: list[str]) -> str:
    safe = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    return tabulate(safe, heads, tablefmt="github", disable_numparse=True)


def _numbers(row: dict) -> list[str]:
    """was, now, loss, tolerance and visible of a row, to four significant digits."""
    shown = {"was": ".4g", "now": ".4g", "loss": "+.4g", "tolerance": ".4g", "visible": ".4g"}
    return ["–" if pd.isna(row[c]) else format(row[c] + 0.0, how) for c, how in shown.items()]


def _tell(row: dict) -> str:
    """One line on a row that is worse."""
    if row["verdict"] != "regression":
        return f"{row['verdict']}: {row['reason']}"
    was, now, loss, tolerance, visible = _numbers(row)
    why = f" ({row['reason']})" if row["reason"] else ""
    return f"was {was}, now {now}: loss {loss}, tolerance {tolerance}, smallest visible loss {visible}{why}"


def _printable(text: str) -> str:
    """Text without the control characters that XML forbids."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
