"""Drawings from matplotlib, for the page and for files.

Drawings in the page use CSS variables as colours, so that they follow its theme.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from raybench.report.document import Figure
from raybench.report.figures.style import INK, MUTED, PAPER, RULE, SERIES, WIDTH_IN
from raybench.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

VARIABLES: dict[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    **{colour: f"--s{k}" for k, colour in enumerate(SERIES, 1)},
}
"""CSS variable of the page for each colour."""
_PX_PER_IN = 96
_PNG_DPI = 2 * _PX_PER_IN


def finish(figure: Canvas, name: str, title: str, caption: str) -> Figure:
    """Return the drawing as an element of the page, as SVG and as PNG."""
    text, image = io.StringIO(), io.BytesIO()
    figure.dpi = _PNG_DPI  # at a lower resolution letters are hinted narrower than they will be
    with mpl.rc_context({"svg.hashsalt": name}):
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
        figure.set_layout_engine("none")
        # straight from the canvas: savefig would draw everything twice to find its size
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
        figure.dpi = _PNG_DPI  # writing SVG changed it
        FigureCanvasAgg(figure).print_png(image, metadata={"Software": None})  # type: ignore[no-untyped-call]
    legal = "\n".join(map(printable, text.getvalue().split("\n")))  # no control characters
    svg = _slim(legal)
    return Figure(
        name=name,
        title=title,
        caption=caption,
        inline=_inline(svg, name),
        svg=svg,
        png=image.getvalue(),
        width_px=round(WIDTH_IN * _PX_PER_IN),
    )


_TAG = re.compile(r"<[^>]*>")
_DECIMAL = re.compile(r"-?\d+\.\d+")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_ID = re.compile(r'(?<= id=")([^"]+)(?=")|(?<=href="#)([^"]+)(?=")|(?<=url\(#)([^)]+)(?=\))')
_FONT = re.compile(r"'DejaVu Sans'(?:, [^;\"]+)?")


def _slim(svg: str) -> str:
    """Remove metadata, unused ids and more than two decimals."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = _TAG.sub(lambda tag: _NUMBER.sub(_rounded, tag[0]), svg)  # tags only, never labels
    svg = re.sub(r'(?<= d=")[^"]+', _tight, svg)
    return re.sub(r"\n\s*", "\n", svg)


def _tight(path: re.Match[str]) -> str:
    """Round a path to a tenth of a point, which is invisible on screen and paper."""
    whole = _DECIMAL.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), path[0])
    return re.sub(r"\s*([A-Z])\s*", r"\1", whole).strip()


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _inline(svg: str, name: str) -> str:
    """Convert to an element of the page: unique ids, colours of the theme, font of the page."""
    svg = svg[svg.index("<svg") :]
    svg = _ID.sub(lambda m: f"{name}-{m[0]}", svg)
    for value, variable in VARIABLES.items():
        svg = svg.replace(value, f"var({variable})")
    svg = _FONT.sub("var(--sans)", svg)
    box = re.search(r'viewBox="[^"]+"', svg)
    head = f'<svg {box[0] if box else ""} role="img" aria-labelledby="{name}-title">'
    return re.sub(r"^<svg[^>]*>", head, svg, count=1).replace("\n", " ").strip()
