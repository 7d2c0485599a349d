"""Trials, records, histories and files in; a Figure out, and of that the bytes of a picture.

compose(spec, sweep, trials, records, ...) -> Figure     what is plotted, as plain numbers
draw(figure, "png") -> bytes                             the picture; loads matplotlib
"""

from sweeper.figures.composition import compose
from sweeper.figures.drawing import draw
from sweeper.figures.panels import Cloud, Figure, Line, Panel

__all__ = ["Cloud", "Figure", "Line", "Panel", "compose", "draw"]
