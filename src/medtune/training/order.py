"""The order of the training rows, and the same numbers from it for any number of workers.

An optimizer step takes the next ``batch_size x gradient_accumulation`` rows of one order, however
many workers share them.  What could make a difference is pinned down here: the order depends on
seed and epoch alone, dropout on seed, step and micro-batch, a last batch that is too short to be
shared is filled up with blank rows that have no loss, and the validation loss is a mean over tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from medtune.training.examples import NOT_TRAINED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers.trainer_utils import EvalLoopOutput

_BATCHES_TOGETHER = 50


class GroupedByLength(Sampler[int]):
    """Row numbers of an epoch, in an order that depends on the seed and the epoch alone.

    The sampler of transformers draws from the global random state, which a resumed training
    reaches in another state than an uninterrupted one; then rows are repeated and left out.

    Args:
        lengths: tokens of every row.
        batch: rows of one optimizer step.
        seed: with the epoch's number, decides the order.
        multiple: the row behind the last one is appended until the number of rows is a multiple
            of this; see ``with_blank_row``.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, *, multiple: int = 1) -> None:
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self._blanks = -len(lengths) % multiple
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths) + self._blanks

    def __iter__(self) -> Iterator[int]:
        rng = Random(f"{self._seed} {self._epoch}")
        rows = list(range(len(self._lengths)))
        rng.shuffle(rows)
        window = _BATCHES_TOGETHER * self._batch
        batches: list[list[int]] = []
        for start in range(0, len(rows), window):
            part = sorted(rows[start : start + window], key=self._lengths.__getitem__, reverse=True)
            batches += [part[i : i + self._batch] for i in range(0, len(part), self._batch)]
        # Only the last batch may be short, or the batches behind it would shift.
        short = [batch for batch in batches if len(batch) < self._batch]
        whole = [batch for batch in batches if len(batch) == self._batch]
        rng.shuffle(whole)
        # The longest batch goes first: what does not fit in memory fails at once.
        if whole:
            longest = max(range(len(whole)), key=lambda i: self._lengths[whole[i][0]])
            whole[0], whole[longest] = whole[longest], whole[0]
        for batch in (*whole, *short):
            yield from batch
        yield from [len(self._lengths)] * self._blanks


def with_blank_row(rows: Dataset, count: int = 1) -> Dataset:
    """The rows and ``count`` more behind them, two tokens long and without a loss."""
    from datasets import concatenate_datasets

    def blank(row: dict[str, Any]) -> dict[str, Any]:
        cut = {name: value[:2] for name, value in row.items() if isinstance(value, list)}
        changed = {"labels": [NOT_TRAINED] * 2, "seq_lengths": [2]}
        return {**row, **cut, **{name: v for name, v in changed.items() if name in row}}

    first = rows.select([0]).map(blank, load_from_cache_file=False)
    return concatenate_datasets([rows, *[first] * count])


class _Epochs(TrainerCallback):
    """Says which epoch begins.

    The trainer says so itself, but not through the wrappers that several processes and the rows
    that a resumed training leaves out lay around the order together; then the rest of a later epoch
    came in the order of the first.
    """

    def __init__(self, trainer: OrderedTrainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._trainer.begin_epoch(int(state.epoch or 0))


class OrderedTrainer(SFTTrainer):
    """TRL's trainer with the order above, and LoRA+; it has no setting for either.

    Before the first validation, which may take minutes, the longest batch is tried.

    Args:
        plus_ratio: LoRA+: how many times faster an adapter's B learns than its A.
    """

    def __init__(self, *args: Any, plus_ratio: float | None = None, **kwargs: Any) -> None:
        self._plus_ratio = plus_ratio
        self._micro_batch = (-1, 0)
        super().__init__(*args, **kwargs)
        self._order: GroupedByLength | None = None
        self.add_callback(_Epochs(self))
        self._validated = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        if self.args.world_size > 1:
            self.train_dataset: Any = with_blank_row(self.train_dataset)  # type: ignore[arg-type]
            together = self.args.eval_batch_size * self.args.world_size
            rows: Any = self.eval_dataset
            self.eval_dataset: Any = with_blank_row(rows, -len(rows) % together)

    def create_optimizer(self, model: Any = None) -> Any:
        if self._plus_ratio is None or self.optimizer is not None:
            return super().create_optimizer(model)
        from peft.optimizers import create_loraplus_optimizer
        from torch.optim import AdamW

        self.optimizer = create_loraplus_optimizer(
            self.model,  # type: ignore[arg-type]
            AdamW,
            lr=self.args.learning_rate,
            loraplus_lr_ratio=self._plus_ratio,
            weight_decay=self.args.weight_decay,
        )
        return self.optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """A micro-batch, with the random numbers that are its own: whoever computes it, and
        whatever was computed before, its dropout is the same."""
        step, before = self._micro_batch
        place = before + 1 if step == self.state.global_step else 0
        self._micro_batch = (self.state.global_step, place)
        number = place * self.args.world_size + self.args.process_index
        torch.manual_seed(
            Random(f"{self.args.seed} {self.state.global_step} {number}").getrandbits(63)
        )
        return super().training_step(*args, **kwargs)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().compute_loss(model, inputs, *args, **kwargs)
        if not self.model.training:  # type: ignore[union-attr]
            tokens = (inputs["labels"][:, 1:] != NOT_TRAINED).sum()
            loss = found[0] if isinstance(found, tuple) else found
            self._validated += torch.stack([loss.detach().double() * tokens, tokens.double()])
        return found

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The trainer averages over batches, whose tokens differ in number; this is per token."""
        self._validated.zero_()
        output = super().evaluation_loop(*args, **kwargs)
        loss, tokens = self.accelerator.reduce(self._validated.clone(), "sum").tolist()  # type: ignore[union-attr]
        name = f"{kwargs.get('metric_key_prefix', 'eval')}_loss"
        if tokens and name in (output.metrics or {}):
            output.metrics[name] = loss / tokens  # type: ignore[index]
        return output

    def trained_weights(self) -> dict[str, Tensor]:
        """The weights that are trained, whole and in main memory, of a model that FSDP has split.

        All processes take part, and each gets them.
        """
        return {
            name: (part.full_tensor() if isinstance(part, DTensor) else part).detach().cpu()
            for name, part in self.model.named_parameters()  # type: ignore[union-attr]
            if part.requires_grad
        }

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Of a split model the trainer would put the whole base together to save an adapter."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        # A process whose folder for it is not there takes the checkpoint for none, and does not
        # join the others when they load the best one.
        folder = output_dir or str(self.args.output_dir)
        Path(folder).mkdir(parents=True, exist_ok=True)
        weights = self.trained_weights()
        if self.args.should_save:
            self._save(folder, state_dict=weights)

    def begin_epoch(self, epoch: int) -> None:
        """Let the rows of this epoch come in its order."""
        if self._order is not None:
            self._order.set_epoch(epoch)

    def _get_train_sampler(self, train_dataset: object = None) -> Sampler[int]:
        self._order = self._in_order()
        return self._order

    def _in_order(self) -> GroupedByLength:
        section, workers = self.args, self.args.world_size
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        return GroupedByLength(
            lengths[:-1] if workers > 1 else lengths,
            section.train_batch_size * section.gradient_accumulation_steps * workers,
            section.seed,
            multiple=section.train_batch_size * workers if workers > 1 else 1,
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        if self.is_in_train and self.state.global_step == 0:
            self._try_longest_batch()
        return super().evaluate(*args, **kwargs)

    def _try_longest_batch(self) -> None:
        """Forward and backward: what does not fit in memory fails here.  Nothing is learnt."""
        rows = islice(self._in_order(), self.args.train_batch_size)
        model: Any = self.model_wrapped
        dataset = self.train_dataset
        batch = self._prepare_inputs(self.data_collator([dataset[i] for i in rows]))  # type: ignore[index]
        model.train()
        # The random numbers drawn here are drawn again by the first step.
        with torch.random.fork_rng(), self.compute_loss_context_manager():
            scored = model(**batch, use_cache=False, fused_lm_head=True)
            loss = -scored.log_probs.sum()
        self.accelerator.backward(loss)
        model.zero_grad()
