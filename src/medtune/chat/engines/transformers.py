"""An engine on transformers: the adapter on its base, not merged, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from queue import Empty
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from medtune.chat.engines import Decoding, Ended, Leaving
from medtune.errors import MedtuneError
from medtune.model.load import load_base, load_tokenizer, load_tuned
from medtune.model.template import Message, end_tokens, prompt_ids
from medtune.recipe import ModelSection
from medtune.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TransformersEngine:
    """One answer at a time; a second request waits for the first."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.name = name
        self.context: int = model.config.max_position_embeddings
        self._model = model
        self._tokenizer = tokenizer
        self._busy = Lock()
        self._adapter_on = True

    def without_adapter(self, name: str) -> TransformersEngine | None:
        """The base under the adapter as an engine of its own, on the same weights.

        It waits while this one answers, and the other way round.

        Returns:
            None where there is no adapter to leave out.
        """
        if not hasattr(self._model, "disable_adapter"):
            return None
        base = TransformersEngine(self._model, self._tokenizer, name)
        base._busy, base._adapter_on = self._busy, False
        return base

    def count(self, messages: list[Message]) -> int:
        return len(prompt_ids(self._tokenizer, messages))

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Generator[str, None, Ended | None]:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

        cancelled = Leaving(stop)

        class Cancelled(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                return torch.full((len(input_ids),), cancelled.is_set(), device=input_ids.device)

        with self._busy:
            # A short timeout, so that a failure of the worker is noticed and not waited for.
            streamer = TextIteratorStreamer(
                self._tokenizer,  # type: ignore[arg-type]
                skip_prompt=True,
                skip_special_tokens=True,
                timeout=0.5,
            )
            failure: list[BaseException] = []
            ended: list[Ended] = []

            def generate() -> None:
                try:
                    ended.append(
                        self._generate(
                            messages, settings, streamer, StoppingCriteriaList([Cancelled()])
                        )
                    )
                except BaseException as error:  # handed to the reader, who raises it
                    failure.append(error)
                    streamer.end()

            worker = Thread(target=generate, daemon=True)
            worker.start()
            try:
                while not cancelled.is_set():  # what was made meanwhile is not wanted any more
                    try:
                        yield next(streamer)
                    except Empty:
                        if not worker.is_alive():
                            break
                    except StopIteration:
                        break
            finally:
                cancelled.set()  # a reader that leaves frees the model
                worker.join()
            if failure:
                raise MedtuneError(f"The model failed while answering: {failure[0]}") from failure[
                    0
                ]
            return ended[0] if ended else None

    def _generate(
        self, messages: list[Message], settings: Decoding, streamer: Any, stopping: Any
    ) -> Ended:
        import torch
        from transformers import LogitsProcessorList

        ids = torch.tensor([prompt_ids(self._tokenizer, messages)], device=self._model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if settings.temperature > 0:
            sampling = {
                "do_sample": True,
                "temperature": settings.temperature,
                "top_p": settings.top_p,
            }
        if settings.schema is not None:
            from medtune.chat.constrained import SchemaMask

            ends = sorted(end_tokens(self._tokenizer))
            vocabulary = self._model.config.vocab_size
            mask = SchemaMask(self._tokenizer, settings.schema, vocabulary, ids.shape[1], ends)
            sampling["logits_processor"] = LogitsProcessorList([mask])
        if settings.seed is not None:
            torch.manual_seed(settings.seed)
        without = nullcontext() if self._adapter_on else self._model.disable_adapter()
        with torch.inference_mode(), without:
            output = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=settings.max_new_tokens,
                eos_token_id=sorted(end_tokens(self._tokenizer)),
                pad_token_id=self._tokenizer.pad_token_id,
                stopping_criteria=stopping,
                streamer=streamer,
                **sampling,
            )
        wrote = output[0, ids.shape[1] :].tolist()
        finished = bool(wrote) and wrote[-1] in end_tokens(self._tokenizer)
        return Ended(len(wrote) - finished, not finished and len(wrote) >= settings.max_new_tokens)


def open_engine(run: Run | None) -> TransformersEngine:
    """The engine of a trained run, or of the untuned embedded base for None.

    Raises:
        MedtuneError: the run has not been trained, or its base cannot be loaded.
    """
    section = run.recipe().model if run else ModelSection()
    model = load_tuned(run) if run else load_base(section)
    name = run.name if run else "embedded base, untuned"
    return TransformersEngine(model, load_tokenizer(section), name)
