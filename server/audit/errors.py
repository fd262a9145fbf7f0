"""What the audit log refuses.

AppendOnly   somebody tried to change or delete what was written
NotAnId      a free text was given where only an id belongs
"""


class AppendOnly(Exception):
    """Entries and seals are written once."""

    def __init__(self) -> None:
        super().__init__("The audit log is append-only.")


class NotAnId(ValueError):
    """The log names rows by their ids; it has no room for names, descriptions or anything of a patient."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name} is no id")
