"""A page inside another one: in a notebook, say, whose styles it neither takes nor changes."""

from __future__ import annotations

from markupsafe import escape

__all__ = ["framed"]

_HEIGHT = "36em"


def framed(page: str) -> str:
    """A frame that holds a whole page, as one element. No script runs in it, and it cannot reach what is around it."""
    style = f"width: 100%; height: {_HEIGHT}; border: 1px solid #8884; border-radius: 6px"
    return f'<iframe sandbox srcdoc="{escape(page)}" style="{style}"></iframe>'
