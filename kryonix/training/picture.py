"""An evaluation as a picture: missed deadlines by load and way, with their intervals."""

from __future__ import annotations

from html import escape
from typing import Final

from kryonix.training.evaluation import ActionEvaluation, Evaluation, LoadFigures

_COLOURS: Final = {
    "fifo": "#9aa0a6",
    "rules": "#5f6368",
    "table": "#c58a1b",
    "model": "#1a73e8",
    "shuffled": "#d93025",
    "oracle": "#188038",
}
_STEP, _BAR, _GAP, _HEIGHT, _LEFT = 36, 28, 34, 180, 20
_HEAD, _FOOT = 70, 40
_PANEL: Final = _STEP * len(_COLOURS)
_NOTE: Final = "% of the messages, with 95 % intervals. Each load has a scale of its own."


def draw(evaluation: Evaluation) -> str:
    """Return the picture as SVG, one chart for each action."""
    charts = [_chart(each, 30 + number * (_HEAD + _HEIGHT + _FOOT)) for number, each in enumerate(evaluation.actions)]
    loads = max(len(each.loads) for each in evaluation.actions)
    width = 2 * _LEFT + loads * (_PANEL + _GAP) - _GAP
    height = 30 + len(charts) * (_HEAD + _HEIGHT + _FOOT)
    legend = "".join(
        f'<rect x="{_LEFT + number * 85}" y="8" width="12" height="12" fill="{colour}"/>'
        f'<text x="{_LEFT + number * 85 + 16}" y="18">{name}</text>'
        for number, (name, colour) in enumerate(_COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>Missed deadlines by load, model {evaluation.version}</title>'
        f'<rect width="100%" height="100%" fill="white"/>{legend}{"".join(charts)}</svg>\n'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share < 0.1 else f"{100 * share:.1f}"


def _chart(action: ActionEvaluation, top: int) -> str:
    head = (
        f'<text x="{_LEFT}" y="{top + 20}" font-weight="bold">{escape(action.action)}: missed deadlines, '
        f"{action.replayed:,} messages</text>"
        f'<text x="{_LEFT}" y="{top + 38}" fill="#5f6368">{_NOTE}</text>'
    )
    bottom = top + _HEAD + _HEIGHT
    panels = (_panel(load, _LEFT + place * (_PANEL + _GAP), bottom) for place, load in enumerate(action.loads))
    return head + "".join(panels)


def _panel(load: LoadFigures, left: int, bottom: int) -> str:
    """Return the bars of one load. On one scale for all, those of a lower load could not be told apart."""
    most = max(figure.high for figure in load.ways.values()) or 0.001
    parts = [
        f'<line x1="{left}" y1="{bottom}" x2="{left + _PANEL}" y2="{bottom}" stroke="#333"/>'
        f'<text x="{left + _PANEL // 2}" y="{bottom + 20}" text-anchor="middle">load {load.load:g}</text>'
    ]
    for place, (name, colour) in enumerate(_COLOURS.items()):
        figure, x = load.ways[name], left + place * _STEP + (_STEP - _BAR) // 2
        height, low, high = (value / most * _HEIGHT for value in (figure.missed, figure.low, figure.high))
        middle = x + _BAR // 2
        parts.append(
            f'<rect x="{x}" y="{bottom - height:.1f}" width="{_BAR}" height="{height:.1f}" fill="{colour}">'
            f"<title>{name}: {figure.missed:.2%}</title></rect>"
            f'<line x1="{middle}" y1="{bottom - low:.1f}" x2="{middle}" y2="{bottom - high:.1f}" stroke="#000"/>'
            f'<text x="{middle}" y="{bottom - high - 5:.1f}" text-anchor="middle" font-size="11">'
            f"{_percent(figure.missed)}</text>"
        )
    return "".join(parts)
