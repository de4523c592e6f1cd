"""The page's chart library is the published one, with its licence."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

VENDOR = Path(__file__).parents[3] / "kryonix" / "signup" / "page" / "vendor"
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""SHA-256 of the files of the npm package uplot 1.6.32: `npm pack uplot@1.6.32`, its dist/ and LICENSE."""


def test_the_chart_library_is_the_published_one_unchanged() -> None:
    assert {file.name: sha256(file.read_bytes()).hexdigest() for file in VENDOR.iterdir()} == UPLOT
    assert "(v1.6.32)" in (VENDOR / "uPlot.iife.min.js").read_text("utf-8")[:80]
