"""What a published way to score gives without any model, and over padding; the right way beside it.

    python benchmarks/published_figures.py               # about two minutes on one core

A published table of TinyLlama experiments reports perplexity 147,204 before and 1.44 after tuning,
and BLEU 67.67 and ROUGE-L 76.57 before tuning.  Its notebook takes the loss over padding that is
the end token, gives the first 128 tokens of question *and answer* as the prompt, and compares what
comes out with question and answer.  Here both are done on the embedded base and the built-in
dialogues; docs/published-figures.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from random import Random
from typing import Any

RESULTS = Path(__file__).parent / "results" / "published_figures.json"
LENGTH, GIVEN, JUNK = 512, 128, 50
ROWS, STEPS, BATCH = 80, 30, 4


def scores(candidates: list[str], references: list[str]) -> dict[str, float]:
    """Corpus BLEU and mean ROUGE-L (F), in hundredths."""
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = zip(candidates, references, strict=True)
    rouge = [
        scorer.score(reference, candidate)["rougeL"].fmeasure for candidate, reference in pairs
    ]
    return {
        "bleu": round(sacrebleu.corpus_bleu(candidates, [references]).score, 2),
        "rouge_l": round(100 * sum(rouge) / len(rouge), 2),
    }


def without_a_model(tokenizer: Any, items: list[Any], rows: list[Any]) -> dict[str, Any]:
    """BLEU and ROUGE-L where nothing is generated, or tokens drawn at random are."""
    rng = Random(0)
    ordinary = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    whole = [tokenizer.decode(item.input_ids, skip_special_tokens=True) for item in items]
    junk = [rng.choices(ordinary, k=JUNK) for _ in items]

    def continued(more: list[list[int]]) -> list[str]:
        return [
            tokenizer.decode(item.input_ids[:GIVEN] + extra, skip_special_tokens=True)
            for item, extra in zip(items, more, strict=True)
        ]

    answers = [row.answer for row in rows]
    return {
        "published_way": {
            "stops_at_once": scores(continued([[]] * len(items)), whole),
            f"{JUNK}_random_tokens": scores(continued(junk), whole),
        },
        "answer_alone": {
            "stops_at_once": scores([""] * len(items), answers),
            f"{JUNK}_random_tokens": scores([tokenizer.decode(j) for j in junk], answers),
        },
    }


def padded(items: list[Any], end: int) -> tuple[Any, Any]:
    """Ids and labels, (rows, length), padded with the end token; padding is scored as well."""
    import torch

    ids = torch.full((len(items), LENGTH), end)
    for line, item in enumerate(items):
        ids[line, : len(item.input_ids)] = torch.tensor(item.input_ids)
    return ids, ids.clone()


def perplexities(model: Any, items: list[Any], end: int) -> dict[str, float]:
    """Over padding, and over the answers alone."""
    import torch

    from medtune.evaluation.perplexity import answer_losses

    ids, labels = padded(items, end)
    total = count = 0.0
    with torch.inference_mode():
        for start in range(0, len(ids), 8):
            part = slice(start, start + 8)
            logits = model(input_ids=ids[part], use_cache=False).logits[:, :-1].float()
            total += float(
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), labels[part, 1:].flatten(), reduction="sum"
                )
            )
            count += labels[part, 1:].numel()
    losses = answer_losses(model, items, batch_size=8)
    return {
        "over_padding": round(math.exp(total / count), 2),
        "over_answers": round(math.exp(losses[:, 0].sum() / losses[:, 1].sum()), 2),
        "padding_share": round(1 - sum(len(i.input_ids) for i in items) / len(items) / LENGTH, 3),
    }


def tuned_on_padding(model: Any, items: list[Any], end: int) -> Any:
    """LoRA on everything, padding included, as that notebook trains."""
    import torch
    from peft import get_peft_model

    from medtune.model.adapter import lora_config
    from medtune.recipe import AdapterSection

    torch.manual_seed(0)
    section = AdapterSection(targets=["q_proj", "k_proj", "v_proj", "o_proj"])
    adapted = get_peft_model(model, lora_config(section, model)).train()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    ids, labels = padded(items, end)
    for step in range(STEPS):
        part = slice(step * BATCH % len(ids), step * BATCH % len(ids) + BATCH)
        logits = adapted(input_ids=ids[part], use_cache=False).logits[:, :-1]
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[part, 1:].flatten()
        ).backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="A published way to score, without a model.")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--scores-only", action="store_true", help="no model: seconds")
    arguments = parser.parse_args()
    from medtune.data.builtin import read_builtin
    from medtune.model.load import load_base, load_tokenizer
    from medtune.recipe import load_recipe
    from medtune.run import hardware
    from medtune.training.examples import examples

    recipe = load_recipe("embedded-table", ["model.dtype=float32"])
    tokenizer = load_tokenizer(recipe.model)
    splits, _ = read_builtin(recipe.data)
    train, test = splits["train"], splits["test"][:ROWS]
    items = examples(tokenizer, test, LENGTH)
    found: dict[str, Any] = {
        "hardware": hardware(),
        "rows": len(test),
        "scores_without_a_model": without_a_model(tokenizer, items, test),
    }
    if not arguments.scores_only:
        model, end = load_base(recipe.model), int(tokenizer.eos_token_id)  # type: ignore[arg-type]
        found["perplexity_of_the_base"] = perplexities(model, items, end)
        tuned = tuned_on_padding(model, examples(tokenizer, train, LENGTH), end)
        found[f"perplexity_after_{STEPS}_steps_on_padding"] = perplexities(tuned, items, end)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
