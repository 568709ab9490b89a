"""Fold an adapter into its base, so that one model remains that any program can load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from medtune.errors import MedtuneError
from medtune.model.load import load_tokenizer, quiet, tuned_on
from medtune.model.template import end_tokens, messages, prompt_ids
from medtune.run import Run, whole

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MergeDtype = Literal["bfloat16", "float16", "float32"]
_PROBE = "I have had a sore throat and a fever for three days. What could it be?"


def merge(
    run: Run, dtype: MergeDtype = "bfloat16"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The run's base with its adapter folded into the weights, and the tokenizer.

    The base is loaded anew in ``dtype``, also where the adapter was trained on a 4-bit base:
    folding into 4-bit weights would round the adapter away.  What the model computes before
    and after is compared on one prompt.

    Raises:
        MedtuneError: the run is not trained, its base cannot be loaded, or the merged weights
            do not compute what the adapter on its base does (float16 overflows in some bases).
    """
    import torch

    section = run.recipe().model.model_copy(update={"quantization": "none", "dtype": dtype})
    tokenizer = load_tokenizer(section)
    tuned: Any = tuned_on(run, section, cpu=True)  # the weights are only written out
    probe = torch.tensor([prompt_ids(tokenizer, messages(_PROBE))])
    with quiet(), torch.inference_mode():
        before = tuned(input_ids=probe).logits[0].float()
        whole_model = not hasattr(tuned, "merge_and_unload")  # every weight was trained
        merged: PreTrainedModel = tuned if whole_model else tuned.merge_and_unload(safe_merge=True)
        after = merged(input_ids=probe).logits[0].float()
    _compare(before, after, dtype)
    _settings_for_chat(merged, tokenizer, run)
    return merged.eval(), tokenizer


def write_merged(run: Run, dtype: MergeDtype = "bfloat16") -> Path:
    """Write the merged model as a folder that transformers, vLLM and others load.

    Weights as safetensors, with tokenizer, chat template and generation settings.  The folder
    appears whole or not at all.

    Returns:
        the folder, ``exports/merged`` of the run.
    """
    model, tokenizer = merge(run, dtype)
    with whole(run.merged) as part, quiet():
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return run.merged


def _compare(before: Any, after: Any, dtype: str) -> None:
    """Complain where the merged model is another model: its logits may differ by rounding only.

    Rounding the merged weights once to bfloat16 moves logits by a few hundredths of their
    spread; a tenth on average means that something is wrong.
    """
    import torch

    if not bool(torch.isfinite(after).all()):
        raise MedtuneError(
            f"The merged weights overflow in {dtype}; export with --dtype bfloat16 instead."
        )
    moved = float((after - before).abs().mean() / before.std())
    if moved > 0.1:
        raise MedtuneError(
            f"The merged model differs from the adapter on its base (by {moved:.2f} of the spread of "
            "the logits); export with --dtype float32, and please report this."
        )


def _settings_for_chat(model: Any, tokenizer: PreTrainedTokenizerBase, run: Run) -> None:
    """Generation as it was measured: greedy, ending at every end token, of the measured length."""
    settings = model.generation_config
    settings.do_sample = False
    settings.temperature = settings.top_p = settings.top_k = None
    settings.eos_token_id = sorted(end_tokens(tokenizer))
    settings.pad_token_id = tokenizer.pad_token_id
    settings.bos_token_id = tokenizer.bos_token_id
    settings.max_new_tokens = run.recipe().evaluation.max_new_tokens
