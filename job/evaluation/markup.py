"""The parts of the report's page: tables, the confusion matrix as one, and the page around them, light and dark."""

from __future__ import annotations

import html as escape
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from job.evaluation.plots import most_confused

_MAX_CLASSES = 30  # as many as fit the width of the page
_NUMBER = re.compile(r"[+-]?[\d.]+")


def table(rows: Sequence[Sequence[str]], *, max_open_rows: int) -> str:
    """Returns a table; columns of numbers stand to the right, more rows than `max_open_rows` are folded away.

    Args:
        rows: The first are the heads.
    """
    head, *body = rows
    is_number = [bool(body) and all(not row[i] or _NUMBER.fullmatch(row[i]) for row in body) for i in range(len(head))]

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if right else ''}>{escape.escape(cell)}</{tag}>"
            for cell, right in zip(cells, is_number, strict=True)
        )

    lines = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in body)
    found = f"<div class=wide><table><thead><tr>{line(head, 'th')}</tr></thead><tbody>\n{lines}\n</tbody></table></div>"
    if len(body) > max_open_rows:
        return f"<details><summary>{len(body)} rows</summary>{found}</details>"
    return found


def confusion_matrix(confusion: npt.NDArray[np.integer[Any]], classes: Sequence[str]) -> str:
    """Returns the confusion matrix as a table: right answers blue, wrong ones red, the deeper the larger their share.

    With more than 30 classes those of the most confused pairs are shown. Pointing at a cell names its classes.

    Args:
        confusion: int64 [K, K]; row = true class, column = predicted class.
        classes: K names, in label order.
    """
    shown = most_confused(confusion, _MAX_CLASSES)
    names = [escape.escape(classes[i]) for i in shown]
    support = np.maximum(confusion.sum(axis=1), 1)
    heads = "".join(f'<th title="{name}"><span>{name}</span></th>' for name in names)
    lines = []
    for true, name in zip(shown, names, strict=True):
        cells = "".join(
            _cell(int(confusion[true, guess]), int(support[true]), true == guess, f"{name} → {other}")
            for guess, other in zip(shown, names, strict=True)
        )
        lines.append(f'<tr><th title="{name}"><span>{name}</span></th>{cells}</tr>')
    text = "Rows: true, columns: predicted."
    if len(shown) < len(classes):
        text += f" {len(shown)} of {len(classes)} classes: those most often taken for each other."
    body = "\n".join(lines)
    return (
        f"<p>{text}</p>\n<div class=wide><table class=confusion><thead><tr><td></td>{heads}</tr></thead><tbody>\n"
        f"{body}\n</tbody></table></div>"
    )


def _cell(count: int, support: int, is_right: bool, what: str) -> str:
    if not count:
        return "<td></td>"
    share = (count / support) ** 0.5  # a single mistake among many is still to be seen
    color = "25,103,210" if is_right else "217,48,37"
    ink = ";color:#fff" if share > 0.6 else ""
    return f'<td style="background:rgba({color},{share:.2f}){ink}" title="{what}: {count} of {support}">{count}</td>'


def page(title: str, body: str) -> str:
    """Returns the whole file.

    Args:
        title: Escaped, like `body`.
    """
    return _PAGE.format(title=title, body=body)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #202124; --paper: #fff; --line: #e1e3e6; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8eaed; --paper: #1b1c1f; --line: #3c4043; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper); }}
h1, p, td {{ overflow-wrap: anywhere; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid var(--line); }}
th {{ white-space: nowrap; }}
.n {{ text-align: right; white-space: nowrap; }}
.confusion th, .confusion td {{ border: 1px solid var(--line); padding: 0; font-size: 12px; font-weight: normal; }}
.confusion td {{ min-width: 2.2em; height: 2.2em; text-align: center; vertical-align: middle;
  overflow-wrap: normal; }}
.confusion thead td, .confusion th {{ border: none; }}
.confusion th span {{ display: block; max-width: 14em; overflow: hidden; text-overflow: ellipsis; }}
.confusion tbody th {{ text-align: right; vertical-align: middle; padding-right: .5em; }}
.confusion thead th {{ vertical-align: bottom; padding-bottom: .5em; }}
.confusion thead span {{ writing-mode: vertical-rl; transform: rotate(180deg); max-width: none; max-height: 14em;
  margin: auto; }}
summary {{ cursor: pointer; }}
img {{ max-width: 100%; margin: 1rem 0; display: block; border-radius: 6px; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
