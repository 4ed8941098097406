"""Pictures of one recording: the paper's figure 4, and a page that plays it.

>>> view = View.of("street.wav", Weights.load("rare-events"))
>>> save_figure(view, "street.pdf")
>>> save_page(view, "street.html")
"""

from .figure import FIGURE_SUFFIXES, figure, save_figure
from .page import AUDIO_FORMATS, page, save_page
from .view import View, reference_of

__all__ = [
    "AUDIO_FORMATS",
    "FIGURE_SUFFIXES",
    "View",
    "figure",
    "page",
    "reference_of",
    "save_figure",
    "save_page",
]
