"""What the rest of the server asks of dispatch; the work is in `enrolment` and `sessions`."""

from server.dispatch.enrolment import Application, enrol, issue_enrol_token, set_state
from server.dispatch.sessions import SessionOver, accept, beat, leave, note_ready, take_seat

__all__ = [
    "Application",
    "SessionOver",
    "accept",
    "beat",
    "enrol",
    "issue_enrol_token",
    "leave",
    "note_ready",
    "set_state",
    "take_seat",
]
