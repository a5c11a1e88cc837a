"""One HTML page with all tables and figures of a suite: a single file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from verify.bench.tables import Table

__all__ = ["page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 12.5px; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #222; } .note { color: #555; font-size: 13px; margin: .2rem 0; }
figure { margin: 1rem 0; overflow-x: auto; } code { background: #f2f2f2; padding: .1rem .3rem; }
"""


def page(title: str, conditions: Sequence[str], found: Sequence[Table], drawn: Mapping[str, str]) -> str:
    """The page. A figure stands under the table whose name it begins with."""
    body = [f"<h1>{escape(title)}</h1>", *(f'<p class="note">{escape(line)}</p>' for line in conditions)]
    for table in found:
        body.append(_table(table))
        names = [name for name in drawn if name.startswith(f"{table.name}_") and not _nearer(name, table, found)]
        body += [f"<figure>{_inline(drawn[name])}</figure>" for name in names]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _nearer(name: str, table: Table, found: Sequence[Table]) -> bool:
    """Whether a figure belongs to another table, whose name is longer."""
    return any(len(other.name) > len(table.name) and name.startswith(f"{other.name}_") for other in found)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in table.lines)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return f"<h2>{escape(table.title)}</h2>{notes}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _inline(svg: str) -> str:
    """The drawing without what only a file of its own needs."""
    return svg[svg.index("<svg") :]
