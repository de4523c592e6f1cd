"""An evaluation as a picture: missed deadlines by load and way, with their intervals."""

from __future__ import annotations

from html import escape
from typing import Final

from kryonix.training.evaluation import ActionEvaluation, Evaluation

_COLOURS: Final = {
    "fifo": "#9aa0a6",
    "rules": "#5f6368",
    "table": "#c58a1b",
    "model": "#1a73e8",
    "shuffled": "#d93025",
    "oracle": "#188038",
}
_BAR, _GAP, _HEIGHT, _LEFT, _TOP = 22, 34, 180, 60, 60
_GROUP: Final = _BAR * len(_COLOURS) + _GAP


def draw(evaluation: Evaluation) -> str:
    """Return the picture as SVG, one chart for each action."""
    charts = [_chart(each, number) for number, each in enumerate(evaluation.actions)]
    width = _LEFT + 3 * _GROUP + 20
    height = len(charts) * (_HEIGHT + _TOP + 60)
    legend = "".join(
        f'<rect x="{_LEFT + number * 85}" y="8" width="12" height="12" fill="{colour}"/>'
        f'<text x="{_LEFT + number * 85 + 16}" y="18">{name}</text>'
        for number, (name, colour) in enumerate(_COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 30}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>Missed deadlines by load, model {evaluation.version}</title>'
        f'<rect width="100%" height="100%" fill="white"/>{legend}{"".join(charts)}</svg>\n'
    )


def _chart(action: ActionEvaluation, number: int) -> str:
    top = _TOP + number * (_HEIGHT + _TOP + 60)
    bottom = top + _HEIGHT
    most = max(figure.high for load in action.loads for figure in load.ways.values()) or 0.001
    parts = [
        f'<text x="{_LEFT}" y="{top - 14}" font-weight="bold">{escape(action.action)}: missed deadlines, '
        f"{action.messages:,} messages</text>",
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{_LEFT + 3 * _GROUP}" y2="{bottom}" stroke="#333"/>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _HEIGHT
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{share * most:.1%}</text>')
    for group, load in enumerate(action.loads):
        left = _LEFT + 10 + group * _GROUP
        parts.append(f'<text x="{left}" y="{bottom + 18}">load {load.load:g}</text>')
        for place, (name, colour) in enumerate(_COLOURS.items()):
            figure, x = load.ways[name], left + place * _BAR
            height, low, high = (value / most * _HEIGHT for value in (figure.missed, figure.low, figure.high))
            middle = x + (_BAR - 4) / 2
            parts.append(
                f'<rect x="{x}" y="{bottom - height:.1f}" width="{_BAR - 4}" height="{height:.1f}" fill="{colour}">'
                f"<title>{name}: {figure.missed:.2%}</title></rect>"
                f'<line x1="{middle}" y1="{bottom - low:.1f}" x2="{middle}" y2="{bottom - high:.1f}" stroke="#000"/>'
            )
    return "".join(parts)
