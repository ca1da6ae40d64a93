"""Parts of Plotly figures that look alike: colours, lines, axes, layouts, panels.

Colours are Okabe and Ito's; dashes and markers differ too, so that nothing rests on colour alone.
"""

from collections.abc import Sequence
from typing import Any

from leaderboards.pictures import GREEN, ORANGE, PURPLE, SKY, VERMILLION

INK = "#222222"
COLOURS = (VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "triangle-up", "square", "diamond", "cross", "x")
HEIGHT = 430
ACROSS = 4  # panels in a row


def error(middle: float, ends: Sequence[float | None]) -> dict[str, Any]:
    low, high = ends
    if low is None or high is None:
        return {"visible": False}
    return {"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low],
            "color": "#B0B0B0", "thickness": 1, "width": 3}  # fmt: skip


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def symbol(i: int) -> str:
    return SYMBOLS[(i + i // len(COLOURS)) % len(SYMBOLS)]


def dash(i: int, first: int = 0) -> str:
    """first: where to begin, so that a line over the solid one of holdout is not solid."""
    return DASHES[first + (i + i // len(COLOURS)) % (len(DASHES) - first)]


def line(name: str, x: Any, y: Any, *, colour: str, dash: str, meta: str) -> dict[str, Any]:
    line = {"color": colour, "dash": dash, "width": 2}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, "meta": meta}


def axis(title: str, *, log: bool = False, span: Sequence[float] | None = None) -> dict[str, Any]:
    axis = {"title": {"text": title}, "zeroline": False, "gridcolor": "#E4E4E4", "linecolor": "#999999",
            "automargin": True}  # fmt: skip
    return axis | ({"type": "log", "dtick": 1} if log else {}) | ({"range": list(span)} if span else {})


def layout(*, height: int = HEIGHT, **axes: Any) -> dict[str, Any]:
    return {"height": height, "margin": {"l": 60, "r": 20, "t": 20, "b": 50}, "paper_bgcolor": "white",
            "plot_bgcolor": "white", "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
            "legend": {"orientation": "h", "y": -0.22}, **axes}  # fmt: skip


def place(k: int) -> dict[str, str]:
    return {"xaxis": f"x{k + 1}" if k else "x", "yaxis": f"y{k + 1}" if k else "y"}


def grid(titles: Sequence[str], across: int = ACROSS) -> dict[str, Any]:
    """The layout of panels in rows, each with its title above."""
    columns = min(across, len(titles))
    down = -(-len(titles) // columns)
    made = layout(height=134 + 190 * down if across == ACROSS else HEIGHT)
    made["grid"] = {"rows": down, "columns": columns, "pattern": "independent", "ygap": 0.35, "xgap": 0.18}
    made["margin"]["t"] = 64
    made["barmode"] = "group"
    made["coloraxis"] = {"colorscale": "Cividis", "colorbar": {"title": {"text": "share"}}}
    made["legend"] = {"orientation": "h", "y": -0.12 if down > 1 else -0.25}
    made["annotations"] = []
    for k, title in enumerate(titles):
        x, y = place(k).values()
        made[f"xaxis{k + 1 if k else ''}"] = axis("")
        made[f"yaxis{k + 1 if k else ''}"] = {**axis(""), "rangemode": "normal"}
        made["annotations"].append({"text": f"<b>{short(title)}</b>", "xref": f"{x} domain", "yref": f"{y} domain",
                                      "x": 0.5, "y": 1.02, "yanchor": "bottom", "showarrow": False,
                                      "font": {"size": 11}})  # fmt: skip
    return made


def short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
