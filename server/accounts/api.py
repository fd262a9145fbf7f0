"""Tickets over HTTP."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Schema

from server.accounts import binding, throttle, tickets

router = Router()


class TicketOut(Schema):
    """A ticket for one socket: the first frame is `{"t":"auth","ticket":…}`. `expires_in` is in seconds."""

    ticket: str
    expires_in: float


@router.post("/ws-ticket/", response=TicketOut, summary="A ticket for one WebSocket")
def ws_ticket(request: HttpRequest) -> dict[str, Any]:
    """Single use. A viewer on another origin needs neither a cookie nor a listed origin with it."""
    throttle.spend("ticket", request.auth.pk, per_minute=settings.LIMITS.requests_per_minute)
    ticket = tickets.issue(request.auth, session_key=binding.key_of(request))
    return {"ticket": ticket, "expires_in": settings.LIMITS.ticket_seconds}
