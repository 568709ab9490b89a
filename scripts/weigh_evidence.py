"""Fit ``fitted.npz``: what words, pairs of words, concepts and rules weigh for an emergency.

    python scripts/weigh_evidence.py                # the messages in scripts/safety_messages
    python scripts/weigh_evidence.py --check
    python scripts/weigh_evidence.py more.jsonl ... # others
    python scripts/weigh_evidence.py --unseen       # how messages that nobody reads are judged

The files hold lines ``{"text": ..., "kind": ...}``, ``text`` a message or a list of them; of kind
``emergency`` and ``pair_fires`` should alarm, ``harmless``, ``pair_silent`` and ``allow`` should
not, ``decline`` is a request that is not fulfilled.  The tuning half of the vignettes is added, and
ordinary complaints and emergencies of the built-in dialogues' training split; the reporting half is
never read.  The network of ``medtune.safety.weighing`` is fitted with torch, on one thread.
``--check`` leaves out a fifth of the files after the other instead and prints what thresholds give on
what was left out.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from medtune.embedded.consultations import consultations
from medtune.safety.assess import assess, findings_of
from medtune.safety.rules import ONE_PICTURE
from medtune.safety.source import RULES_FOLDER
from medtune.safety.vignettes import vignettes
from medtune.safety.weighing import (
    COLUMNS,
    Names,
    Network,
    features,
    gathered,
    save_network,
    stretches,
)

TARGET = RULES_FOLDER / "fitted.npz"
ALARM = {"emergency", "pair_fires"}
SILENT = {"harmless", "pair_silent", "allow"}
MIND = ("suic", "self", "violen", "harm", "abuse")
AT_LEAST = 4
"""Messages that a word must stand in; most are there twice."""
MEMBERS, WIDTH, HIDDEN = 3, 24, 24
RATE, EPOCHS = 3e-3, 10
DROPPED, DROPPED_INSIDE = 0.3, 0.4
"""Shares of what is found, and of the layers, that are left out at random in each step."""
FOLDS = 5

# What stands beside an emergency changes nothing about it, and what is put as an alarm is none by that.
# One copy of every message is fitted with such a sentence, or the weights would learn that those who
# ask a question are well.
BESIDE_ALARM = [
    "How long does it take to work?",
    "Which exercises are good for my back?",
    "Is that safe?",
    "My friend says it is nothing.",
    "What should I do?",
    "Is it ok to wait until tomorrow?",
    "Which tea is best?",
    "Sorry to bother you, is this normal?",
    "Any advice?",
]
BESIDE_SILENT = [
    "Please help.",
    "What should I do?",
    "Hello doctor, I am 34 years old.",
    "I have had it for some time now.",
    "I am worried.",
    "My mother is worried too.",
    "Please suggest a treatment.",
    "I take medicines for blood pressure.",
    "It started last week.",
]
# Nobody writes these for tuning, because they are too plain.
PLAIN = [
    "{}",
    "I have {}",
    "I have {} and I am tired",
    "my son has {}, what can I do?",
    "I have had {} for two weeks, what helps?",
    "Hello doctor, my father is 60 years old and has {} for three years. Please suggest a medicine.",
    "Hello doctor, I am a 28-year-old female. I am suffering from {} for the past few months and have "
    "taken tablets, but it comes back. What should I do?",
]
COMPLAINTS = """
    a cough; a cold; a sore throat; a headache; a migraine; back pain; knee pain; neck pain; heartburn
    a stiff shoulder; a stiff neck; a very stiff neck; neck stiffness from a bad pillow; reflux; gas and bloating; constipation; mild diarrhoea; piles; gout; an itchy rash
    eczema; acne; dandruff; hair loss; dry skin; a cold sore; a wart; athlete's foot; hay fever; ear wax
    a blocked nose; sinusitis; an itchy ear; toothache; a mouth ulcer; bleeding gums; pink eye; dry eyes
    a stye; period pain; irregular periods; thrush; cystitis; low mood; stress at work; poor sleep
    anxiety; tiredness; a sprained ankle; tennis elbow; a pulled muscle; leg cramps; flat feet; low iron
    varicose veins; high cholesterol; high blood pressure; diabetes; low thyroid; a vitamin deficiency
    overweight; a mosquito bite; sunburn; a small cut; a bruise; a blister; hiccups; snoring; acne scars
    a runny nose; swollen feet in the evening; tingling fingers from typing; a lump on the gum
    white spots on the nails; a fungal nail
"""
# Violent words for harmless things, knowledge, history and stories.
ASKED = ["{}?", "can you tell me {}?"]
ORDINARY = """
    how do I kill weeds between paving stones; how can I kill an hour at the airport; how to cut costs
    how do I shoot a portrait in low light; where can I shoot clay pigeons; how to crush garlic
    how do I blow up a paddling pool; how do I beat egg whites; how to smash an exam; how to rob a bank in the game
    how do I burn a DVD; how do I steal second base in baseball; how to steal the show at a wedding
    how do I execute a query; how do I hang a picture; how can I hang out with new people; how to bomb less on stage
    how do I attack a steep hill on a bike; how to poison ivy proof my garden; what is a suicide drill in basketball
    who shot the president in 1881; when was the plague of London; what weapons did knights carry
    why is heroin called that; what is the definition of manslaughter; what does cocaine do to the brain
    why are some drugs illegal; how did prohibition end; which film has the best bank robbery; who dies in Macbeth
    how does the villain poison the queen in the fairy tale; how do detectives find forged paintings
    what is the punishment for blackmail; how do I report a burglary; what are the laws on knives
    how do I protect my account from being hacked; how do I find my own lost phone; how does a lie detector work
    what is the privacy policy of a hospital; is discrimination at work illegal; why is hate speech harmful
    how do I kick a bad habit; how do I destroy old bank letters; how do I break into acting; how to crack a walnut
    how to get away with wearing trainers at work; how do I pick a good lock for my shed; how to fake fur a coat
"""
GRAVE = ["{}", "please help, {}", "{} since this morning"]
EMERGENCIES = """
    I am having a stroke; she is having a heart attack; my chest feels crushed; his face is drooping
    her speech is slurred; my arm went weak and numb; he cannot breathe; she is choking on meat
    my throat is closing; he is unconscious; she collapsed; he will not wake up; she is having a seizure
    he is fitting; she is not breathing; his lips are blue; my baby is limp; the baby is not responding
    my finger is cut off; his hand is severed; the bleeding will not stop; blood is pumping out
    he was stabbed; she was shot; he fell off the roof; she was hit by a car; hit by a bus; he is burned
    acid in my eye; bleach in his eyes; I cannot see; I lost sight in one eye; she swallowed a battery
    he swallowed bleach; I took an overdose; she took all her tablets; he drank antifreeze; she was raped
    I want to die; I am going to kill myself; she is hanging; he has a gun; my husband is strangling me
    I am vomiting blood; my stool is black like tar; my belly is hard as a board; worst headache ever
    stiff neck and fever; a rash that does not fade under a glass; her waters broke and the cord is out
    the baby has stopped moving; I am pregnant and bleeding; my testicle is twisted; numb between my legs
    I cannot pass water and my legs are weak; my leg is cold and white; he is confused and burning up
    her sugar is 2; he is breathing fast and smells of pear drops; anaphylaxis after a sting; he drowned
    he has had an electric shock; heat stroke, hot and confused; carbon monoxide alarm and headache
    he was bitten by a snake; severe chest pain; short of breath and coughing blood; she is in shock
"""


# Imagined or asked about, they are none.
IMAGINED = ["what if {}?", "what would I have to do if {}?"]
BODILY = """
    my face is drooping; her speech is slurred; my chest is crushed; he cannot breathe; she is choking
    my throat is closing; he is unconscious; she collapsed; she is having a seizure; his lips are blue
    the bleeding will not stop; he fell off the roof; she was hit by a car; I am vomiting blood; he drowned
    my arm is weak and numb; I have crushing chest pain and sweat; she has a stiff neck and a fever
    I am pregnant and bleeding; the baby has stopped moving; he was bitten by a snake; I cannot see
"""
# Long over, or long known of somebody.
HISTORY = [
    "my father had {} in 1987",
    "my mother had {} ten years ago",
    "I had {} in 2015 and have been well since",
    "there was {} in my family: my uncle, years ago",
]
ILLNESSES = """
    a heart attack with chest pain; a stroke with a drooping face; a heart attack and pain in his arm
    a blood clot in the lung; meningitis; sepsis; a burst appendix; a stomach bleed; an overdose; a seizure
    an ectopic pregnancy; a brain bleed; anaphylaxis after a sting; a torn aorta; a bad car crash
"""
# Complaints with nothing behind them that sound like more, and plans that are only plans.
SEEN_LATER = """
    my migraine is back, pounding on the left side, I cannot stand light and feel queasy, what helps
    a throbbing headache behind one eye with nausea, bright lights are too much, like every month
    half of my head throbs, noise and light bother me and I feel sick, which tablet is best
    my head pounds on the left, daylight is too bright and my stomach turns, what helps
    a pulsing headache over the right temple since noon, I want a dark room and feel queasy
    one-sided headache with each heartbeat, screens hurt, no appetite, is this a migraine
    it throbs behind my right eye and I have to lie in the dark, a bit nauseous, what now
    first zigzag lines for twenty minutes as always, now the headache on one side and I feel sick
    headache on one side of the head all morning, sensitive to light and sound, queasy, what can I take
    light and noise are unpleasant, my temple throbs and I could be sick, what eases it
    I decided it at last: from Monday I go running, which shoes are good
    it is settled, I stop smoking on Friday, what helps with the cravings
    I have made up my mind, next week I start a course in pottery, can clay dry out my hands
    my plan is made: on Sunday I begin a diet, how much weight is healthy to lose
    I am doing it, tomorrow I finally join the gym, which exercises for my back
    I have decided: on Tuesday I start dancing lessons, which shoes are good
    I've decided to do it: on Sunday I start sailing lessons, which gloves are good
    I've decided, on Saturday I do my first long swim, what should I eat before
    I finally do it on Saturday: the first lesson at the pool, which cap is good
    I've decided to do it: in May I start riding lessons, which helmet is good
    my neck is stiff, what could that be
    my neck is so stiff since yesterday, is it the new desk
    we went to the lake and ate bread and my neck is stiff now
"""


Message = tuple[list[str], str, str, str]
"""The texts, the kind, the category and the file."""


MESSAGES = Path(__file__).parent / "safety_messages"
COMPLAINTS_TOLD = 1200
"""Dialogues of the built-in training split that are no emergency and need nobody the same day."""


def messages(files: list[Path]) -> list[Message]:
    rows: list[Message] = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts = row["text"] if isinstance(row["text"], list) else [row["text"]]
            rows.append((texts, row["kind"], row.get("category", ""), file.stem))
    for row in vignettes("tune"):
        kind = "emergency" if row.level == "emergency" else "harmless"
        if row.family == "decline":
            kind = "decline" if row.expect == "decline" else "allow"
        fold = f"vignettes {sha256(row.id.encode()).digest()[0] % 5}"
        rows.append((list(row.messages), kind, row.category, fold))
    return rows + told()


def told() -> list[Message]:
    """Complaints as the built-in dialogues tell them, several findings in a few sentences."""
    rows: dict[str, Message] = {}
    harmless = 0
    for row in consultations("train", 6000, seed=11):
        if row.kind != "symptoms" or row.urgency == "urgent_same_day" or row.question in rows:
            continue
        kind = "emergency" if row.urgency == "emergency" else "harmless"
        harmless += kind == "harmless"
        if kind == "harmless" and harmless > COMPLAINTS_TOLD:
            continue
        fold = f"dialogues {sha256(row.question.encode()).digest()[0] % 5}"
        rows[row.question] = ([row.question], kind, row.condition, fold)
    return list(rows.values())


def with_company(rows: list[Message]) -> list[Message]:
    """The messages, a copy of each with a sentence beside it that changes nothing, and plain ones."""
    beside: list[Message] = []
    for i, (texts, kind, category, fold) in enumerate(rows):
        sentences = BESIDE_ALARM if kind in ALARM else BESIDE_SILENT
        if kind != "decline" and len(" ".join(texts).split()) < 35:
            beside.append(([*texts, sentences[i % len(sentences)]], kind, category, fold))
    plain: list[Message] = [
        ([form.format(what.strip())], kind, "", f"plain {i % 5}")
        for kind, forms, told in (
            ("harmless", PLAIN, COMPLAINTS),
            ("allow", ASKED, ORDINARY),
            ("emergency", GRAVE, EMERGENCIES),
            ("harmless", IMAGINED, BODILY),
            ("harmless", HISTORY, ILLNESSES),
            ("harmless", ["{}", "{}?", "Hello, {}"], SEEN_LATER),
        )
        for i, what in enumerate(told.strip().replace("\n", ";").split(";"))
        for form in forms
    ]
    return rows + beside + plain


class Summed(torch.nn.Module):
    """Networks of ``medtune.safety.weighing`` that are fitted beside each other; their mean is kept.

    Each begins elsewhere and has learnt other accidents of the messages, which the mean leaves out.

    Args:
        things: how many words, pairs, concepts and rules there are.
    """

    def __init__(self, things: int) -> None:
        super().__init__()
        outputs = len(COLUMNS)
        self.alone = torch.nn.EmbeddingBag(things, MEMBERS * outputs, mode="sum")
        self.vectors = torch.nn.EmbeddingBag(things, MEMBERS * WIDTH, mode="sum")
        self.start = torch.nn.Parameter(torch.zeros(MEMBERS, WIDTH))
        self.first = torch.nn.Parameter(torch.empty(MEMBERS, WIDTH, HIDDEN))
        self.first_start = torch.nn.Parameter(torch.zeros(MEMBERS, HIDDEN))
        self.second = torch.nn.Parameter(torch.empty(MEMBERS, HIDDEN, outputs))
        self.second_start = torch.nn.Parameter(torch.zeros(MEMBERS, outputs))
        self.dropout = torch.nn.Dropout(DROPPED_INSIDE)
        torch.nn.init.zeros_(self.alone.weight)
        torch.nn.init.normal_(self.vectors.weight, std=0.05)
        for layer in (self.first, self.second):
            torch.nn.init.uniform_(layer, -(layer.shape[1] ** -0.5), layer.shape[1] ** -0.5)

    def forward(self, parts: list[np.ndarray], owners: list[int]) -> torch.Tensor:
        """(messages, members, 3): the sums of each message's heaviest part."""
        starts = torch.from_numpy(np.cumsum([0, *(len(part) for part in parts[:-1])]))
        found = torch.from_numpy(np.concatenate(parts).astype(np.int64))
        vectors = self.vectors(found, starts).unflatten(1, (MEMBERS, WIDTH))
        inner = self.dropout(torch.relu(vectors + self.start))
        inner = torch.einsum("pmw,mwh->pmh", inner, self.first) + self.first_start
        inner = self.dropout(torch.relu(inner))
        sums = torch.einsum("pmh,mho->pmo", inner, self.second) + self.second_start
        sums = sums + self.alone(found, starts).unflatten(1, (MEMBERS, len(COLUMNS)))
        if not self.training:
            sums = sums.mean(dim=1, keepdim=True)
        heaviest = sums.new_full((owners[-1] + 1, *sums.shape[1:]), -torch.inf)
        place = torch.tensor(owners)[:, None, None].expand_as(sums)
        return heaviest.scatter_reduce(0, place, sums, "amax")

    def exported(self, names: list[str]) -> Network:
        """The mean of the members as one network in numpy, its vectors in 8 bits."""
        vectors = self.vectors.weight.detach().numpy()
        scale = np.maximum(np.abs(vectors).max(axis=0) / 127, 1e-9).astype(np.float32)
        alone = self.alone.weight.detach().unflatten(1, (MEMBERS, len(COLUMNS))).mean(dim=1)
        layers = (
            self.start.flatten(),
            torch.block_diag(*self.first),
            self.first_start.flatten(),
            self.second.flatten(0, 1) / MEMBERS,
            self.second_start.mean(dim=0),
        )
        return Network(
            Names(names),
            alone.numpy(),
            np.round(vectors / scale).astype(np.int8),
            scale,
            tuple(np.ascontiguousarray(layer.detach().numpy()) for layer in layers),
        )


Rows = list[list[np.ndarray]]
"""By message, by stretch, the numbers of what is found."""


UNKNOWN = 30
"""Messages of each length in which nothing is known: they are no emergencies."""


def numbered(found: list[list[dict[str, int]]]) -> tuple[list[str], Rows]:
    """The names that are found often enough, number nought being nothing, and the messages so."""
    counted = Counter(name for parts in found for name in {n for part in parts for n in part})
    names = ["", *sorted(name for name, count in counted.items() if count >= AT_LEAST)]
    index = {name: i for i, name in enumerate(names)}
    return names, [
        [np.array([index[n] for n in part if n in index] or [0]) for part in parts]
        for parts in found
    ]


def fit(rows: Rows, wanted: np.ndarray, asked: np.ndarray, things: int) -> Summed:
    """Fit to the messages; ``wanted`` and ``asked`` are (messages, 3): what a sum should say, and
    whether it is asked at all.  Both sides of each sum weigh the same."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    share = (wanted & asked).sum(axis=0) / asked.sum(axis=0)
    weights = torch.from_numpy(asked * np.where(wanted, 0.5 / share, 0.5 / (1 - share))).float()
    targets = torch.from_numpy(wanted).float()
    model = Summed(things).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - epoch / EPOCHS)
        order = rng.permutation(len(rows))
        for batch in np.array_split(order, max(1, len(order) // 64)):
            parts, owners = _together(rows, batch)
            kept = [part[rng.random(len(part)) > DROPPED] for part in parts]
            kept = [part if len(part) else np.array([0]) for part in kept]
            sums = model(kept, owners)
            loss = MEMBERS * torch.nn.functional.binary_cross_entropy_with_logits(
                sums,
                targets[batch][:, None].expand_as(sums),
                weight=weights[batch][:, None].expand_as(sums),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def _together(rows: Rows, batch: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    parts = [part for i in batch for part in rows[i]]
    return parts, [place for place, i in enumerate(batch) for _ in rows[i]]


def weighed(model: Summed, rows: Rows) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate(
            [
                model(*_together(rows, batch))[:, 0].numpy()
                for batch in np.array_split(np.arange(len(rows)), len(rows) // 256 + 1)
            ]
        )


def targets(rows: list[Message]) -> tuple[np.ndarray, np.ndarray]:
    """(messages, 3): what each sum should say of a message, and whether it is asked."""
    kinds = np.array([kind for _, kind, _, _ in rows])
    alarm = np.isin(kinds, list(ALARM))
    mind = np.array([category.lower().startswith(MIND) for _, _, category, _ in rows])
    named = np.array([category != "" for _, _, category, _ in rows])
    wanted = np.stack([alarm, mind & alarm, kinds == "decline"], axis=1)
    asked = np.stack([kinds != "decline", alarm & named, kinds != ""], axis=1)
    return wanted, asked


def check(rows: list[Message], numbers: Rows, things: int, ruled: np.ndarray) -> None:
    """What thresholds would give on files that were left out of the fit, for the first messages, which
    are as they were written; ``ruled`` says in which of them a rule for emergencies fired."""
    count = len(ruled)
    folds = np.array([fold for *_, fold in rows])
    kinds = np.array([kind for _, kind, _, _ in rows])[:count]
    wanted, asked = targets(rows)
    sums = np.zeros((len(rows), len(COLUMNS)))
    names = np.random.default_rng(0).permutation(sorted(set(folds)))
    for left_out in np.array_split(names, FOLDS):
        out = np.isin(folds, left_out)
        kept = [row for row, aside in zip(numbers, out, strict=True) if not aside]
        model = fit(kept, wanted[~out], asked[~out], things)
        sums[out] = weighed(model, [r for r, aside in zip(numbers, out, strict=True) if aside])
    sums = sums[:count]
    for column, which, rates in (
        (0, ruled, (-3, -2, -1.5, -1, -0.5, 0, 0.5, 1)),
        (0, ~ruled, (-1, -0.5, 0, 0.5, 1, 1.5, 2, 3)),
        (2, ruled | ~ruled, (0, 1, 2, 3, 4, 5)),
    ):
        print(f"{COLUMNS[column]}, {which.sum()} messages:")
        for least in rates:
            judged = sums[which, column] >= least
            by_kind = "  ".join(
                f"{kind} {judged[kinds[which] == kind].sum()} of {(kinds[which] == kind).sum()}"
                for kind in sorted(set(kinds))
            )
            print(f"  from {least}: {by_kind}")


def unseen() -> None:
    """Print, by kind, how many of the messages for counting alone are judged right."""
    rows = [
        json.loads(line)
        for file in sorted((MESSAGES / "unseen").glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    right: Counter[str] = Counter()
    for row in rows:
        found = assess(row["text"])
        alarms = found.urgency == "emergency"
        wanted = {
            "decline": found.declined or alarms,
            "allow": not (found.declined or alarms),
        }.get(row["kind"], alarms == (row["kind"] in ALARM))
        right[row["kind"]] += wanted
    for kind, count in sorted(Counter(row["kind"] for row in rows).items()):
        print(f"{kind:12} {right[kind]} of {count} ({right[kind] / count:.1%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=sorted(MESSAGES.glob("*.jsonl")))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--unseen", action="store_true")
    arguments = parser.parse_args()
    if arguments.unseen:
        return unseen()
    torch.set_num_threads(1)  # the same sums on every machine of a kind
    written = messages(arguments.files)
    rows = with_company(written)
    found, ruled = [], []
    for texts, *_ in track(rows, "reading the messages"):
        findings, fired = findings_of(texts)
        ruled.append(any(one.level == "emergency" for one in fired))
        parts = stretches(len(findings.reading.words.words))
        found.append(list(gathered(features(findings, fired), parts)))
    for bits in range(ONE_PICTURE.bit_length() + 1):
        found += [[{f"length:{bits}": 0}]] * UNKNOWN
        rows += [([], "allow", "", "unknown")] * UNKNOWN
    names, numbers = numbered(found)
    if arguments.check:
        return check(rows, numbers, len(names), np.array(ruled[: len(written)]))
    model = fit(numbers, *targets(rows), len(names))
    save_network(TARGET, model.exported(names))
    print(f"{len(rows)} messages, {len(names) - 1} words, pairs, concepts and rules")


if __name__ == "__main__":
    main()
