"""How long the safety layer takes on one core: 100,000 messages, and hostile texts of one megabyte.

    python benchmarks/safety.py [--messages 100000]

Writes benchmarks/results/safety.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from itertools import cycle, islice
from pathlib import Path

from medtune.safety.assess import assess
from medtune.safety.vignettes import vignettes

MEGABYTE = 1_000_000
HOSTILE = {
    "repeated cues": "no chest pain but ",
    "one endless word": "a",
    "look-alike letters": "сhеst раin ",
    "hopeless phrases": "want to take all my tablets and ",
    "misspelled words": "chset pian brething ",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    count = parser.parse_args().messages
    rows = [row.messages for row in vignettes()]
    assess("warm up")
    start = time.process_time()
    for messages in islice(cycle(rows), count):
        assess(messages)
    seconds = time.process_time() - start
    hostile: dict[str, float] = {}
    for name, piece in HOSTILE.items():
        text = piece * (MEGABYTE // len(piece.encode()))
        start = time.process_time()
        assess(text)
        hostile[name] = round(time.process_time() - start, 3)
    result = {
        "messages": count,
        "processor_seconds": round(seconds, 1),
        "milliseconds_a_message": round(1000 * seconds / count, 3),
        "hostile_megabyte_seconds": hostile,
        "hardware": f"one core, {platform.processor() or platform.machine()}, shared",
        "python": platform.python_version(),
    }
    target = Path(__file__).parent / "results" / "safety.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
