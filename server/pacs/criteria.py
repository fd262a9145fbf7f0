"""What may be looked for in an archive, and how it is asked (QIDO-RS, PS3.18, 8.3.4).

A search that would match half of the archive is refused here: it costs the archive dearly, and it shows a person
patients whom they did not ask for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from server.pacs.errors import SearchTooWide
from server.pacs.findings import is_uid

LEAST_LETTERS = 3
LONGEST = 64
_WILD = frozenset("*?")
_DAY = r"(\d{4})-?(\d{2})-?(\d{2})"
_DATES = re.compile(rf"{_DAY}(?:(?:\.\.|-){_DAY})?|{_DAY}-|-{_DAY}", re.ASCII)
_TAGS = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "accession": "AccessionNumber",
    "uid": "StudyInstanceUID",
}


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a person typed. `*` stands for any letters and `?`, a space or ^ for one; `date` is a day, or two with ..
    between."""

    patient_id: str = ""
    patient_name: str = ""
    accession: str = ""
    date: str = ""
    uid: str = ""

    def filters(self) -> dict[str, str]:
        """The keys of the query.

        Raises:
            SearchTooWide: nothing, or too little, narrows it down; or something in it cannot be looked for.
        """
        found = {tag: text for name, tag in _TAGS.items() if (text := _checked(name, getattr(self, name).strip()))}
        if not found:
            raise SearchTooWide("Name a patient, a patient's number, an accession number or a StudyInstanceUID.")
        # Orthanc does not undo %5E and %20; and a person types a space where the name has a caret.
        found = {tag: text.replace("^", "?").replace(" ", "?") for tag, text in found.items()}
        if name := found.get("PatientName"):
            # Archives compare the whole name; a person types how it begins.
            found["PatientName"] = name if "*" in name else f"{name}*"
        if self.date.strip():
            found["StudyDate"] = _dates(self.date.strip())
        return found


def _checked(name: str, text: str) -> str:
    if not text:
        return ""
    if name == "uid":
        if not is_uid(text):
            raise SearchTooWide("uid: a StudyInstanceUID has digits and dots only.")
        return text
    # A backslash stands between several values.
    if len(text) > LONGEST or "\\" in text or not text.isprintable():
        raise SearchTooWide(f"{name}: at most {LONGEST} letters, none of them a backslash.")
    is_wild = name == "patient_name" or bool(_WILD.intersection(text))
    letters = sum(letter.isalnum() for letter in text)
    # One Chinese or Korean letter says as much as three Latin ones.
    weight = letters + 2 * sum(letter.isalpha() and ord(letter) > 0x2E80 for letter in text)
    if is_wild and weight < LEAST_LETTERS:
        raise SearchTooWide(f"{name}: with at least {LEAST_LETTERS} letters or digits beside the wildcards.")
    return text


def _dates(text: str) -> str:
    """A date or a range as QIDO-RS writes it."""
    match = _DATES.fullmatch(text)
    if match is None:
        raise SearchTooWide("date: a day such as 2026-01-31, or two with .. between them.")
    numbers = match.groups()
    first, last, since, until = ("".join(part or "" for part in numbers[at : at + 3]) for at in (0, 3, 6, 9))
    if since or until:
        return f"{since}-{until}"
    return f"{first}-{last}" if last else first
