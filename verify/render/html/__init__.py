"""One self-contained page for people: a report, a circuit or a model, with pictures, in light and dark, printable."""

from verify.render.html.frame import framed
from verify.render.html.page import circuit_page, model_page, report_page

__all__ = ["circuit_page", "framed", "model_page", "report_page"]
