"""``prepare --cluster``: the preparation of ``medtune prepare``, its steps on all nodes through Daft."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import daft

from medtune.data.prepare import Prepared
from medtune.data.prepare import prepare as prepare_data
from medtune.recipe import DataSection
from medtune.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prepare(
    section: DataSection,
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    address: str,
    say: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Read, clean, deduplicate and split on the cluster; the rows are those of ``medtune prepare``.

    Args:
        section: the recipe's ``data`` section.
        run: on a disk that all nodes see.
        tokenizer: the model's own, to count tokens.
        address: of the cluster that Ray is connected to.
        say: told in a sentence what happens.

    Raises:
        MedtuneError: as ``medtune prepare`` does.
    """
    # Of this process, for good: Daft takes one engine and keeps it.
    daft.set_runner_ray(address)
    return prepare_data(section, run, tokenizer, say)
