r"""LaTeX tables that need `booktabs` and nothing else, and a document around them that compiles as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

_SIGNS = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "·": "--",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "≤": r"$\le$",
    "*": r"$^{*}$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_MINUS = re.compile(r"(?<!\w)-(?=\d)")


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_SIGNS.get(sign, sign) for sign in text)


def table(
    *,
    label: str,
    caption: str,
    notes: str,
    heads: Sequence[tuple[str, str]],
    corner: Sequence[str],
    rows: Sequence[tuple[str, Sequence[str], Sequence[tuple[str, bool, str]]]],
) -> str:
    """A table.

    Args:
        label: after `tab:`.
        caption: above it.
        notes: below it.
        heads: group and label of each column.
        corner: headings of the columns of row labels.
        rows: group, row labels, and for each column its text, whether it is bold, and footnote codes.
    """
    alignment = "l" * len(corner) + "r" * len(heads)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[ht]",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{label}}}",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        *_heads(heads, corner),
    ]
    for group, members in groupby(rows, key=lambda row: row[0]):
        lines.append(r"\midrule")
        if group:
            lines.append(rf"\multicolumn{{{len(alignment)}}}{{l}}{{\textit{{{escape(group)}}}}} \\")
        lines += [" & ".join([*map(escape, labels), *map(_entry, entries)]) + r" \\" for _, labels, entries in members]
    ends = [r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
    return "\n".join([*lines, *ends, escape(notes), r"\end{minipage}", r"\end{table}", ""])


def document(names: Sequence[str]) -> str:
    """A document that holds the tables of its folder, by file name without suffix."""
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage{booktabs}",
            r"\usepackage[a2paper,landscape,margin=2cm]{geometry}",
            r"\begin{document}",
            *(rf"\input{{{name}}}" for name in names),
            r"\end{document}",
            "",
        ]
    )


def _heads(heads: Sequence[tuple[str, str]], corner: Sequence[str]) -> list[str]:
    lines = []
    if any(group for group, _ in heads):
        cells, rules, at = [""] * len(corner), [], len(corner) + 1
        for group, members in groupby(heads, key=lambda head: head[0]):
            width = len(list(members))
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}" if group else " & " * (width - 1))
            if group:
                rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
            at += width
        lines = [" & ".join(cells) + r" \\", " ".join(rules)]
    return [*lines, " & ".join([*map(escape, corner), *(escape(label) for _, label in heads)]) + r" \\"]


def _entry(entry: tuple[str, bool, str]) -> str:
    text, bold, codes = entry
    text = _MINUS.sub("−", text)
    shown = rf"\textbf{{{escape(text)}}}" if bold else escape(text)
    return shown + (rf"\textsuperscript{{{escape(codes)}}}" if codes else "")
