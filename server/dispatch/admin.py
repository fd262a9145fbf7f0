"""Workers in the admin: who is there, who may work, and tokens for new ones."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from server.dispatch.enrolment import issue_enrol_token, set_state
from server.dispatch.models import ROUTES, EnrolToken, Worker
from server.dispatch.selectors import held_by


@admin.register(Worker)
class WorkerAdmin(admin.ModelAdmin):
    """The list is live: a script of the browser leg follows the topic `workers` above it."""

    list_display = ("name", "state", "is_connected", "current_jobs", "last_seen")
    list_filter = ("state", "route")
    list_select_related = ("session",)
    search_fields = ("name", "id")
    readonly_fields = (
        "id",
        "public_key",
        "state",
        "route",
        "device",
        "slots",
        "rtt",
        "created_by",
        "created_at",
        "last_seen",
        "current_jobs",
    )
    fields = ("name", "labels", *readonly_fields)
    actions = ("activate", "suspend", "revoke")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A worker enrols itself, with a token."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Jobs name their worker; one that shall not work any more is revoked."""
        return False

    @admin.display(description=_("connected"), boolean=True)
    def is_connected(self, worker: Worker) -> bool:
        """Whether its session is alive."""
        session = getattr(worker, "session", None)
        return session is not None and session.closed_at is None and session.lease_until > timezone.now()

    @admin.display(description=_("device"))
    def device(self, worker: Worker) -> str:
        """What it computes on, as it last said."""
        return worker.session.device if hasattr(worker, "session") else ""

    @admin.display(description=_("slots"))
    def slots(self, worker: Worker) -> str:
        """How many jobs it takes at once."""
        return str(worker.session.slots) if hasattr(worker, "session") else ""

    @admin.display(description=_("current jobs"))
    def current_jobs(self, worker: Worker) -> str:
        """Each with its stage and progress."""
        return ", ".join(f"{job.id} {job.stage or ''} {job.progress:.0%}" for job in held_by(worker.id)) or "-"

    @admin.display(description=_("round trip"))
    def rtt(self, worker: Worker) -> str:
        """Milliseconds, of the last heartbeat."""
        rtt_ms = worker.session.rtt_ms if hasattr(worker, "session") else None
        return f"{rtt_ms:.1f} ms" if rtt_ms is not None else ""

    @admin.action(description=_("Activate the selected workers"))
    def activate(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """They get offers again."""
        self._set_all(queryset, Worker.State.ACTIVE)

    @admin.action(description=_("Suspend the selected workers: no new offers"))
    def suspend(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """What they run, they finish."""
        self._set_all(queryset, Worker.State.SUSPENDED)

    @admin.action(description=_("Revoke the selected workers: disconnect, their jobs go elsewhere"))
    def revoke(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """Their key is worth nothing from now on."""
        self._set_all(queryset, Worker.State.REVOKED)

    def _set_all(self, queryset: QuerySet[Worker], state: Worker.State) -> None:
        for worker in queryset:
            set_state(worker, state)


class EnrolForm(forms.Form):
    """What a new token is for."""

    name = forms.CharField(max_length=128, label=_("Name of the machine"))
    route = forms.ChoiceField(choices=ROUTES, label=_("Route"))


@admin.register(EnrolToken)
class EnrolTokenAdmin(admin.ModelAdmin):
    """Tokens that were given out. A new one is shown on the page that made it and nowhere else."""

    list_display = ("name", "route", "uses_left", "expires_at", "created_by", "created_at")
    exclude = ("digest",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A token is made or deleted."""
        return False

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Ask for a name, then show the token once: not in a message, which would be stored."""
        if not self.has_add_permission(request):
            return HttpResponse(status=403)
        form, token = EnrolForm(request.POST or None), ""
        if request.method == "POST" and form.is_valid():
            token = issue_enrol_token(**form.cleaned_data, created_by=request.user)
        context = {
            **self.admin_site.each_context(request),
            "title": _("New enrol token"),
            "opts": self.model._meta,
            "form": form,
            "token": token,
        }
        return TemplateResponse(request, "admin/dispatch/enroltoken/new.html", context)
