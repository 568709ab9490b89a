"""A task of our own through the real lm-evaluation-harness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medtune.errors import MedtuneError
from medtune.evaluation.cache import opened
from medtune.evaluation.harness import run_tasks
from medtune.evaluation.speakers import WHOS, Speakers
from medtune.evaluation.voices import Voices
from medtune.model.load import load_tokenizer
from medtune.model.template import messages, prompt_text
from medtune.run import Run
from medtune.training.examples import NOT_TRAINED, Example

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra harness)")

QUESTIONS = [
    ("Which joint does gout like best?", ["the big toe", "the jaw"], 0),
    ("Which organ makes insulin?", ["the spleen", "the pancreas"], 1),
    ("Which vitamin does sunlight make?", ["vitamin D", "vitamin K"], 0),
    ("What does an inhaler open?", ["the stomach", "the airways"], 1),
    ("Which bone is the longest?", ["the thigh bone", "the collar bone"], 0),
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [{"question": q, "options": o, "right": r} for q, o, r in QUESTIONS]
    data = tmp_path / "questions.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    common = (
        f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
        'doc_to_text: "{{question}}"\n'
    )
    (tmp_path / "choice.yaml").write_text(
        f"task: our_choice\n{common}"
        'output_type: multiple_choice\ntarget_delimiter: ""\n'
        'doc_to_choice: "{{options}}"\ndoc_to_target: right\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    (tmp_path / "words.yaml").write_text(
        f"task: our_words\n{common}"
        "output_type: generate_until\n"
        'doc_to_target: "{{options[right]}}"\n'
        'generation_kwargs: {max_gen_toks: 8, until: ["\\n"]}\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return tmp_path


def test_tasks_run_on_base_and_tuned_and_agree_with_our_own_likelihoods(
    tuned_run: Run, tasks: Path, tmp_path: Path
) -> None:
    recipe = tuned_run.recipe()
    exact = recipe.model.model_copy(update={"quantization": "none", "dtype": "float32"})
    recipe = recipe.model_copy(update={"model": exact})  # no tie decided by rounding
    asked = {"harness": ["our_choice", "our_words"], "harness_folder": str(tasks)}
    section = recipe.evaluation.model_copy(update=asked)
    tokenizer = load_tokenizer(recipe.model)
    items = []
    for question, options, _ in QUESTIONS:
        prompt = prompt_text(tokenizer, messages(question))
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        for option in options:
            ids = list(tokenizer(prompt + option, add_special_tokens=False)["input_ids"])
            items.append(Example(ids, [NOT_TRAINED] * start + ids[start:]))
    with opened(tmp_path / "cache.sqlite") as cache:
        voices = Voices(recipe, tuned_run, tokenizer)
        speakers = Speakers(recipe, tuned_run, tokenizer, cache, voices)
        found = run_tasks(voices, tokenizer, section)
        own = {who: speakers.losses(who, items, lambda _: None)[:, 0] for who in WHOS}
    choice = found["tasks"]["our_choice"]["acc"]
    for who in WHOS:
        picked = own[who].reshape(-1, 2).argmin(1)
        expected = np.mean([p == right for p, (_, _, right) in zip(picked, QUESTIONS, strict=True)])
        assert choice[who]["value"] == pytest.approx(expected)
        assert choice[who]["n"] == len(QUESTIONS)
        assert choice[who]["stderr"] is not None
    assert found["tasks"]["our_words"]["exact_match"]["tuned"]["value"] == 0  # an untrained model
    assert found["version"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"harness": ["our_choise"]}, "no task 'our_choise' \\(did you mean 'our_choice'"),
        ({"harness": ["our_choice"], "harness_folder": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_cannot_be_run_is_said(
    asked: dict[str, object], sentence: str, tuned_run: Run, tasks: Path
) -> None:
    recipe = tuned_run.recipe()
    section = recipe.evaluation.model_copy(update={"harness_folder": str(tasks), **asked})
    tokenizer = load_tokenizer(recipe.model)
    with pytest.raises(MedtuneError, match=sentence):
        run_tasks(Voices(recipe, tuned_run, tokenizer), tokenizer, section)
