from __future__ import annotations

from collections import Counter

from medtune.embedded.knowledge import load_knowledge

KNOWLEDGE = load_knowledge()


def test_there_are_enough_conditions_and_specialties() -> None:
    assert len(KNOWLEDGE.conditions) >= 60
    assert len({c.specialist for c in KNOWLEDGE.conditions.values()}) >= 12


def test_every_condition_is_complete_and_refers_to_what_exists() -> None:
    for condition in KNOWLEDGE.conditions.values():
        assert condition.specialist in condition.accepted_specialists
        assert set(condition.accepted_specialists) <= KNOWLEDGE.specialties.keys()
        assert set(condition.findings) <= KNOWLEDGE.findings.keys()
        assert condition.icd10[0].isalpha()
        assert condition.icd10[1:3].isdigit()
        assert condition.urgency in {"self_care", "routine", "urgent_same_day", "emergency"}
        assert len(condition.self_care) >= 3
        assert condition.precautions
        assert condition.seek_help
        assert condition.red_flags
        assert condition.synonyms
        assert condition.source.organisation
        assert condition.source.topic


def test_an_emergency_begins_with_the_call_for_help() -> None:
    for condition in KNOWLEDGE.conditions.values():
        if condition.urgency == "emergency":
            first = condition.self_care[0]
            assert "call" in first, condition.name
            assert "emergency" in first, condition.name


def test_no_two_conditions_share_a_name() -> None:
    names = Counter(n.lower() for c in KNOWLEDGE.conditions.values() for n in c.names)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_finding_has_several_lay_wordings_and_no_wording_in_two_splits() -> None:
    owners: dict[str, str] = {}
    for finding in KNOWLEDGE.findings.values():
        assert len(finding.wordings["train"].lay) >= 3
        for split, wordings in finding.wordings.items():
            assert wordings.says
            for text in (*wordings.lay, *wordings.says):
                assert owners.setdefault(text.lower(), split) == split, text


def test_every_finding_belongs_to_a_condition() -> None:
    used = {f for c in KNOWLEDGE.conditions.values() for f in c.findings}
    assert used == KNOWLEDGE.findings.keys()
