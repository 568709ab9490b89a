"""Fit ``fitted.tsv``: what words, pairs of words and concepts weigh for an emergency.

    python scripts/weigh_evidence.py                # the messages in scripts/safety_messages
    python scripts/weigh_evidence.py --check
    python scripts/weigh_evidence.py more.jsonl ... # others
    python scripts/weigh_evidence.py --unseen       # how messages that nobody reads are judged

The files hold lines ``{"text": ..., "kind": ...}``, ``text`` a message or a list of them; of kind
``emergency`` and ``pair_fires`` should alarm, ``harmless``, ``pair_silent`` and ``allow`` should
not, ``decline`` is a request that is not fulfilled.  The tuning half of the vignettes is added, and
ordinary complaints and emergencies of the built-in dialogues' training split; the
reporting half is never read, nor is the part of the messages that ``held_back`` keeps for checking.
Three logistic regressions with a squared penalty are fitted: emergency or not, of the mind or of the
body, to be declined or not.  ``--check`` leaves out one file after the other instead and prints what
thresholds would give on what was left out; those in ``weighing.yaml`` are chosen from that table.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from medtune.embedded.consultations import consultations
from medtune.safety.assess import assess, findings_of
from medtune.safety.source import RULES_FOLDER
from medtune.safety.vignettes import vignettes
from medtune.safety.weighing import COLUMNS, SCALE, features

TARGET = RULES_FOLDER / "fitted.tsv"
ALARM = {"emergency", "pair_fires"}
SILENT = {"harmless", "pair_silent", "allow"}
MIND = ("suic", "self", "violen", "harm", "abuse")
AT_LEAST = 5
"""Messages that a word must stand in; most are there twice."""
PENALTY = {"emergency": 3.0, "crisis": 5.0, "decline": 1.5}
SMALLEST = 8
"""Weights nearer to nothing than this are not kept."""

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
    a stiff shoulder; reflux; gas and bloating; constipation; mild diarrhoea; piles; gout; an itchy rash
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


Message = tuple[list[str], str, str, str]
"""The texts, the kind, the category and the file."""


MESSAGES = Path(__file__).parent / "safety_messages"
COMPLAINTS_TOLD = 1200
"""Dialogues of the built-in training split that are no emergency and need nobody the same day."""


def held_back(text: str) -> bool:
    """Whether a message is kept for checking: three in ten, by a hash."""
    return sha256(text.encode()).digest()[0] < 77


def messages(files: list[Path]) -> list[Message]:
    rows: list[Message] = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts = row["text"] if isinstance(row["text"], list) else [row["text"]]
            if not held_back(" ".join(texts)):
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
        )
        for i, what in enumerate(told.strip().replace("\n", ";").split(";"))
        for form in forms
    ]
    return rows + beside + plain


def fit(inputs: Any, wanted: np.ndarray, penalty: float) -> np.ndarray:
    """Weights, then the intercept: both sides count as much, a squared penalty."""
    sign = np.where(wanted, 1.0, -1.0)
    share = np.where(wanted, 0.5 / wanted.mean(), 0.5 / (~wanted).mean())
    size = inputs.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (inputs @ weights[:size] + weights[size])
        slope = -sign * share / (1 + np.exp(np.clip(margin, -30, 30)))
        value = (share * np.logaddexp(0, -margin)).sum() + penalty / 2 * (weights**2).sum()
        return float(value), np.append(inputs.T @ slope, slope.sum()) + penalty * weights

    return minimize(loss, np.zeros(size + 1), jac=True, method="L-BFGS-B").x


def targets(rows: list[Message]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By column: which messages are fitted, and which of them are wanted."""
    kinds = np.array([kind for _, kind, _, _ in rows])
    alarm = np.isin(kinds, list(ALARM))
    mind = np.array([category.lower().startswith(MIND) for _, _, category, _ in rows])
    named = np.array([category != "" for _, _, category, _ in rows])
    return {
        "emergency": (alarm | np.isin(kinds, list(SILENT)), alarm),
        "crisis": (alarm & named, mind),
        "decline": (kinds != "", kinds == "decline"),
    }


def check(rows: list[Message], matrix: Any, count: int) -> None:
    """What each pair of thresholds gives on files that were left out of the fit; the first ``count``
    messages are as they were written."""
    found = [assess(texts) for texts, *_ in rows[:count]]
    hard = np.array([a.urgency == "emergency" for a in found])
    declined = np.array([a.declined for a in found])
    folds = np.array([fold for *_, fold in rows])
    kinds = np.array([kind for _, kind, _, _ in rows])
    scores = {name: np.zeros(len(rows)) for name in COLUMNS}
    for name, (used, wanted) in targets(rows).items():
        for fold in sorted(set(folds)):
            train = used & (folds != fold)
            *weights, start = fit(matrix[train], wanted[train], PENALTY[name])
            scores[name][folds == fold] = matrix[folds == fold] @ np.array(weights) + start
    kinds = kinds[:count]
    scores = {name: score[:count] for name, score in scores.items()}
    alarm, silent = (np.isin(kinds, list(k)) for k in (ALARM, SILENT))
    print("the file must hold no weights: the rules alone are compared")
    for low in (-2, -1.5, -1, -0.5):
        for high in (0.5, 0.75, 1, 1.25, 1.5, 2):
            judged = (hard & (scores["emergency"] > low)) | (scores["emergency"] > high)
            rates = "  ".join(
                f"{kind} {judged[kinds == kind].mean():.3f}" for kind in sorted(ALARM | SILENT)
            )
            print(f"{low} {high}: {judged[alarm].mean():.3f} {judged[silent].mean():.3f}  {rates}")
    for high in (0, 0.5, 1, 1.5, 2, 2.5):
        judged = declined | (scores["decline"] > high)
        rates = "  ".join(f"{k} {judged[kinds == k].mean():.3f}" for k in sorted(set(kinds)))
        met = (judged | hard)[kinds == "decline"].mean()
        print(f"decline {high}: {met:.3f} declined or answered by a rule  {rates}")


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
    TARGET.write_text("", encoding="utf-8")
    written = messages(arguments.files)
    rows = with_company(written)
    read = [findings_of(texts) for texts, *_ in rows]
    found = [{n for n, _ in features(f, None, range(len(f.reading.words.words)))} for f in read]
    counted = Counter(name for names in found for name in names)
    names = sorted(name for name, count in counted.items() if count >= AT_LEAST)
    place = {name: i for i, name in enumerate(names)}
    cells = [(i, place[n]) for i, names in enumerate(found) for n in names if n in place]
    rows_at, columns_at = zip(*cells, strict=True)
    matrix: Any = csr_matrix((np.ones(len(cells)), (rows_at, columns_at)), (len(rows), len(names)))
    if arguments.check:
        check(rows, matrix, len(written))
    fitted = np.stack(
        [
            fit(matrix[used], wanted[used], PENALTY[name])
            for name, (used, wanted) in targets(rows).items()
        ],
        axis=1,
    )
    whole = np.round(SCALE * fitted).astype(int)
    whole[:-1][np.abs(whole[:-1]) < SMALLEST] = 0
    lines = ["# word, pair of words or concept\t" + "\t".join(COLUMNS)]
    for name, weights in zip(["", *names], [whole[-1], *whole[:-1]], strict=True):
        if any(weights):
            lines.append("\t".join([name, *map(str, weights)]))
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(rows)} messages, {len(lines) - 2} weights")


if __name__ == "__main__":
    main()
