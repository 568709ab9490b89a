"""Every way to store a tuned model as GGUF, in llama.cpp against transformers.

    python benchmarks/gguf_parity.py RUN [--kinds f16 q8_0] [--prompts 50]

RUN is a trained run, for example that of ``medtune demo``.  Kinds that are not named keep the
figures that they have in ``benchmarks/results/gguf.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from medtune.chat.parity import compare_with_llama_cpp
from medtune.model.gguf.export import gguf_of
from medtune.model.gguf.quantize import KINDS
from medtune.run import Run, hardware

NEW_TOKENS = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gguf.json")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    given = parser.parse_args()
    run = Run.open(given.run)
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    files: dict[str, Any] = known.get("files", {})
    for kind in given.kinds:
        found = compare_with_llama_cpp(run, kind, given.prompts, NEW_TOKENS)
        print(f"{kind}: {found.pop('sentence')}", flush=True)
        files[kind] = {"bytes": gguf_of(run, kind).stat().st_size, **found}
    base = run.recipe().model.base
    facts = {
        "base": Path(base).name, "new_tokens": NEW_TOKENS, "hardware": hardware(), "files": files,
    }  # fmt: skip
    given.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
