"""The command line.  ``medtune --help`` imports nothing heavy; each command does when it runs."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a command; an error is one sentence on stderr and exit code 1 or 2."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    # Said here because the libraries read them when they are imported.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

    from medtune.cli.app import app
    from medtune.errors import MedtuneError

    code = 0
    try:
        app()  # ends with SystemExit: 0, 2 for wrong use, 130 after Ctrl-C
    except MedtuneError as error:
        if debug:
            raise
        print(f"medtune: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        # Whoever read our output has left, as `medtune ... | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if debug:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        print(
            f"medtune: an unexpected {type(error).__name__}: {reason} "
            "Run the command again with --debug to see where.",
            file=sys.stderr,
        )
        code = 1
    sys.exit(code)
