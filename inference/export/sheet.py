"""A4 pages that are filled from the top: headings, pairs, tables, pictures, and a line of small print on each.

The one font is embedded and has Latin, Greek, Cyrillic, Hangul, kana and Han letters, so that every name is readable
wherever the file is opened. The same calls give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from PIL import Image
from reportlab import rl_config
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

FONT = "WenQuanYiMicroHei"
_FONT_FILE = ("paperang_p2_fonts_cjk", "fonts/wqy-microhei.ttc")
_WIDTH, _HEIGHT = A4
rl_config.useA85 = 0  # text around binary streams took half of the time and a quarter more room
_LEFT, _RIGHT = 48.0, _WIDTH - 48.0
_TOP, _BOTTOM = _HEIGHT - 48.0, 56.0
_INK, _SOFT, _RULE = (0.1, 0.12, 0.15), (0.42, 0.45, 0.5), (0.82, 0.84, 0.87)
_NO_GLYPH = "□"
_JPEG_QUALITY = 88


class Sheet:
    """Pages being filled. `small_print` stands at the foot of each, with the page's number."""

    def __init__(self, *, title: str, small_print: str) -> None:
        if FONT not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(FONT, str(files(_FONT_FILE[0]) / _FONT_FILE[1])))
        self._letters = pdfmetrics.getFont(FONT).face.charToGlyph
        self._out = io.BytesIO()
        self._canvas = Canvas(self._out, pagesize=A4, invariant=1)
        self._canvas.setTitle(title)
        self._canvas.setAuthor("Segwire")
        self._small_print = small_print
        self._page = 0
        self._y = 0.0
        self._begin()

    def heading(self, text: str) -> None:
        """A heading with a line below it; never alone at the foot of a page."""
        self.keep(64)
        self._y -= 10
        self._text(_LEFT, text, size=11.5, ink=_INK)
        self._y -= 5
        self._canvas.setStrokeColorRGB(*_RULE)
        self._canvas.line(_LEFT, self._y, _RIGHT, self._y)
        self._y -= 15

    def title(self, text: str, note: str) -> None:
        """The first line of the document, and a note in a frame below it."""
        self._text(_LEFT, text, size=17, ink=_INK)
        self._y -= 20
        self._canvas.setFillColorRGB(0.99, 0.93, 0.9)
        self._canvas.rect(_LEFT, self._y - 9, _RIGHT - _LEFT, 17, stroke=0, fill=1)
        self._y -= 4
        self._text(_LEFT + 6, note, size=9, ink=(0.6, 0.15, 0.1))
        self._y -= 22

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values, two of them a line; a long value takes a line of its own and is broken."""
        column, half = 0, (_RIGHT - _LEFT) / 2
        for name, value in rows:
            lines = self._broken(value, size=9.5, width=half - 96)
            is_long = len(lines) > 1
            if is_long:
                lines = self._broken(value, size=9.5, width=2 * half - 92)
            if column and is_long:
                self._y -= 14
                column = 0
            self.keep(14 * len(lines))
            left = _LEFT + column * half
            self._text(left, name, size=8.5, ink=_SOFT)
            for line in lines:
                self._text(left + 88, line, size=9.5, ink=_INK)
                self._y -= 14 if is_long else 0
            if not is_long:
                self._y -= 14 if column else 0
                column = 1 - column
        self._y -= 14 if column else 0

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, widths: Sequence[float]) -> None:
        """A table; the first column runs from the left, the others to the right. `widths` in shares of the page."""
        edges = [_LEFT + (_RIGHT - _LEFT) * sum(widths[: index + 1]) for index in range(len(widths))]
        for number, cells in enumerate([head, *rows]):
            self.keep(17)
            for index, cell in enumerate(cells):
                size, ink = (8.5, _SOFT) if number == 0 else (9.5, _INK)
                if index == 0:
                    self._text(_LEFT, cell, size=size, ink=ink)
                else:
                    self._text(edges[index] - 4, cell, size=size, ink=ink, is_right=True)
            self._y -= 5
            self._canvas.setStrokeColorRGB(*_RULE)
            self._canvas.line(_LEFT, self._y, _RIGHT, self._y)
            self._y -= 12

    def paragraph(self, text: str) -> None:
        """A sentence or several, broken at the margin."""
        for line in self._broken(text, size=9.5, width=_RIGHT - _LEFT):
            self.keep(13)
            self._text(_LEFT, line, size=9.5, ink=_INK)
            self._y -= 13
        self._y -= 2

    def pictures(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
        """RGB pictures side by side, each as large as three of them may be."""
        gap = 8.0
        width = (_RIGHT - _LEFT - 2 * gap) / 3
        height = max(width * picture.shape[0] / picture.shape[1] for picture in pictures)
        self.keep(height + 8)
        for index, picture in enumerate(pictures):
            packed = io.BytesIO()
            Image.fromarray(picture).save(packed, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            packed.seek(0)
            left = _LEFT + index * (width + gap)
            self._canvas.drawImage(ImageReader(packed), left, self._y - height + 8, width=width, height=height)
        self._y -= height + 6

    def keep(self, height: float) -> None:
        """Begin a page unless so much is left of this one."""
        if self._y - height < _BOTTOM:
            self._end()
            self._begin()

    def done(self) -> bytes:
        """The document."""
        self._end()
        self._canvas.save()
        return self._out.getvalue()

    def _begin(self) -> None:
        self._page += 1
        self._y = _TOP

    def _end(self) -> None:
        self._y = 34.0
        self._canvas.setStrokeColorRGB(*_RULE)
        self._canvas.line(_LEFT, 46, _RIGHT, 46)
        self._text(_LEFT, self._small_print, size=7.5, ink=_SOFT)
        self._text(_RIGHT, str(self._page), size=7.5, ink=_SOFT, is_right=True)
        self._canvas.showPage()

    def _text(
        self, x: float, text: str, *, size: float, ink: tuple[float, float, float], is_right: bool = False
    ) -> None:
        shown = "".join(letter if ord(letter) in self._letters else _NO_GLYPH for letter in text)
        self._canvas.setFillColorRGB(*ink)
        self._canvas.setFont(FONT, size)
        (self._canvas.drawRightString if is_right else self._canvas.drawString)(x, self._y, shown)

    def _broken(self, text: str, *, size: float, width: float) -> list[str]:
        """Lines no wider than `width`, broken between words, and inside of one that is wider by itself."""
        lines, line = [], ""
        for word in _words(text):
            for piece in self._fitting(word, size=size, width=width):
                if line and pdfmetrics.stringWidth(line + piece.rstrip(), FONT, size) > width:
                    lines.append(line.rstrip())
                    line = ""
                line += piece
        return [*lines, line.rstrip()]

    def _fitting(self, word: str, *, size: float, width: float) -> list[str]:
        if pdfmetrics.stringWidth(word.rstrip(), FONT, size) <= width:
            return [word]
        count = max(1, int(width / size))
        return [word[start : start + count] for start in range(0, len(word), count)]


def _words(text: str) -> list[str]:
    return [f"{word} " for word in text.split()] or [""]
