"""The order of the training rows: shuffled, with rows of similar length in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

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
