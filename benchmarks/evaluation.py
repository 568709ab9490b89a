"""How fast an evaluation is: 1,000 questions to the embedded model, against one-by-one generate.

    python benchmarks/evaluation.py [--questions 1000] [--alone 20] [--run RUN]

Answers, losses and every figure of the questions, as ``medtune evaluate`` computes them for one
model; then ``model.generate`` with one question at a time on some of the same questions, evenly
drawn, in the same process.  ``--run`` takes a trained run on the embedded base; without it the
base itself answers, which seldom ends before the length limit and is the slower case.

Writes benchmarks/results/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.data.rows import Row
from medtune.embedded.consultations import consultations
from medtune.evaluation.deployed import all_shown, bare
from medtune.evaluation.measure import Outcome, measured_alone, measured_deployed
from medtune.evaluation.perplexity import answer_losses
from medtune.evaluation.statistics import score
from medtune.model.generate import generate_answers
from medtune.model.load import load_base, load_tokenizer, load_tuned
from medtune.model.template import end_tokens, messages, prompt_ids
from medtune.recipe import load_recipe
from medtune.run import Run, hardware
from medtune.training.examples import examples

RESULTS = Path(__file__).parent / "results" / "evaluation.json"


@dataclass
class Timed:
    value: Any
    seconds: float
    processor_seconds: float


def timed(work: Callable[[], Any]) -> Timed:
    wall, processor = time.perf_counter(), time.process_time()
    value = work()
    return Timed(value, time.perf_counter() - wall, time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure an evaluation.")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=20, help="questions asked one by one")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--run", type=Path, help="a trained run on the embedded base")
    arguments = parser.parse_args()
    recipe = load_recipe("embedded-qlora")
    section = recipe.evaluation
    tokenizer = load_tokenizer(recipe.model)
    model: Any = load_tuned(Run(arguments.run)) if arguments.run else load_base(recipe.model)
    model.eval()
    rows = [
        Row(str(i), c.question, c.answer, c.condition, c.specialist, c.urgency, c.kind)
        for i, c in enumerate(consultations("test", arguments.questions))
    ]
    prompts = [prompt_ids(tokenizer, messages(row.question)) for row in rows]
    limit, ends = section.max_new_tokens, sorted(end_tokens(tokenizer))

    def evaluated() -> dict[str, float]:
        items = examples(tokenizer, rows, recipe.data.max_length)
        losses = answer_losses(model, items, batch_size=section.batch_size)
        answers = generate_answers(
            model, tokenizer, prompts, max_new_tokens=limit, batch_size=arguments.batch
        )
        texts = [answer.text for answer in answers]
        outcome = Outcome(answers, losses, [bare(t) for t in texts], all_shown(rows, texts), [], [])
        both = (measured_alone(section, rows, outcome), measured_deployed(section, rows, outcome))
        return {name: score(measured).value for part in both for name, measured in part.items()}

    def one_by_one(which: list[int]) -> int:
        import torch

        count = 0
        for i in which:
            ids = torch.tensor([prompts[i]], device=model.device)
            with torch.inference_mode():
                made = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=limit,
                    do_sample=False,
                    eos_token_id=ends,
                    pad_token_id=tokenizer.pad_token_id,
                )
            count += made.shape[1] - ids.shape[1]
        return count

    timed(lambda: one_by_one([0]))  # warm up
    step = max(1, len(prompts) // arguments.alone)
    which = list(range(0, len(prompts), step))[: arguments.alone]
    alone = timed(lambda: one_by_one(which))
    whole = timed(evaluated)
    result = {
        "questions": len(rows),
        "model": "tuned" if arguments.run else "base",
        "max_new_tokens": limit,
        "batch": arguments.batch,
        "seconds": round(whole.seconds, 1),
        "processor_seconds": round(whole.processor_seconds, 1),
        "one_by_one_questions": len(which),
        "one_by_one_seconds_a_question": round(alone.seconds / len(which), 3),
        "one_by_one_processor_seconds_a_question": round(alone.processor_seconds / len(which), 3),
        # The whole evaluation against generation alone, so the ratio is rather too small.
        "times_faster": round(alone.seconds / len(which) / (whole.seconds / len(rows)), 2),
        "times_faster_in_processor_time": round(
            alone.processor_seconds / len(which) / (whole.processor_seconds / len(rows)), 2
        ),
        "load_average": round(os.getloadavg()[0], 1),  # of other work, too, where it is shared
        "figures": {name: round(value, 4) for name, value in whole.value.items()},
        "hardware": hardware(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
