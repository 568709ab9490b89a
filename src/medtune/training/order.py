"""The order of the training rows: shuffled, rows of similar length in one batch, the longest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import SFTTrainer

_BATCHES_TOGETHER = 50


class GroupedByLength(Sampler[int]):
    """Row numbers of an epoch, in an order that depends on the seed and the epoch alone.

    The sampler of transformers draws from the global random state, which a resumed training
    reaches in another state than an uninterrupted one; then rows are repeated and left out.

    Args:
        lengths: tokens of every row.
        batch: rows of one optimizer step.
        seed: with the epoch's number, decides the order.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

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


class OrderedTrainer(SFTTrainer):
    """TRL's trainer with the order above, and LoRA+; it has no setting for either.

    Before the first validation, which may take minutes, the longest batch is tried.

    Args:
        plus_ratio: LoRA+: how many times faster an adapter's B learns than its A.
    """

    def __init__(self, *args: Any, plus_ratio: float | None = None, **kwargs: Any) -> None:
        self._plus_ratio = plus_ratio
        super().__init__(*args, **kwargs)

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

    def _get_train_sampler(self, train_dataset: object = None) -> Sampler[int]:
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]  # type: ignore[index]
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return GroupedByLength(lengths, batch, self.args.seed)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        if self.is_in_train and self.state.global_step == 0:
            self._try_longest_batch()
        return super().evaluate(*args, **kwargs)

    def _try_longest_batch(self) -> None:
        """Forward and backward: what does not fit in memory fails here.  Nothing is learnt."""
        rows = islice(self._get_train_sampler(), self.args.train_batch_size)
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
