"""Runs commands of the guide one after the other in one process, for importing torch takes longest.

Called by test_docs.py with a JSON list of ``{"words", "typed", "into"}`` on standard input; prints
``{"code", "said"}`` for each that ran, and stops at the first that fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from medtune.cli import main


def run(words: list[str], typed: str) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    sys.argv, sys.stdin = words, io.StringIO(typed)
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), errors.getvalue()


told = []
for command in json.load(sys.stdin):
    code, said, errors = run(command["words"], command["typed"])
    if command["into"]:
        Path(command["into"]).write_text(said, encoding="utf-8")
    told.append({"code": code, "said": said + errors})
    if code:
        break
print(json.dumps(told), flush=True)
os._exit(0)  # engines leave threads behind
