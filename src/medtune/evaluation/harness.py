"""Tasks of lm-evaluation-harness on base and tuned (extra ``harness``)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError
from medtune.evaluation.voices import WHOS, Voices
from medtune.recipe import EvaluationSection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def require_harness() -> None:
    """Complain before anything is computed where the extra is not installed.

    Raises:
        MedtuneError: it is not.
    """
    if find_spec("lm_eval") is None:
        raise MedtuneError(
            "Tasks of lm-evaluation-harness need its package: pip install 'medtune[harness]'."
        )


def run_tasks(
    voices: Voices,
    tokenizer: PreTrainedTokenizerBase,
    section: EvaluationSection,
    limit: int | None = None,
) -> dict[str, Any]:
    """The harness's own figures of base and tuned, with its version and its standard errors.

    The questions go through the model's chat template, as in chat.  Prompts, decoding and
    scoring are the harness's.

    Args:
        voices: of the run.
        tokenizer: of the base.
        section: names of tasks, the folder with tasks of one's own, the batch size.
        limit: questions of each task, from its head.

    Returns:
        ``version``, and under ``tasks`` for every task and metric the value, its standard error
        and the number of questions, for ``base`` and ``tuned``.

    Raises:
        MedtuneError: there is no such task, or its data cannot be had.
    """
    from importlib import import_module, metadata

    # The package's own types fall short of what it takes.
    lm_eval: Any = import_module("lm_eval")
    huggingface: Any = import_module("lm_eval.models.huggingface")
    folder = section.harness_folder
    if folder and not Path(folder).is_dir():
        raise MedtuneError(f"The folder of tasks {folder} does not exist; check the path.")
    manager = import_module("lm_eval.tasks").TaskManager(include_path=folder)
    _check(section.harness, manager.all_tasks)
    tasks: dict[str, dict[str, dict[str, Any]]] = {}
    for who in WHOS:
        with voices.speaking(who) as model:
            spoken = huggingface.HFLM(
                pretrained=model,
                tokenizer=tokenizer,
                batch_size=section.batch_size,
                device=str(model.device),
                # In bfloat16 it sums log p to steps of a quarter, and options tie.
                softmax_dtype="float32",
            )
            try:
                found = lm_eval.simple_evaluate(
                    model=spoken,
                    tasks=list(section.harness),
                    task_manager=manager,
                    limit=limit,
                    apply_chat_template=True,
                    bootstrap_iters=1000,
                    log_samples=False,
                )
            except (OSError, ValueError, KeyError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise MedtuneError(
                    f"lm-evaluation-harness cannot run {', '.join(section.harness)}: {reason}"
                ) from error
        for task, figures in found["results"].items():
            questions = found["n-samples"].get(task, {}).get("effective", 0)
            for metric, value in figures.items():
                name, _, filtering = metric.partition(",")
                if name.endswith("_stderr") or not isinstance(value, (int, float)) or not filtering:
                    continue
                error = figures.get(f"{name}_stderr,{filtering}")
                label = name if filtering == "none" else f"{name} ({filtering})"
                tasks.setdefault(task, {}).setdefault(label, {})[who] = {
                    "value": float(value),
                    "stderr": float(error) if isinstance(error, (int, float)) else None,
                    "n": questions,
                }
    return {"version": metadata.version("lm_eval"), "limit": limit, "tasks": tasks}


def _check(wanted: Sequence[str], known: Sequence[str]) -> None:
    import difflib

    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise MedtuneError(f"lm-evaluation-harness has no task {name!r}{hint}.", exit_code=2)
