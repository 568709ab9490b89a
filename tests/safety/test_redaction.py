"""What identifies a person goes, what only looks like it stays.

The identifiers are made here, with names that stand in no list of the package among them.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.safety.redaction import FINDERS, IDENTIFIERS, hints, redact

FIRST = [
    "Priya",
    "Michael",
    "Fatima",
    "Carlos",
    "Jennifer",
    "Rohit",
    "Olga",
    "Hiroshi",
    "Amara",
    "Liam",
    "Sofia",
    "Yusuf",
    "Ingrid",
    "Kwame",
    "Deepika",
    "Oluwaseun",
    "Tiberiu",
    "Saoirse",
    "Xochitl",
    "Bhuvan",
    "Ewelina",
    "Ngozi",
    "Sanjana",
    "Torvald",
    "Keisha",
    "Zephyrine",
    "Ludovic",
    "Manpreet",
]
LAST = [
    "Sharma",
    "Nguyen",
    "O'Connor",
    "García",
    "Patel",
    "Kowalczyk",
    "Adeyemi",
    "Johansson",
    "Fernández",
    "Yamaguchi",
    "Okoro",
    "Venkataraman",
    "Brzezinski",
    "Haddad",
    "Oyelaran",
    "Thistlewood",
    "Ramanujam",
    "Esposito",
    "Lindqvist",
    "Abernathy",
]
NAME_FRAMES = (
    "Hello doctor, my name is {first} {last} and I have a cough.",
    "I saw Dr. {last} last week about my knee.",
    "Regards,\n{first} {last}",
    "Patient name: {first} {last}. Complaint: cough.",
    "My son {first} has had a fever since yesterday.",
    "Dear {first}, thank you for your question.",
    "Mrs. {last} was told to rest for two weeks.",
    "Name: {first} {last}, 34 years",
    "Thank you. Yours sincerely, Dr. {first} {last}, MBBS",
    "my name is {lower} and my back hurts",
)
STREETS = (
    "14 Rosewood Avenue, Leicester LE2 3AB", "221B Baker Street, London NW1 6XE", "1600 Maple Drive, Springfield, IL 62704",
    "Flat 12, 45 Gandhi Road, Chennai 600028", "7 St Mary's Close", "88 West 3rd Street, Apt 5C", "P.O. Box 4431",
    "32/4 Lake View Layout, Bengaluru 560037", "Lindenstraße 12, 10969 Berlin", "501 Old Mill Lane",
)  # fmt: skip


def _identifiers(seed: int) -> list[tuple[str, str, str]]:
    """Class, identifier, and a sentence that holds it."""
    draw = Random(seed)

    def digits(n: int) -> str:
        return "".join(draw.choice("0123456789") for _ in range(n))

    made: list[tuple[str, str, str]] = []
    for _ in range(100):
        first, last = draw.choice(FIRST), draw.choice(LAST)
        frame = draw.choice(NAME_FRAMES)
        text = frame.format(first=first, last=last, lower=f"{first.lower()} {last.lower()}")
        needle = last if "{last}" in frame else first
        made.append(("NAME", needle.lower() if "{lower}" in frame else needle, text))

        user = f"{first.lower()}{draw.choice(['.', '_', ''])}{digits(2)}"
        host = draw.choice(
            ["gmail.com", "yahoo.co.in", "hospital-mail.org", "outlook.com", "web.de"]
        )
        mail = f"{user}@{host}"
        made.append(
            (
                "EMAIL",
                mail,
                draw.choice(["Write to {}.", "My mail: {} thanks", "({})"]).format(mail),
            )
        )

        phone = draw.choice(
            [
                f"+91 {draw.choice('6789')}{digits(4)} {digits(5)}", f"+1 (415) 555-{digits(4)}",
                f"({draw.randint(201, 989)}) 555-{digits(4)}", f"212-555-{digits(4)}", f"+44 7700 9{digits(5)}",
                f"07700 9{digits(5)}", f"{draw.choice('6789')}{digits(9)}", f"+49 151 {digits(8)}", f"020 7946 0{digits(3)}",
                f"1-646-555-{digits(4)}", f"646.555.{digits(4)}", f"01 42 68 {digits(2)} {digits(2)}",
            ]
        )  # fmt: skip
        made.append(
            ("PHONE", phone, draw.choice(["Call me on {}.", "My number is {}", "{} is my phone, thanks", "Please ring {} after 5."]).format(phone))
        )  # fmt: skip

        made.append(("ADDRESS", draw.choice(STREETS), ""))
        made[-1] = (
            "ADDRESS",
            made[-1][1],
            draw.choice(["I live at {}.", "My address is {}.", "Send it to {}, please."]).format(
                made[-1][1]
            ),
        )

        day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1930, 2020)
        date = draw.choice(
            [f"{day:02}/{month:02}/{year}", f"{year}-{month:02}-{day:02}", f"{day} March {year}", f"March {day}, {year}", f"{day}.{month}.{year}"]
        )  # fmt: skip
        made.append(
            (
                "BIRTH_DATE",
                date,
                draw.choice(
                    [
                        "DOB: {}.",
                        "I was born on {} in Pune.",
                        "Date of birth {}",
                        "My date of birth is {}, please note.",
                    ]
                ).format(date),
            )
        )

        number = draw.choice(
            [digits(8), f"MR-{digits(6)}", f"AB{digits(7)}", f"{digits(3)}-{digits(2)}-{digits(4)}"]
        )
        made.append(
            (
                "RECORD_NUMBER",
                number,
                draw.choice(
                    [
                        "MRN: {}.",
                        "My patient ID is {}.",
                        "Medical record number {}",
                        "SSN {}",
                        "Hospital no. {} please",
                    ]
                ).format(number),
            )
        )
    return made


def test_synthetic_identifiers_are_found() -> None:
    found: dict[str, list[bool]] = {identifier: [] for identifier in IDENTIFIERS}
    missed = []
    for identifier, needle, text in _identifiers(seed=5):
        redacted, spans = redact(text)
        gone = needle not in redacted
        # A number is gone whichever class it was taken for; an address must go whole.
        found[identifier].append(gone and bool(spans))
        if not gone:
            missed.append((identifier, text, redacted))
    recall = {identifier: sum(hits) / len(hits) for identifier, hits in found.items()}
    assert recall["EMAIL"] >= 0.99, missed
    assert recall["PHONE"] >= 0.99, missed
    assert min(recall.values()) >= 0.95, (recall, missed)


def test_an_identifier_gets_the_placeholder_of_its_class() -> None:
    text = (
        "I am Maria Garcia, DOB 12/03/1989, MRN 00482913, call +1 415 555 0134 or mail m.g@web.de."
    )
    redacted, spans = redact(text)
    assert redacted == (
        "I am [NAME], DOB [BIRTH_DATE], MRN [RECORD_NUMBER], call [PHONE] or mail [EMAIL]."
    )
    assert [text[start:end] for _, start, end in spans] == [
        "Maria Garcia", "12/03/1989", "00482913", "+1 415 555 0134", "m.g@web.de",
    ]  # fmt: skip


EPONYMS = """Addison's disease|Alzheimer's disease|Apgar score|Arnold-Chiari malformation|Asperger syndrome|Baker's cyst|
Barrett's oesophagus|Bartholin's cyst|Behcet's disease|Bell's palsy|Berger disease|Bishop score|Boerhaave syndrome|
Bouchard's nodes|Bowen's disease|Braxton Hicks contractions|Bright's disease|Brown-Sequard syndrome|Brudzinski's sign|
Brugada syndrome|Budd-Chiari syndrome|Buerger's disease|Burkitt lymphoma|Castleman disease|Chagas disease|
Charcot-Marie-Tooth disease|Cheyne-Stokes breathing|Christmas disease|Churg-Strauss syndrome|Colles fracture|
Adam's apple|Conn's syndrome|Coombs test|Costen syndrome|Creutzfeldt-Jakob disease|Crohn's disease|Crohn disease|Cushing's syndrome|
Dercum's disease|De Quervain's tenosynovitis|Devic's disease|DiGeorge syndrome|Down syndrome|Down's syndrome|
Dressler syndrome|Duchenne muscular dystrophy|Dupuytren's contracture|Ebstein anomaly|Edwards syndrome|
Ehlers-Danlos syndrome|Eisenmenger syndrome|Epley manoeuvre|Epstein-Barr virus|Erb's palsy|Ewing's sarcoma|Fabry disease|
Fallot's tetralogy|Fanconi anaemia|Felty's syndrome|Foley catheter|Fournier's gangrene|Friedreich's ataxia|
Gardner syndrome|Gaucher disease|Gilbert's syndrome|Glasgow coma scale|Goodpasture syndrome|Gram stain|Graves' disease|
Guillain-Barré syndrome|Hansen's disease|Hashimoto's thyroiditis|Heberden's nodes|Heimlich manoeuvre|
Henoch-Schonlein purpura|Hirschsprung's disease|Hodgkin lymphoma|Hodgkin's lymphoma|Holter monitor|Homans sign|
Horner's syndrome|Hunter syndrome|Huntington's disease|Hurler syndrome|Hutchinson's teeth|Janeway lesions|
Kallmann syndrome|Kaposi's sarcoma|Kartagener syndrome|Kawasaki disease|Kegel exercises|Kernig's sign|
Klinefelter syndrome|Koplik spots|Korsakoff's syndrome|Kussmaul breathing|Lambert-Eaton syndrome|Legionnaires' disease|
Lennox-Gastaut syndrome|Lesch-Nyhan syndrome|Lewy body dementia|Lhermitte's sign|Lou Gehrig's disease|Ludwig's angina|
Lyme disease|Lynch syndrome|Mallory-Weiss tear|Mantoux test|Marfan syndrome|McArdle disease|McBurney's point|
McMurray test|Meckel's diverticulum|Meniere's disease|Menkes disease|Merkel cell carcinoma|Mohs surgery|
Morton's neuroma|Munchausen syndrome|Murphy's sign|Nissen fundoplication|Noonan syndrome|Osgood-Schlatter disease|
Osler's nodes|Paget's disease|Pap smear|Papanicolaou test|Parkinson's disease|Parkinson disease|Patau syndrome|
Perthes disease|Peutz-Jeghers syndrome|Peyronie's disease|Phalen's test|Pierre Robin sequence|Pott's disease|
Prader-Willi syndrome|Prinzmetal angina|Quincke's oedema|Ramsay Hunt syndrome|Raynaud's phenomenon|Reiter's syndrome|
Rett syndrome|Reye's syndrome|Rinne test|Romberg's test|Scheuermann's disease|Schober test|Sheehan's syndrome|
Sjogren's syndrome|Snellen chart|Stevens-Johnson syndrome|Still's disease|Stokes-Adams attack|Sturge-Weber syndrome|
Sydenham's chorea|Takayasu arteritis|Tay-Sachs disease|Tietze syndrome|Tinel's sign|Tourette syndrome|
Trendelenburg position|Trousseau's sign|Turner syndrome|Usher syndrome|Valsalva manoeuvre|Virchow's node|
Von Willebrand disease|Waldenstrom macroglobulinaemia|Weber test|Wegener's granulomatosis|Wernicke's encephalopathy|
Whipple procedure|Widal test|Wilms tumour|Wilson's disease|Wolff-Parkinson-White syndrome|Zenker's diverticulum|
Zollinger-Ellison syndrome|St John's wort|Alice in Wonderland syndrome""".replace("\n", "").split("|")  # fmt: skip
MEDICINES = [
    "Advil",
    "Aleve",
    "Allegra",
    "Ambien",
    "Ativan",
    "Augmentin",
    "Benadryl",
    "Botox",
    "Brufen",
    "Buscopan",
    "Calpol",
    "Celexa",
    "Cialis",
    "Claritin",
    "Combiflam",
    "Concerta",
    "Coumadin",
    "Crestor",
    "Crocin",
    "Cymbalta",
    "Depakote",
    "Diane-35",
    "Diflucan",
    "Dilantin",
    "Dolo-650",
    "Duphaston",
    "Effexor",
    "Eliquis",
    "Evion",
    "Flagyl",
    "Flonase",
    "Glycomet",
    "Humira",
    "Imodium",
    "Inderal",
    "Januvia",
    "Keppra",
    "Klonopin",
    "Lantus",
    "Lasix",
    "Lexapro",
    "Lipitor",
    "Lyrica",
    "Meftal",
    "Mirena",
    "Montair",
    "Mucinex",
    "Nexium",
    "Norvasc",
    "Nurofen",
    "Ozempic",
    "Paxil",
    "Plaquenil",
    "Prozac",
    "Ritalin",
    "Seroquel",
    "Singulair",
    "Symbicort",
    "Synthroid",
    "Tegretol",
    "Tylenol",
    "Valium",
    "Ventolin",
    "Viagra",
    "Voltaren",
    "Warfarin",
    "Wellbutrin",
    "Xanax",
    "Yasmin",
    "Zantac",
    "Zoloft",
    "Zyrtec",
    "Metformin",
    "Ibuprofen",
    "Paracetamol",
    "Amoxicillin",
    "Jardiance",
]


def test_eponyms_and_medicines_stay() -> None:
    assert len(EPONYMS) + len(MEDICINES) >= 200
    frames = (
        "Could this be {}?",
        "My mother has {} since 2010.",
        "{} was ruled out by my doctor.",
        "Hello doctor, {} runs in my family.",
        "I take {} 50 mg twice daily.",
        "The doctor said {} helps.",
    )
    wrong = [
        text
        for word in EPONYMS + MEDICINES
        for text in (frame.format(word) for frame in frames)
        if redact(text)[1]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "My blood pressure is 120/80 and pulse 72.",
        "Platelets 250000, WBC 11000, TSH 4.5, LH/FSH 2.1.",
        "On 12-05-2021 I had an MRI, on 2021/06/01 surgery.",
        "Take one tablet 500 mg 1-0-1 for 5 days.",
        "Viral load 10 000 000 copies per ml.",
        "Hello Doctor I am 24 years old. Dear Doctor Please help. Hello Welcome to the forum.",
        "I spoke to my doctor. Risk factors were named.",
        "In an emergency call 911 or 112; Poison Help is 1-800-222-1222.",
        "May I take it in June? Will it hurt? Hope it helps.",
        "I have lived with 2 kinds of pain for years.",
        "MRI. Signs of a stroke. Dr said rest.",
        "It started in St. Louis and San Francisco.",
        "These are signs of:\n- Liver cirrhosis\n- Lupus",
        "My wife is on Prozac. My father Has cancer. My son HIV negative.",
    ],
)
def test_what_only_looks_like_an_identifier_stays(text: str) -> None:
    assert redact(text) == (text, [])


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_the_text_outside_the_spans_is_unchanged(text: str) -> None:
    redacted, spans = redact(text)
    rebuilt, end = "", 0
    for identifier, start, stop in spans:
        assert end <= start < stop <= len(text)
        rebuilt += text[end:start] + f"[{identifier}]"
        end = stop
    assert rebuilt + text[end:] == redacted


@given(st.sampled_from(_identifiers(seed=9)))
def test_redacting_twice_changes_nothing_more(made: tuple[str, str, str]) -> None:
    once, _ = redact(made[2])
    assert redact(once) == (once, [])


# What the sifting patterns could overlook: names that begin with a particle, an initial or all in
# capitals, cues without a space, letters that are not ASCII.
HARD_TO_SIFT = [
    "Rest.\n-- Ramesh Pumar",
    "Regards, de la Cruz",
    "My son JOHN Miller is ill.",
    "My wife A. Smith coughs.",
    "Dr. de Souza said so.",
    "His surname is Kant.",
    "I  am Maria Garcia.",
    "Take care, van Dyk",
    "Grace de la Cruz is my aunt.",
    "patientid AB12345",
    "mrn12345",
    "dob12/03/1990",
    "I live near Flat 4, Rose, Oak Street, London.",
    "We moved to 12 Müller Street.",
    "We moved to 2 Saint-Denis Road.",
]


def test_sifting_by_patterns_overlooks_nothing() -> None:
    made = [text for seed in range(5) for _, _, text in _identifiers(seed)]
    texts = [*made, *HARD_TO_SIFT, *(f"{a} {b}" for a, b in pairwise(made))]
    matches = [np.asarray(pc.match_substring_regex(pa.array(texts), p)) for p, _ in hints()]
    assert all(any(finders & {f} for _, finders in hints()) for f in FINDERS)
    sifted_out = 0
    for row, text in enumerate(texts):
        looked_for = frozenset[str]().union(
            *(finders for (_, finders), m in zip(hints(), matches, strict=True) if m[row])
        )
        sifted_out += len(FINDERS - looked_for)
        assert redact(text, looked_for) == redact(text), (text, sorted(looked_for))
    assert sifted_out > 5 * len(texts)


def test_a_contraction_is_no_name() -> None:
    assert redact("It's my son I'm asking for.") == ("It's my son I'm asking for.", [])
