"""The figures of a dataset on a report's page, as Plotly specifications, and the same numbers as tables.

Input are views (bench/views.py), one per generator: aggregates, never rows. A trace belongs to a generator (its `meta`)
or to all; the page shows those of the generator that is picked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isnan, log10
from typing import Any

from leaderboards import plots
from leaderboards.pictures import BLUE, GREY
from leaderboards.rank import CEILING
from leaderboards.standing import Standing

View = Mapping[str, Any]
Views = Mapping[str, View]  # by generator
ALL = ""  # the `meta` of a trace that is always shown
REAL = "holdout"
DIVERGING = [[0.0, "#2166AC"], [0.5, "#F7F7F7"], [1.0, "#B2182B"]]
FEWEST_CODES = 3  # that are worth a figure
TABLED = 15  # rows of a table of columns


@dataclass(frozen=True)
class Figure:
    """One figure. single: only one generator can be shown at a time. heads, rows: its numbers as a table."""

    name: str
    title: str
    about: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    single: bool = False
    config: Mapping[str, Any] = field(default_factory=lambda: {"responsive": True, "displaylogo": False})


def of_dataset(views: Views) -> list[Figure]:
    """The figures that a dataset's views can fill."""
    makers: tuple[Callable[[Views], Figure | None], ...] = (
        prevalence, marginals, series, correlation, embedding, precision_recall, roc, training,
    )  # fmt: skip
    return [made for made in (make(views) for make in makers) if made is not None]


def prevalence(views: Views) -> Figure | None:
    """How common each code is in synth against holdout, both axes logarithmic."""
    have = {name: v for name, v in _having(views, "prevalence").items() if len(v["names"]) >= FEWEST_CODES}
    if not have:
        return None
    first = next(iter(have.values()))
    known = [p for v in have.values() for side in (REAL, "synth") for p in v[side] if p]
    ends = [min(known) / 1.5, min(max(known) * 1.5, 1.2)] if known else [0.01, 1]
    data: list[dict[str, Any]] = [plots.line("equal", ends, ends, colour=GREY, dash="dash", meta=ALL)]
    for i, (name, v) in _numbered(views, have):
        marker = {"color": plots.colour(i), "symbol": plots.symbol(i), "size": 7, "opacity": 0.7}
        data.append({"type": "scatter", "mode": "markers", "name": name, "meta": name, "marker": marker, "x": v[REAL],
                     "y": [p or None for p in v["synth"]], "text": v["names"],
                     "hovertemplate": "%{text}<br>holdout %{x:.3%}<br>synth %{y:.3%}"})  # fmt: skip
    across, up = plots.axis("share of holdout's subjects", log=True), plots.axis("share of synth's", log=True)
    rows = [
        [code, _percent(first[REAL][k]), *(_percent(v["synth"][k]) for v in have.values())]
        for k, code in enumerate(first["names"][:TABLED])
    ]
    about = "Every point is a code; on the dashed line it is as common in synth as in holdout."
    if first["left_out"]:
        about += f" {first['left_out']} codes of too few subjects are left out."
    return Figure(
        "prevalence",
        "Prevalence of codes",
        about,
        data,
        plots.layout(xaxis=across, yaxis=up),
        ["code", REAL, *have],
        rows,
    )


def marginals(views: Views) -> Figure | None:
    """Each column's distribution in synth over that in holdout, a panel each."""
    have = _having(views, "marginals")
    if not have:
        return None
    first = next(iter(have.values()))
    data = []
    for k, column in enumerate(first):
        place = plots.place(k)
        numbers = column["kind"] == "number"
        one = {"type": "scatter", "mode": "lines", "line": {"shape": "hvh", "color": BLUE, "width": 2.5}}
        bar = {"type": "bar", "marker": {"color": BLUE}, "opacity": 0.75}
        shape = one if numbers else bar
        data.append({**shape, "name": REAL, "legendgroup": REAL, "showlegend": k == 0, "meta": ALL,
                     "x": column["at"], "y": column[REAL], **place})  # fmt: skip
        for i, (name, v) in _numbered(views, have):
            line = {"shape": "hvh", "color": plots.colour(i), "dash": plots.dash(i, first=1), "width": 2}
            shape = {**one, "line": line} if numbers else {**bar, "marker": {"color": plots.colour(i)}}
            data.append({**shape, "name": name, "legendgroup": name, "showlegend": k == 0, "meta": name,
                         "x": v[k]["at"], "y": v[k]["synth"], **place})  # fmt: skip
    rows = []
    for k, column in enumerate(first):
        shares = [share or 0.0 for share in column[REAL]]
        top = shares.index(max(shares))
        where = f"{column['at'][top]:.3g}" if column["kind"] == "number" else str(column["at"][top])
        found = (_percent(v[k]["synth"][top]) for v in have.values())
        rows.append([column["name"], f"around {where}", _percent(column[REAL][top]), *found])
    about = "Shares of subjects (or of steps) by bin or level. The table has the most common bin of each column."
    heads = ["column", "where", REAL, *have]
    return Figure("marginals", "Columns one by one", about, data, plots.grid([c["name"] for c in first]), heads, rows)


def series(views: Views) -> Figure | None:
    """Mean and one standard deviation of each channel by step, and a few drawn series."""
    have = _having(views, "series")
    if not have:
        return None
    first = next(iter(have.values()))
    data = []
    for k, channel in enumerate(first):
        data += _band(channel["time"], channel[REAL], REAL, BLUE, "solid", ALL, k)
        for i, (name, v) in _numbered(views, have):
            data += _band(v[k]["time"], v[k]["synth"], name, plots.colour(i), plots.dash(i, first=1), name, k)
            for drawn in v[k].get("drawn", ()):
                line = {"color": plots.colour(i), "width": 0.7}
                data.append({"type": "scatter", "mode": "lines", "x": v[k]["time"], "y": drawn, "name": f"{name}, one",
                             "legendgroup": name, "showlegend": False, "opacity": 0.6, "line": line, "meta": name,
                             "hoverinfo": "skip", **plots.place(k)})  # fmt: skip
    rows = []
    for k, channel in enumerate(first):
        for step in dict.fromkeys((0, len(channel["time"]) // 2, len(channel["time"]) - 1)):
            found = [channel[REAL], *(v[k]["synth"] for v in have.values())]
            rows.append([f"{channel['name']}, step {channel['time'][step]}", *(_at(f["mean"], step) for f in found)])
    about = "Thick: the mean over subjects; thin dashes: one standard deviation to either side."
    if any("drawn" in c for c in first):
        about += " Hair lines: single drawn series. Single series of real people are never shown."
    heads = ["mean of", REAL, *have]
    return Figure("series", "Channels over time", about, data, plots.grid([c["name"] for c in first]), heads, rows)


def correlation(views: Views) -> Figure | None:
    """Correlations between columns in synth less those in holdout, as a map."""
    have = _having(views, "correlation")
    if not have:
        return None
    data, rows = [], []
    for name, v in have.items():
        data.append({"type": "heatmap", "name": name, "meta": name, "x": v["names"], "y": v["names"],
                     "z": v["difference"], "zmid": 0, "zmin": -0.5, "zmax": 0.5, "colorscale": DIVERGING,
                     "colorbar": {"title": {"text": "difference"}},
                     "hovertemplate": "%{y} and %{x}<br>%{z:+.3f}<extra></extra>"})  # fmt: skip
        pairs = [
            (abs(z), a, b, z)
            for i, a in enumerate(v["names"])
            for b, z in zip(v["names"][:i], v["difference"][i][:i], strict=True)
            if z is not None
        ]
        if not pairs:
            rows.append([name, "", "no pair is known together", ""])
            continue
        worst = max(pairs)
        mean = sum(p[0] for p in pairs) / len(pairs)
        rows.append([name, f"{mean:.3f}", f"{worst[1]} and {worst[2]}", f"{worst[3]:+.3f}"])
    about = "Pearson correlation in synth less that in holdout: white is right; red is too high, blue too low."
    layout = plots.layout(
        xaxis={**plots.axis(""), "tickangle": -60}, yaxis={**plots.axis(""), "autorange": "reversed"}, height=560
    )
    heads = ["generator", "mean difference", "largest at", "there"]
    return Figure("correlation", "Pairs of columns", about, data, layout, heads, rows, single=True)


def embedding(views: Views) -> Figure | None:
    """Holdout and synth on two principal components of train: points, or shares in cells."""
    have = _having(views, "embedding")
    if not have:
        return None
    first = next(iter(have.values()))
    points = "points" in first
    data: list[dict[str, Any]] = []
    if points:
        data.append(_points(first["points"][REAL], REAL, BLUE, "circle-open", ALL))
        data += [
            _points(v["points"]["synth"], n, plots.colour(i), plots.symbol(i), n)
            for i, (n, v) in _numbered(views, have)
        ]
        layout = plots.layout(xaxis=plots.axis(first["axes"][0]), yaxis=plots.axis(first["axes"][1]), height=520)
        about = f"Up to {len(first['points'][REAL])} subjects of each, on what varies most in train."
    else:
        data.append(_cells(first, REAL, REAL, ALL, 0))
        data += [_cells(v, "synth", n, n, 1) for n, v in have.items()]
        layout = plots.grid([REAL, "synth"], across=2)
        about = "Shares of subjects by cell; cells of fewer than ten subjects are left blank."
    rows = []
    for name, found in [(REAL, first["moments"][REAL]), *((n, v["moments"]["synth"]) for n, v in have.items())]:
        rows.append([name, *(f"{m:.2f} ± {s:.2f}" for m, s in zip(found["mean"], found["sd"], strict=True))])
    heads = ["", "component 1: mean ± sd", "component 2: mean ± sd"]
    return Figure("embedding", "All columns on two", about, data, layout, heads, rows, single=not points)


def precision_recall(views: Views) -> Figure | None:
    """Precision by recall of XGBoost fitted on train, and on train with drawn positives until balance."""
    have = _having(views, "precision_recall")
    if not have:
        return None
    first = next(iter(have.values()))
    at = first["recall"]
    data = [
        plots.line("train alone", at, first["train"], colour=BLUE, dash="solid", meta=ALL),
        plots.line("chance", [0, 1], [first["prevalence"]] * 2, colour=GREY, dash="dash", meta=ALL),
    ]
    data += [
        plots.line(n, at, v["added"], colour=plots.colour(i), dash=plots.dash(i, first=1), meta=_owner(n))
        for i, (n, v) in _numbered(views, have)
    ]
    layout = plots.layout(xaxis=plots.axis("recall", span=[0, 1]), yaxis=plots.axis("precision", span=[0, 1.02]))
    rows = [["train alone", *_picked(at, first["train"], (0.25, 0.5, 0.75))]]
    rows += [[n, *_picked(at, v["added"], (0.25, 0.5, 0.75))] for n, v in have.items()]
    heads = ["positives added by", *(f"precision at recall {r}" for r in (0.25, 0.5, 0.75))]
    about = (
        "XGBoost on holdout, fitted on train and on train with drawn positives until balance. `copycat` repeats "
        "train's own: a control that needs no generator."
    )
    return Figure("precision-recall", "Do drawn positives help?", about, data, layout, heads, rows)


def roc(views: Views) -> Figure | None:
    """Both membership attacks against chance."""
    have = _having(views, "roc")
    if not have:
        return None
    first = next(iter(have.values()))
    at = first["fpr"]
    edge = {"width": 0, "color": GREY}
    band = {"type": "scatter", "mode": "lines", "x": at, "line": edge, "meta": ALL, "hoverinfo": "skip"}
    data: list[dict[str, Any]] = [
        {**band, "y": first["low"], "showlegend": False, "name": "low"},
        {**band, "y": first["high"], "fill": "tonexty", "fillcolor": "rgba(140,140,140,0.3)", "name": "chance, 95 %"},
    ]
    for i, (name, v) in _numbered(views, have):
        look = {"colour": plots.INK if name == CEILING else plots.colour(i), "meta": _owner(name)}
        data.append(plots.line(f"{name}, distance", at, v["distance"], dash="solid", **look))
        data.append(plots.line(f"{name}, density", at, v["density"], dash="dot", **look))
    alarms, hits = plots.axis("others taken for members", span=[0, 1]), plots.axis("members found", span=[0, 1.02])
    wanted = (0.05, 0.1, 0.5)
    rows = [
        [f"{name}, {attack}", *_picked(at, v[attack], wanted)]
        for name, v in have.items()
        for attack in ("distance", "density")
    ]
    rows.append(["chance, highest of 95 %", *_picked(at, first["high"], wanted)])
    heads = ["attack on", *(f"found at {100 * r:.0f} % false alarms" for r in wanted)]
    about = "Who was in train? Inside the grey band an attack does no better than chance; `copycat` is the alarm."
    return Figure("roc", "Membership attacks", about, data, plots.layout(xaxis=alarms, yaxis=hits), heads, rows)


def training(views: Views) -> Figure | None:
    """What each fit logged, step by step."""
    have = _having(views, "training")
    if not have:
        return None
    data, rows = [], []
    for i, (name, v) in _numbered(views, have):
        for j, (what, (steps, values)) in enumerate(v.items()):
            data.append(
                plots.line(f"{name}, {what}", steps, values, colour=plots.colour(i + j), dash=plots.dash(j), meta=name)
            )
            rows.append([name, what, _at(values, 0), _at(values, -1), f"{steps[-1]:,.0f}"])
    layout = plots.layout(xaxis=plots.axis("step"), yaxis=plots.axis("as logged"))
    heads = ["generator", "what", "first", "last", "at step"]
    about = "What the generators themselves log; their losses are not comparable."
    return Figure("training", "Training", about, data, layout, heads, rows, single=True)


def pareto(points: Mapping[str, Mapping[str, Any]], across: str, up: str) -> Figure:
    """Generators by two families, with their intervals; markers grow with what a cell costs.

    points: generator -> the families as (mean, low, high), "cost_s" (None where unknown), "reference"; "front" and
    "front_cost", whether no other generator dominates it over the families, and over utility, privacy and cost.
    """
    have = {name: p for name, p in points.items() if p[across][0] is not None and p[up][0] is not None}
    data = [_marker(name, i, p, across, up) for i, (name, p) in enumerate(points.items()) if name in have]
    rows = []
    for name, p in have.items():
        cost = "–" if p["cost_s"] is None else f"{p['cost_s']:.3g}"
        on = ["reference", ""] if p["reference"] else ["yes" if p[k] else "no" for k in ("front", "front_cost")]
        rows.append([name, f"{p[across][0]:.2f}", f"{p[up][0]:.2f}", cost, *on])
    heads = ["generator", f"{across} ↑", f"{up} ↑", "fit and draw 1,000, s ↓", "on the front of the three families",
             "on the front of utility, privacy and cost"]  # fmt: skip
    about = (
        "Up and to the right is better; bars are 95 % intervals; a larger marker costs more time; a black rim: no "
        "other generator is at least as good in all three families and better in one. Grey crosses are references."
    )
    layout = plots.layout(xaxis=plots.axis(f"{across} ↑"), yaxis=plots.axis(f"{up} ↑"), height=500)
    layout["legend"] = {"orientation": "v", "itemsizing": "constant"}
    return Figure(f"pareto-{across}-{up}", f"{up.capitalize()} against {across}", about, data, layout, heads, rows)


def duels(standings: Sequence[Standing]) -> list[Figure]:
    """How often each generator beats each other, by family, as a map; none where there are fewer than two."""
    out = []
    for standing in standings:
        if len(standing.generators) < 2 or not standing.datasets:
            continue
        rates = standing.win_rates
        z = [[None if isnan(x) else round(float(x), 4) for x in row] for row in rates.to_numpy()]
        names = list(rates)
        data = {"type": "heatmap", "x": names, "y": names, "z": z, "zmin": 0, "zmid": 0.5, "zmax": 1, "meta": ALL,
                "colorscale": DIVERGING, "colorbar": {"title": {"text": "share won"}},
                "hovertemplate": "%{y} beats %{x}: %{z:.0%}<extra></extra>"}  # fmt: skip
        axis = {**plots.axis(""), "tickangle": -45}
        layout = plots.layout(xaxis=axis, yaxis={**plots.axis(""), "autorange": "reversed"})
        rows = [[name, *("" if x is None else f"{x:.0%}" for x in row)] for name, row in zip(names, z, strict=True)]
        about = "Share of replicates in which the row beats the column, a mean over datasets that count equally."
        title = f"{standing.family.capitalize()}: who beats whom"
        out.append(Figure(f"duels-{standing.family}", title, about, [data], layout, ["beats", *names], rows))
    return out


# --- parts ---


def _marker(name: str, i: int, p: Mapping[str, Any], across: str, up: str) -> dict[str, Any]:
    """A generator's trace in `pareto`; i: its place, for its colour."""
    (x, *xs), (y, *ys) = p[across], p[up]
    size = 8 if p["cost_s"] is None else 8 + 5 * max(0.0, log10(max(p["cost_s"], 1e-2)) + 1)
    hover = f"{name}<br>{across} %{{x:.2f}}, {up} %{{y:.2f}}"
    hover += "" if p["cost_s"] is None else f"<br>{p['cost_s']:.3g} s to fit and draw 1,000"
    bars = {"error_x": plots.error(x, xs), "error_y": plots.error(y, ys)}
    trace = {"type": "scatter", "name": name, "meta": ALL, "x": [x], "y": [y], **bars}
    trace["hovertemplate"] = f"{hover}<extra></extra>"
    if p["reference"]:
        marker = {"color": GREY, "symbol": "x", "size": 9}
        return {**trace, "mode": "markers+text", "text": [name], "textposition": "top center", "marker": marker,
                "showlegend": False}  # fmt: skip
    rim = {"width": 2 if p["front"] else 0, "color": plots.INK}
    marker = {"color": plots.colour(i), "symbol": plots.symbol(i), "size": size, "opacity": 0.85, "line": rim}
    return {**trace, "mode": "markers", "marker": marker}


def _having(views: Views, what: str) -> dict[str, Any]:
    return {name: v[what] for name, v in views.items() if v.get(what)}


def _owner(name: str) -> str:
    """The `meta` of a curve: copycat's, which others are read by, are always shown."""
    return ALL if name == CEILING else name


def _numbered(views: Views, have: Mapping[str, Any]) -> Iterator[tuple[int, tuple[str, Any]]]:
    """A generator's place among all views, so that it has the same colour in every figure; its name, its part."""
    return ((i, (name, have[name])) for i, name in enumerate(views) if name in have)


def _points(xy: Any, name: str, colour: str, symbol: str, meta: str) -> dict[str, Any]:
    marker = {"color": colour, "symbol": symbol, "size": 6, "opacity": 0.6}
    return {"type": "scatter", "mode": "markers", "name": name, "x": [p[0] for p in xy], "y": [p[1] for p in xy],
            "marker": marker, "meta": meta, "hoverinfo": "name"}  # fmt: skip


def _cells(v: View, side: str, name: str, meta: str, k: int) -> dict[str, Any]:
    across, up = ([(a + b) / 2 for a, b in pairwise(e)] for e in v["edges"])
    z = [list(row) for row in zip(*v["cells"][side], strict=True)]
    return {"type": "heatmap", "name": name, "x": across, "y": up, "z": z, "colorscale": "Cividis", "meta": meta,
            "showscale": k == 0, "coloraxis": "coloraxis", **plots.place(k)}  # fmt: skip


def _band(time: Any, found: View, name: str, colour: str, dash: str, meta: str, k: int) -> list[dict[str, Any]]:
    middle = {**plots.line(name, time, found["mean"], colour=colour, dash=dash, meta=meta), "legendgroup": name}
    out = [{**middle, "showlegend": k == 0, **plots.place(k)}]
    for sign in (-1, 1):
        edge = [
            None if m is None or s is None else round(m + sign * s, 6)
            for m, s in zip(found["mean"], found["sd"], strict=True)
        ]
        line = {"color": colour, "dash": "dot", "width": 1}
        out.append({**middle, "y": edge, "line": line, "showlegend": False, "hoverinfo": "skip", **plots.place(k)})
    return out


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def _at(values: Sequence[float | None], i: int) -> str:
    value = values[i]
    return "–" if value is None else f"{value:.3g}"


def _picked(at: Sequence[float], values: Sequence[float], wanted: Sequence[float]) -> list[str]:
    near = (sorted(range(len(at)), key=[abs(a - w) for a in at].__getitem__)[0] for w in wanted)
    return [f"{values[i]:.3f}" for i in near]
