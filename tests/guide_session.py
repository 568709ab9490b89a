"""Runs commands of the guide one after the other in one process, for importing torch takes longest.

Called by test_docs.py: a line of JSON ``{"words", "typed", "into"}`` on standard input is a
command, and a line ``{"code", "said"}`` on standard output is what came of it.
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


# Libraries and processes that are started write to neither end of the conversation with the test.
commands = os.fdopen(os.dup(0), encoding="utf-8")
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
for line in commands:
    command = json.loads(line)
    code, said, errors = run(command["words"], command["typed"])
    if command["into"]:
        Path(command["into"]).write_text(said, encoding="utf-8")
    print(json.dumps({"code": code, "said": said + errors}), file=answers, flush=True)
os._exit(0)  # engines leave threads behind
