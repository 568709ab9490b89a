"""Whether llama.cpp answers with a run's GGUF as transformers does with the merged model."""

from __future__ import annotations

import json
import secrets
import urllib.request
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medtune.chat.engines.llamacpp import start_server
from medtune.data.rows import read_split
from medtune.model.gguf.export import gguf_of, merge_dtype
from medtune.model.gguf.quantize import Quantization
from medtune.model.merge import merge
from medtune.model.template import Message, end_tokens, messages, prompt_ids
from medtune.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

_NEAR_TIE = 0.02  # of log-probability: what rounding to 16 bits moves


@dataclass(frozen=True)
class Parity:
    """Counts of prompts; differences in natural-log probability of the first token."""

    prompts: int
    same_tokens: int
    """llama.cpp rendered the template and cut it into the tokens that training used."""
    same_answers: int
    """The greedy answers are equal, token by token."""
    near_ties: int
    """They part where transformers gives both next tokens nearly the same probability."""
    first_difference: float
    """The largest difference in the probability of the ten likeliest first tokens."""
    sentence: str


def compare_with_llama_cpp(
    run: Run, kind: Quantization = "f16", prompts: int = 50, max_new_tokens: int = 48
) -> dict[str, Any]:
    """The run's GGUF in llama.cpp against its merged model in transformers, on test questions.

    A quantised file may answer otherwise now and then; at f16 only near ties differ.

    Raises:
        MedtuneError: the run is not trained, or llama.cpp is missing or cannot run its model.
    """
    file = gguf_of(run, kind)
    model, tokenizer = merge(run, merge_dtype(kind))
    turns = [messages(row.question, row.system) for row in read_split(run, "test")[:prompts]]
    found = compare(file, model.float(), tokenizer, turns, max_new_tokens)
    return asdict(found)


def compare(
    file: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    turns: list[list[Message]],
    max_new_tokens: int,
) -> Parity:
    """A GGUF file in llama.cpp against a model in transformers."""
    prompts = [prompt_ids(tokenizer, one) for one in turns]
    key = secrets.token_urlsafe(32)
    room = max(map(len, prompts)) + max_new_tokens + 8
    server = start_server(file, room, key=key, threads=1)  # always the same sums

    same_tokens = same_answers = near_ties = 0
    worst = 0.0
    for one, prompt in zip(turns, prompts, strict=True):
        text = ask(server, key, "/apply-template", messages=one)["prompt"]
        read = ask(server, key, "/tokenize", content=text, add_special=True, parse_special=True)[
            "tokens"
        ]
        same_tokens += read == prompt
        said = ask(
            server, key, "/completion", prompt=prompt, n_predict=max_new_tokens, temperature=0, n_probs=10,
            return_tokens=True,
        )  # fmt: skip
        expected, first = _greedy(model, tokenizer, prompt, max_new_tokens)
        answer = said["tokens"][: len(expected)]
        same_answers += answer == expected
        near_ties += answer != expected and _is_near_tie(model, prompt, expected, answer)
        for likeliest in said.get("completion_probabilities", [])[:1]:
            if likeliest["id"] == said["tokens"][0]:  # not so where a token is half a character
                off = [abs(e["logprob"] - first[e["id"]]) for e in likeliest["top_logprobs"]]
                worst = max(worst, *off)
    n = len(prompts)
    return Parity(
        n, same_tokens, same_answers, near_ties, worst,
        f"Compared with transformers on {n} questions in llama.cpp: the prompt's tokens are equal in "
        f"{same_tokens}, the greedy answers in {same_answers}, {near_ties} part at a near tie; the "
        f"log-probabilities of the likeliest first tokens differ by {worst:.3f} at most.",
    )  # fmt: skip


def ask(server: Any, key: str, place: str, **body: Any) -> Any:
    """What llama.cpp's server answers to a JSON request."""
    request = urllib.request.Request(
        server.listening_address + place,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.load(response)


def _is_near_tie(model: Any, prompt: list[int], expected: list[int], answer: list[int]) -> bool:
    """Whether the answers part at two tokens whose log-probabilities differ by rounding only."""
    import torch

    pairs = zip(expected, answer, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if place is None:  # one ends where the other goes on
        return False
    with torch.inference_mode():
        ids = torch.tensor([prompt + expected[:place]], device=model.device)
        chances = model(input_ids=ids).logits[0, -1].float().log_softmax(-1)
    return float(chances[expected[place]] - chances[answer[place]]) < _NEAR_TIE


def _greedy(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompt: list[int], count: int
) -> tuple[list[int], list[float]]:
    """The answer's tokens without the end token, and the log-probabilities of its first."""
    import torch

    ids = torch.tensor([prompt], device=model.device)
    ends = end_tokens(tokenizer)
    with torch.inference_mode():
        first = model(input_ids=ids).logits[0, -1].float().log_softmax(-1).tolist()
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count,
            do_sample=False, eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id,
        )[0, len(prompt) :].tolist()  # fmt: skip
    stop = next((i for i, token in enumerate(output) if token in ends), len(output))
    return output[:stop], first
