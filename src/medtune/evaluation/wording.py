"""Which words of two texts differ, as marked-up HTML."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup


def word_changes(before: str, after: str) -> Markup:
    """``after`` with the words that ``before`` does not have in ``<ins>``, and those that it lost
    in ``<del>``; everything else in the texts is escaped."""
    from markupsafe import Markup

    old, new = (re.findall(r"\S+|\s+", text) for text in (before, after))
    parts: list[str] = []
    for change, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        lost, won = escape("".join(old[i:j])), escape("".join(new[k:m]))
        if change == "equal":
            parts.append(won)
            continue
        parts.append(f"<del>{lost}</del>" if lost.strip() else "")
        parts.append(f"<ins>{won}</ins>" if won.strip() else won)
    return Markup("".join(parts))
