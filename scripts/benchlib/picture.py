"""The picture of the results."""

from benchlib import draw
from benchlib.process import progress


def drawing(path):
    """Returns a function that draws results into `path`, an SVG."""

    def draw_into(results):
        if draw.has_something_to_draw(results):
            path.write_text(draw.svg(results))
        else:
            progress("picture skipped: none of drain, replay and growth was measured")

    return draw_into
