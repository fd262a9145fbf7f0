"""Who speaks, and tickets, over HTTP."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.middleware.csrf import get_token
from ninja import Router, Schema

from server.accounts import binding, throttle, tickets

router = Router()


class TicketOut(Schema):
    """A ticket for one socket: the first frame is `{"t":"auth","ticket":…}`. `expires_in` is in seconds."""

    ticket: str
    expires_in: float


class SessionOut(Schema):
    """`csrf_token` goes into X-CSRFToken with every change; it is empty for an API token, which needs none."""

    username: str
    name: str
    csrf_token: str


@router.get("/session/", response=SessionOut, summary="Who you are here")
def session(request: HttpRequest) -> dict[str, Any]:
    """For a viewer that is no page of ours: whether the person is signed in, and what changes need.

    Only pages of this origin and of ALLOWED_ORIGINS can read the answer.
    """
    person = request.auth
    needs_token = getattr(request, "api_token", None) is None
    return {
        "username": person.get_username(),
        "name": person.get_full_name() or person.get_username(),
        "csrf_token": get_token(request) if needs_token else "",
    }


@router.post("/ws-ticket/", response=TicketOut, summary="A ticket for one WebSocket")
def ws_ticket(request: HttpRequest) -> dict[str, Any]:
    """Single use. A viewer on another origin needs neither a cookie nor a listed origin with it."""
    throttle.spend("ticket", request.auth.pk, per_minute=settings.LIMITS.requests_per_minute)
    ticket = tickets.issue(request.auth, session_key=binding.key_of(request))
    return {"ticket": ticket, "expires_in": settings.LIMITS.ticket_seconds}
