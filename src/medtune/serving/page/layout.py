"""The page as Gradio draws it, and which button calls what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medtune.chat.patient import Patient
from medtune.chat.pipeline import DISCLAIMER
from medtune.chat.transcript import card, to_json, to_markdown, with_headings
from medtune.errors import MedtuneError
from medtune.safety.replies import countries
from medtune.serving.feedback import REASONS
from medtune.serving.page.card import card_html
from medtune.serving.page.comparing import Comparing, Comparison
from medtune.serving.page.talking import Talking
from medtune.serving.page.talks import Talks
from medtune.serving.service import Service

if TYPE_CHECKING:
    import gradio as gr

EXAMPLES = (
    "I have a burning feeling behind the breastbone and it is worse when I lie down after supper.",
    "My left big toe has been red, hot and very painful since last night. Which doctor should I see?",
    "I have had itchy, watery eyes and sneezing fits for two weeks. What can I do?",
    "What is a migraine and what helps against it?",
)
_LONGEST = 8000  # characters of a message
# On a narrow screen the card may be out of sight; the number to call must not be.
_SHOW_EMERGENCY = """() => setTimeout(
    () => document.querySelector(".urgency.emergency")?.scrollIntoView({block: "nearest"}), 100)"""
_SAVE = """(text, name, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type}));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    return [text, name, type];
}"""


def build(service: Service) -> gr.Blocks:
    """The page of a served model as a Gradio app, not started."""
    import gradio as gr

    with gr.Blocks(title="Medtune", analytics_enabled=False) as page:
        gr.HTML(
            f"<header><h1>Medtune</h1><p>You are talking to <strong>{_escaped(service.name)}</strong>.</p>"
            f"<p id='disclaimer' role='note'>{DISCLAIMER}</p></header>",
            elem_id="top",
        )
        with gr.Tabs():
            with gr.Tab("Talk"):
                _talk_tab(page, service)
            if service.open_base is not None:
                with gr.Tab("Compare with the base"):
                    _compare_tab(service)
    return page


def _talk_tab(page: gr.Blocks, service: Service) -> None:
    import gradio as gr

    talking = Talking(service)
    state, again = gr.State(Talks()), gr.State(False)
    owner = gr.BrowserState("", storage_key="medtune", secret="medtune")
    with gr.Row(elem_id="talk"):
        with gr.Column(scale=3, min_width=200, elem_id="conversations"):
            new = gr.Button("New conversation", variant="primary")
            search = gr.Textbox(label="Search", placeholder="Words in a conversation", max_lines=1)
            chosen = gr.Radio([], label="Conversations", elem_id="talks")
            keep = gr.Checkbox(
                label="Keep my conversations",
                info="On this server, until you take the tick away. Without it they are forgotten "
                "when you close the page.",
                visible=service.store is not None,
            )
            delete_all = gr.Button("Delete all")
            with gr.Group(visible=False) as really:
                gr.Markdown("Delete all conversations for good?", container=True)
                with gr.Row():
                    yes = gr.Button("Yes, delete all", variant="stop", min_width=60)
                    no = gr.Button("No", min_width=60)
        with gr.Column(scale=8, min_width=320, elem_id="middle"):
            chat = gr.Chatbot(
                label="Conversation",
                show_label=False,
                height="58vh",
                placeholder="Describe your symptoms: what, since when, how old you are.",
                sanitize_html=True,
                buttons=["copy"],
                elem_id="chat",
            )
            with gr.Row(elem_id="ask"):
                box = gr.Textbox(
                    label="Your message",
                    placeholder="For example: I have had a sore throat for three days.",
                    lines=1,
                    max_lines=6,
                    max_length=_LONGEST,
                    scale=6,
                    autofocus=True,
                )
                send = gr.Button("Send", variant="primary", scale=1, min_width=80)
            with gr.Row(elem_id="actions"):
                stop = gr.Button("Stop", size="md", variant="stop", min_width=60)
                retry = gr.Button("Retry", size="md", min_width=60)
                edit = gr.Button("Edit", size="md", min_width=60)
                clear = gr.Button("Clear", size="md", min_width=60)
            with gr.Row(elem_id="opinion", visible=service.store is not None):
                helpful = gr.Button("Helpful", size="md", min_width=60)
                unhelpful = gr.Button("Not helpful", size="md", min_width=60)
            with gr.Group(visible=False) as why:
                reason = gr.Radio(
                    [(label, key) for key, label in REASONS.items()],
                    label="What is wrong with the answer?",
                )
                correction = gr.Textbox(
                    label="What should it have said? (optional)",
                    lines=2,
                    max_length=_LONGEST,
                    info="What you send is kept on this server together with the conversation.",
                )
                tell = gr.Button("Send feedback")
            with gr.Accordion("About you (optional)", open=False):
                with gr.Row():
                    age = gr.Number(label="Age in years", minimum=0, maximum=120, min_width=100)
                    sex = gr.Dropdown(
                        [("Not said", ""), ("Female", "female"), ("Male", "male")],
                        value="",
                        label="Sex",
                        min_width=100,
                    )
                    country = gr.Dropdown(
                        [("Not said", ""), *((code, code) for code in countries())],
                        value=service.country.upper() if service.country else "",
                        label="Country",
                        info="For the emergency number",
                        min_width=100,
                        allow_custom_value=True,
                    )
                pregnant = gr.Checkbox(label="I am pregnant")
                medicines = gr.Textbox(
                    label="Medicines", placeholder="ibuprofen, metformin", max_lines=1
                )
            gr.Examples(
                [[text] for text in EXAMPLES], inputs=box, label="Examples", elem_id="examples"
            )
        with gr.Column(scale=5, min_width=280, elem_id="side"):
            shown_card = gr.HTML(card_html(None), elem_id="card", padding=False)
            with gr.Accordion("Take it with you", open=False), gr.Row():
                as_summary = gr.Button("Summary for the doctor", min_width=120)
                as_markdown = gr.Button("Markdown", min_width=80)
                as_json = gr.Button("JSON", min_width=80)
    paper = [gr.Textbox(visible="hidden", show_label=False) for _ in range(3)]

    def drawn(talks: Talks, where: str, searched: str) -> tuple[Any, ...]:
        """Everything that depends on which conversation is open."""
        found = talks.found(searched)
        listed = next((id for _, id in found if id == talks.open.id), None)
        return (
            talks,
            talks.open.shown(),
            talking.card(talks, where),
            gr.Radio(choices=found, value=listed),
        )

    everything = [state, chat, shown_card, chosen]
    known = [state, country, search]

    def start(token: str, talks: Talks | None) -> tuple[Any, ...]:
        talks = talks or Talks()
        if token and service.store is not None:
            talks.load(service.store, token)
        return bool(talks.owner), *drawn(talks, service.country, "")

    def ask(
        talks: Talks | None, where: str, searched: str, message: str,
        years: float | None, gender: str, expects: bool, takes: str,
    ) -> tuple[Any, ...]:  # fmt: skip
        about = Patient(years, gender or "", bool(expects), takes or "").sentence()
        talks = talks or Talks()
        talking.ask(talks, message, about, where)
        return "", False, gr.Group(visible=False), *drawn(talks, where, searched)

    def reply(
        talks: Talks | None, where: str, searched: str, anew: bool
    ) -> Iterator[tuple[Any, ...]]:
        talks = talks or Talks()
        try:
            for _ in talking.reply(talks, where, again=anew):
                yield gr.skip(), talks.open.shown(), gr.skip(), gr.skip()
        except MedtuneError as error:
            gr.Warning(str(error))
        yield drawn(talks, where, searched)

    def ask_again(talks: Talks | None, where: str, searched: str) -> tuple[Any, ...]:
        talks = talks or Talks()
        talks.stop()
        question = talks.open.take_back()
        if question:
            talking.ask(talks, question, talks.open.about, where)
        return True, *drawn(talks, where, searched)

    def take_back(talks: Talks | None, where: str, searched: str) -> tuple[Any, ...]:
        talks = talks or Talks()
        talks.stop()
        return talks.open.take_back(), *drawn(talks, where, searched)

    def changed(does: Any) -> Any:
        """A handler that does something to the conversations and draws them again."""

        def handler(talks: Talks | None, where: str, searched: str, *more: Any) -> Any:
            talks = talks or Talks()
            does(talks, *more)
            return drawn(talks, where, searched)

        return handler

    def keep_or_not(talks: Talks | None, wanted: bool) -> str:
        talks = talks or Talks()
        if service.store is None:
            return ""
        if wanted:
            talks.start_keeping(service.store)
        else:
            talks.stop_keeping(service.store)
        return talks.owner

    def rate(verdict: str) -> Any:
        def handler(talks: Talks | None, because: str = "", better: str = "") -> Any:
            if talking.rate((talks or Talks()), verdict, because or "", better):
                gr.Info("Thank you, it is noted.")
            else:
                gr.Info("There is no answer to rate yet.")
            return gr.Group(visible=False), None, ""

        return handler

    def written(kind: str) -> Any:
        def handler(talks: Talks | None, where: str) -> tuple[str, str, str]:
            talk = (talks or Talks()).open
            conversation = talk.conversation(service.system)
            if kind == "json":
                return to_json(conversation, model=service.name), "conversation.json", "text/json"
            if kind == "summary" and (found := card(conversation, where)):
                from medtune.chat.exports import to_markdown as summary

                return summary(found), "summary-for-my-doctor.md", "text/markdown"
            return to_markdown(conversation, service.name), "conversation.md", "text/markdown"

        return handler

    # Nothing of this is for programs; they have the API under /v1.
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    slow: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.load(start, [owner, state], [keep, *everything], **quick)
    about_you = [age, sex, pregnant, medicines]
    answers: list[Any] = []
    for trigger in (box.submit, send.click):
        asked = trigger(ask, [*known, box, *about_you], [box, again, why, *everything], **quick)
        asked.then(None, None, None, js=_SHOW_EMERGENCY)
        answers.append(asked.then(reply, [*known, again], everything, **slow))
    asked = retry.click(ask_again, known, [again, *everything], **quick)
    answers.append(asked.then(reply, [*known, again], everything, **slow))
    ending: dict[str, Any] = {**quick, "cancels": answers}
    # What is drawn stands after the end of the answer: a piece still on its way undoes nothing.
    draw = changed(lambda talks: None)
    stop.click(changed(Talks.stop), known, everything, **ending).then(
        draw, known, everything, **quick
    )
    edit.click(take_back, known, [box, *everything], **ending)
    clear.click(
        changed(lambda talks: talks.clear(service.store)), known, everything, **ending
    ).then(draw, known, everything, **quick)
    chat.clear(changed(lambda talks: talks.clear(service.store)), known, everything, **ending)
    new.click(changed(Talks.new), known, everything, **ending).then(
        draw, known, everything, **quick
    )
    chosen.input(changed(Talks.choose), [*known, chosen], everything, **ending)
    search.change(draw, known, everything, **quick)
    keep.input(keep_or_not, [state, keep], owner, **quick)
    delete_all.click(lambda: gr.Group(visible=True), None, really, **quick)
    no.click(lambda: gr.Group(visible=False), None, really, **quick)
    yes.click(
        changed(lambda talks: talks.clear_all(service.store)), known, everything, **ending
    ).then(lambda: gr.Group(visible=False), None, really, **quick)
    rated = [why, reason, correction]
    helpful.click(rate("up"), state, rated, **slow)
    unhelpful.click(lambda: gr.Group(visible=True), None, why, **quick)
    tell.click(rate("down"), [state, reason, correction], rated, **slow)
    for button, kind in ((as_summary, "summary"), (as_markdown, "markdown"), (as_json, "json")):
        button.click(written(kind), [state, country], paper, **quick).then(
            None, paper, None, js=_SAVE
        )


def _compare_tab(service: Service) -> None:
    import gradio as gr

    comparing = Comparing(service)
    state = gr.State(None)
    gr.Markdown(
        "The tuned model and its untuned base answer the same question. You do not see which is "
        "which until you have voted."
    )
    with gr.Row():
        box = gr.Textbox(
            label="Question for both", lines=1, max_lines=6, max_length=_LONGEST, scale=6
        )
        go = gr.Button("Ask both", variant="primary", scale=1, min_width=80)
    with gr.Row():
        panes = []
        for name in "AB":
            with gr.Column(min_width=300, elem_classes="pane"):
                gr.Markdown(f"## Answer {name}")
                panes.append(gr.Markdown("", elem_id=f"answer-{name.lower()}", min_height=160))
    with gr.Row():
        choices = {
            "left": "A is better", "right": "B is better", "both": "Both are good",
            "neither": "Neither is good",
        }  # fmt: skip
        votes = {
            key: gr.Button(text, interactive=False, min_width=100) for key, text in choices.items()
        }
    verdict = gr.Markdown("", elem_id="verdict")

    def buttons(active: bool) -> list[Any]:
        return [gr.Button(interactive=active) for _ in votes]

    def ask(question: str) -> tuple[Any, ...]:
        if not question.strip():
            return None, "", "", "", *buttons(False)
        return Comparison(question.strip()), "", "", "", *buttons(False)

    def reply(comparison: Comparison | None) -> Iterator[tuple[Any, ...]]:
        if comparison is None:
            return
        try:
            for _ in comparing.ask(comparison, service.country):
                left, right = (
                    with_headings(comparison.answers[side])
                    for side in (comparison.left, comparison.right)
                )
                yield left, right, *buttons(comparison.may_vote)
        except MedtuneError as error:
            gr.Warning(str(error))

    def vote(choice: str) -> Any:
        def handler(comparison: Comparison | None) -> tuple[Any, ...]:
            if comparison is None or not comparing.vote(comparison, choice):
                return "", *buttons(False)
            named = {"tuned": "the tuned model", "base": "its base"}
            said = f"A was {named[comparison.left]}, B was {named[comparison.right]}. Thank you."
            return said, *buttons(False)

        return handler

    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    row = list(votes.values())
    for trigger in (box.submit, go.click):
        trigger(ask, box, [state, *panes, verdict, *row], queue=False, **hidden).then(
            reply, state, [*panes, *row], **hidden
        )
    for key, button in votes.items():
        button.click(vote(key), state, [verdict, *row], queue=False, **hidden)


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
