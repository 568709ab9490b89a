"""``train``: an adapter for a base, from prepared rows, with TRL's trainer."""

from __future__ import annotations

import logging
import math
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.rows import Row, read_split
from medtune.errors import MedtuneError
from medtune.model.adapter import AdapterStart, lora_config
from medtune.model.load import load_base, load_tokenizer, resolve_dtype
from medtune.model.memory import peak_memory
from medtune.recipe import Recipe, TrainingSection
from medtune.run import Run, disk_error, whole
from medtune.training import checkpoints
from medtune.training.examples import Example, examples, to_dataset
from medtune.training.failures import cause_of
from medtune.training.tracking import check_installed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTConfig


_FSDP = {
    "version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "reshard_after_forward": True,
    # Checkpoints that any number of workers can go on from, in the folder of the first.
    "state_dict_type": "FULL_STATE_DICT",
    "cpu_ram_efficient_loading": True,
}
"""A layer's weights are together only while it is computed."""


@dataclass(frozen=True)
class Trained:
    """What a training came to; losses are mean cross-entropies per trained token."""

    steps: int
    seconds: float
    tokens: int
    """Tokens of the training rows that were seen, without padding."""
    tokens_per_second: float
    peak_memory_bytes: int
    train_loss: float
    validation_loss_before: float
    validation_loss: float
    """Of the weights that were kept: the best evaluation."""
    trainable_parameters: int
    total_parameters: int
    """Of the base, without the adapter."""
    stopped_early: bool


def train(
    recipe: Recipe,
    run: Run,
    *,
    resume: bool = False,
    watchers: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train the adapter and leave it in the run.

    In a process group (``WORLD_SIZE`` above 1) every process calls this with a run of its own that
    holds the same rows; together they take the same steps as one process would, and the first
    one's run gets the result.

    Args:
        recipe: the whole recipe.
        run: prepared; gets ``checkpoints/``, ``metrics.jsonl``, ``samples.jsonl``, ``training.json``,
            ``adapter/``.
        resume: go on from the newest whole checkpoint, if there is one.
        watchers: callbacks of the trainer that see every step and checkpoint.

    Raises:
        MedtuneError: the rows do not fit the model, the disk or the memory is full, the loss is
            ruined, the checkpoint was made with other settings, or the training was interrupted
            (then the sentence says how to go on).
    """
    check_installed(recipe.tracking.report_to)
    tokenizer = load_tokenizer(recipe.model)
    length = recipe.data.max_length
    validation = read_split(run, "validation")
    rows = {
        "train": examples(tokenizer, read_split(run, "train"), length),
        "validation": examples(tokenizer, validation, length),
    }
    try:
        checkpoint = checkpoints.newest(run) if resume else None
        if checkpoint is None:
            _start_afresh(run)
            checkpoints.remember(recipe, run)
        else:
            checkpoints.check_same(recipe, run)
        # One process talks; the others would say the same.  Of a sharded model all are needed.
        talks = rank() == 0 or is_sharded(recipe)
        asked = validation[: recipe.training.samples if talks else 0]
        return _train(recipe, run, tokenizer, rows, asked, checkpoint, watchers)
    except OSError as error:
        raise disk_error(error, run.folder) from error


def _train(
    recipe: Recipe,
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    rows: dict[str, list[Example]],
    asked: list[Row],
    checkpoint: Path | None,
    more_watchers: Sequence[TrainerCallback],
) -> Trained:
    _quiet_libraries()
    import torch
    from safetensors import SafetensorError
    from transformers import EarlyStoppingCallback, set_seed
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    from medtune.training.callbacks import (
        Interruption,
        LossGuard,
        MetricsLog,
        ProgressBar,
        evaluations_since_best,
        keep_until,
    )
    from medtune.training.documents import use_documents_attention
    from medtune.training.head import score_answers_only
    from medtune.training.order import OrderedTrainer
    from medtune.training.samples import SampleAnswers

    # Before the model: the adapter's start is drawn from this seed.
    set_seed(recipe.training.seed)
    adapted = recipe.adapter.method != "none"
    # A weight in bfloat16 is too coarse to learn in small steps: 0.1% of it rounds to nothing.
    precision = recipe.model.dtype if adapted else "float32"
    sharded = is_sharded(recipe)
    model = load_base(recipe.model.model_copy(update={"dtype": precision}), sharded=sharded)
    if not torch.cuda.is_available():
        use_documents_attention(model)
    earlier = keep_until(run.metrics_file, checkpoints.step_of(checkpoint)) if checkpoint else []
    log = MetricsLog(run.metrics_file, before=earlier[-1]["seconds"] if earlier else 0.0)
    guard = LossGuard(next((e["eval_loss"] for e in earlier if "eval_loss" in e), None))
    progress, interruption = ProgressBar(), Interruption()
    watchers: list[Any] = [log, guard, interruption, *([progress] if rank() == 0 else [])]
    if asked:
        if checkpoint:
            keep_until(run.samples_file, checkpoints.step_of(checkpoint))
        say = progress.say if rank() == 0 else lambda _: None
        watchers.append(SampleAnswers(asked, tokenizer, run.samples_file, say))
    if recipe.training.early_stopping:
        patience = EarlyStoppingCallback(recipe.training.early_stopping)
        patience.early_stopping_patience_counter = evaluations_since_best(earlier)
        watchers.append(patience)
    watchers += more_watchers  # last: the log of this step is written by then
    trainer: Any = OrderedTrainer(
        model=model,
        args=_arguments(recipe, run, resuming=checkpoint is not None),
        train_dataset=to_dataset(rows["train"]),
        eval_dataset=to_dataset(rows["validation"]),
        processing_class=tokenizer,
        peft_config=lora_config(recipe.adapter, model) if adapted else None,
        callbacks=watchers,
        plus_ratio=recipe.adapter.plus_ratio,
    )
    if sharded and not trainer.is_fsdp_enabled:
        raise MedtuneError(
            "cluster.sharding fsdp splits the weights over GPUs, and a worker has none; give each "
            "one in cluster.resources_per_worker, or set cluster.sharding to none."
        )
    if not torch.cuda.is_available():
        score_answers_only(trainer.model.get_base_model() if adapted else trainer.model)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    for parameter in trainer.model.parameters():
        # TRL keeps the adapter of a quantised base in bfloat16, where a small step of the
        # optimizer rounds to nothing.  The adapter is small: train it in float32.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    start = AdapterStart(trainer.model, recipe.adapter, run.checkpoints / "start")
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    counted = trainer.model.get_base_model() if adapted else trainer.model
    # Now: of weights that are split later, 4-bit ones are no longer known as such.
    total = counted.num_parameters() - (trainable if adapted else 0)
    checkpoints.check_room(run, trainable, recipe.training.keep_checkpoints)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:
        raise _interrupted(run, None) from None
    except (OSError, RuntimeError, MemoryError, SafetensorError) as error:
        checkpoints.drop_torn(run)
        raise cause_of(error, recipe, run, trainable) from error
    finally:
        progress.close()
        interruption.restore()
    if guard.reason is not None:
        raise MedtuneError(
            f"{guard.reason}; the adapter of an earlier training, if any, is unchanged. "
            "Try half the training.learning_rate."
        )
    if interruption.at_step is not None:
        raise _interrupted(run, interruption.at_step)
    seconds = log.seconds
    weights = trainer.trained_weights() if sharded else None  # every process has a part of each
    with whole(run.adapter if adapted else run.full_model) as part:
        if adapted:
            start.save(trainer.model, part, weights)
        elif weights is not None:
            dtype = resolve_dtype(recipe.model)
            weights = {name: weight.to(dtype) for name, weight in weights.items()}
            trainer.model.save_pretrained(part, state_dict=weights)
        else:
            trainer.model.to(resolve_dtype(recipe.model)).save_pretrained(part)
        tokenizer.save_pretrained(part)
    trained = _summary(trainer, run, rows["train"], seconds, trainable, total)
    run.write_json(run.training_file, asdict(trained))
    run.write_manifest(
        training={"seed": recipe.training.seed, "dtype": str(resolve_dtype(recipe.model))},
        threads=torch.get_num_threads(),
    )
    return trained


def _arguments(recipe: Recipe, run: Run, *, resuming: bool) -> SFTConfig:
    import torch
    from trl import SFTConfig

    section, gpu, sharded = recipe.training, torch.cuda.is_available(), is_sharded(recipe)
    batch, accumulation = shares(section, world_size())
    dtype = resolve_dtype(recipe.model)
    every = section.evaluate_every if section.evaluate_every < 1 else int(section.evaluate_every)
    return SFTConfig(
        output_dir=str(run.checkpoints),
        num_train_epochs=section.epochs,
        max_steps=section.max_steps or -1,
        learning_rate=section.learning_rate,
        lr_scheduler_type=section.schedule,
        warmup_steps=section.warmup_steps,
        weight_decay=section.weight_decay,
        neftune_noise_alpha=section.neftune_noise,
        max_grad_norm=section.max_grad_norm,
        optim=section.optimizer,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=max(section.batch_size, 8),
        gradient_accumulation_steps=accumulation,
        gradient_checkpointing=section.gradient_checkpointing,
        packing=section.packing,
        eval_packing=False,
        # On a CPU a batch is one row of documents end to end: nothing is computed on padding.
        padding_free=not gpu,
        # The rows were fitted by `prepare` and checked again: nothing is left to cut.
        max_length=recipe.data.max_length if section.packing else None,
        # Few distinct shapes: oneDNN keeps a compiled kernel, and memory for it, per shape.
        pad_to_multiple_of=None if section.packing else 32,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16 and gpu,
        use_cpu=not gpu,
        fsdp=sharded or None,  # type: ignore[arg-type]
        fsdp_config={**_FSDP} if sharded else None,
        dataloader_pin_memory=gpu,
        # Every trained weight takes part in every step; to look for others costs time.
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=not resuming,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=section.keep_checkpoints,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=5,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=recipe.tracking.report_to,
        run_name=recipe.name,
        seed=section.seed,
    )


def _summary(
    trainer: Any, run: Run, rows: list[Example], seconds: float, trainable: int, total: int
) -> Trained:
    import torch

    from medtune.training.callbacks import read_metrics

    state = trainer.state
    log = read_metrics(run.metrics_file)
    validation = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    per_epoch = sum(len(row.input_ids) for row in rows)
    tokens = round(per_epoch * (state.epoch or 0))
    # The peak is of the whole process, so of the demo it is an upper bound.
    peak = peak_memory()
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    return Trained(
        steps=state.global_step,
        seconds=round(seconds, 2),
        tokens=tokens,
        tokens_per_second=round(tokens / seconds, 1),
        peak_memory_bytes=peak,
        train_loss=sum(losses[-5:]) / max(1, len(losses[-5:])) if losses else math.nan,
        validation_loss_before=validation[0],
        validation_loss=min(validation[1:], default=validation[0]),
        trainable_parameters=trainable,
        total_parameters=total,
        stopped_early=state.global_step < state.max_steps,
    )


def world_size() -> int:
    """Processes that train together; 1 outside a process group."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_sharded(recipe: Recipe) -> bool:
    """Whether the weights are split over the processes that train together."""
    return recipe.cluster.sharding == "fsdp" and world_size() > 1


def rank() -> int:
    """Which of them this one is; 0 is the one that saves."""
    return int(os.environ.get("RANK", "0"))


def shares(section: TrainingSection, workers: int) -> tuple[int, int]:
    """Batch size and accumulation of each worker, so that an optimizer step sees the same rows.

    Accumulation is divided first: the micro-batches then stay what they were.

    Raises:
        MedtuneError: the rows of a step cannot be divided by that many workers.
    """
    rows = section.batch_size * section.gradient_accumulation
    if rows % workers:
        raise MedtuneError(
            f"An optimizer step has {rows} rows (training.batch_size x "
            f"training.gradient_accumulation), which {workers} workers cannot share; "
            "choose a batch that they divide, or another number in cluster.workers.",
            exit_code=2,
        )
    each = rows // workers
    batch = max(n for n in range(1, section.batch_size + 1) if each % n == 0)
    return batch, each // batch


def _interrupted(run: Run, step: int | None) -> MedtuneError:
    saved = f" after step {step}, which is saved" if step is not None else ""
    return MedtuneError(
        f"The training was interrupted{saved}; go on with "
        f"`medtune train {run.recipe_file} --resume`."
    )


def _start_afresh(run: Run) -> None:
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    run.metrics_file.unlink(missing_ok=True)
    run.samples_file.unlink(missing_ok=True)


def _quiet_libraries() -> None:
    """Our own progress and sentences are enough; warnings of the libraries stay out."""
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging as transformers_logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    disable_progress_bar()
    transformers_logging.set_verbosity_error()
    for name in ("trl", "accelerate", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
