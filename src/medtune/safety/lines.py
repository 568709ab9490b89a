"""Emergency, crisis and poison lines by country."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lines:
    emergency: str
    crisis: str
    poison: str


_EU = Lines("112", "", "")
LINES: dict[str, Lines] = {
    "US": Lines("911", "988", "1-800-222-1222"),
    "CA": Lines("911", "988", "1-844-764-7669"),
    "GB": Lines("999", "116 123", "111"),
    "IE": Lines("112", "116 123", "01 809 2166"),
    "AU": Lines("000", "13 11 14", "13 11 26"),
    "NZ": Lines("111", "1737", "0800 764 766"),
    "IN": Lines("112", "14416", "1800 116 117"),
    **dict.fromkeys(
        [
            "AT",
            "BE",
            "BG",
            "CZ",
            "DE",
            "DK",
            "ES",
            "FI",
            "FR",
            "GR",
            "HR",
            "HU",
            "IT",
            "LT",
            "LU",
            "LV",
            "NL",
            "PL",
            "PT",
            "RO",
            "SE",
            "SI",
            "SK",
        ],
        _EU,
    ),
}


def emergency_sentence(country: str = "") -> str:
    number = LINES[country].emergency if country in LINES else ""
    call = f"Call {number} now" if number else "Call your local emergency number now"
    return (
        f"{call}. What you describe can be an emergency. Do not drive yourself, and stay with "
        "somebody until help comes."
    )


def crisis_sentence(country: str = "") -> str:
    lines = LINES.get(country)
    crisis = (
        f"call or text {lines.crisis}" if lines and lines.crisis else "call your local crisis line"
    )
    number = lines.emergency if lines else "your local emergency number"
    return (
        f"Please {crisis} now, or {number} if you are in danger. You are not alone, and talking "
        "to somebody helps. If you can, move away from anything you could hurt yourself with and "
        "ask a person you trust to stay with you."
    )
