"""How often the structured consultation comes out whole: forced JSON on both engines, and prose.

    python benchmarks/consultation.py runs/NAME                    # 500 questions, both engines
    python benchmarks/consultation.py runs/NAME --ways prose --first 250 --questions 250

The run is one that was trained on the built-in dialogues.  Three ways are counted: JSON forced by
llguidance (transformers), JSON forced by llama.cpp, and prose under headings (transformers).  A
share of the questions may be asked at a time; what was counted before, with other questions of
the same run, is kept in benchmarks/results/consultation.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from medtune.chat.consultation import DRAFT_SCHEMA, DRAFT_TOKENS, Consultation, consultation
from medtune.chat.engines import Decoding, Engine
from medtune.chat.engines.choose import open_engine
from medtune.chat.exports import to_fhir, to_json, validate_fhir
from medtune.embedded.consultations import consultations
from medtune.evaluation.statistics import wilson
from medtune.run import Run
from medtune.safety import assess

RESULTS = Path(__file__).parent / "results" / "consultation.json"
WAYS = {
    "forced, transformers": ("transformers", DRAFT_SCHEMA),
    "forced, llamacpp": ("llamacpp", DRAFT_SCHEMA),
    "prose, transformers": ("transformers", None),
}


def written(engine: Engine, question: str, schema: dict[str, Any] | None) -> str:
    settings = Decoding(max_new_tokens=DRAFT_TOKENS if schema else 192, schema=schema)
    return "".join(engine.stream([{"role": "user", "content": question}], settings))


def is_whole(answer: str, question: str, schema: dict[str, Any] | None) -> bool:
    """Whether a valid consultation comes of it, with a condition, advice and a valid FHIR bundle."""
    if schema is not None:
        try:
            Draft202012Validator(schema).validate(json.loads(answer))
        except Exception as error:
            print(f"  {type(error).__name__}: {answer[-120:]!r}")
            return False
    made = consultation(answer, [question], assess(question))
    Consultation.model_validate_json(to_json(made))
    validate_fhir(to_fhir(made))
    whole = bool(made.possible_conditions and made.suggestions)
    if not whole:
        print(f"  not parsed: {answer!r}")
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a trained run")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="so many questions are left out")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=[*WAYS, "prose", "forced"])
    arguments = parser.parse_args()
    run = Run(arguments.run)
    last = arguments.first + arguments.questions
    rows = [r for r in consultations("test", 2 * last, seed=7) if r.kind == "symptoms"]
    asked = [row.question for row in rows[arguments.first : last]]
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    counted: dict[str, Any] = kept.get("ways", {})
    for way, (name, schema) in WAYS.items():
        if not any(way.startswith(wanted) for wanted in arguments.ways):
            continue
        engine = open_engine(run, name)  # type: ignore[arg-type]
        started = time.perf_counter()
        whole = sum(is_whole(written(engine, q, schema), q, schema) for q in asked)
        seconds = time.perf_counter() - started
        before = counted.get(way, {})
        if before.get("questions_from", 0) + before.get("questions", 0) != arguments.first:
            before = {}
        n = before.get("questions", 0) + len(asked)
        whole += before.get("whole", 0)
        counted[way] = {
            "questions_from": before.get("questions_from", arguments.first),
            "questions": n,
            "whole": whole,
            "rate": whole / n,
            "interval_95": [round(bound, 4) for bound in wilson(whole, n)],
            "seconds": round(before.get("seconds", 0) + seconds, 1),
        }
        result = {
            "run": run.name,
            "ways": counted,
            "hardware": f"{platform.processor() or platform.machine()}, CPU, shared",
        }
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(way, counted[way])


if __name__ == "__main__":
    main()
