"""Workers in the admin: who is there, who may work, and tokens for new ones."""

from ipaddress import ip_network
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from server.audit.services import actor_of
from server.dispatch import enrolment
from server.dispatch.enrolment import Permission
from server.dispatch.models import ROUTES, EnrolToken, Worker
from server.dispatch.selectors import held_by
from server.jobs.services import now as clock_of_leases


class WorkerActionForm(ActionForm):
    """What an action needs to know beside the workers."""

    minutes = forms.IntegerField(
        required=False, min_value=0, max_value=7 * 24 * 60, label=_("Minutes to finish, when draining")
    )


@admin.register(Worker)
class WorkerAdmin(admin.ModelAdmin):
    """The list is live: a script of the browser leg follows the topic `workers` above it."""

    list_display = ("name", "state", "is_connected", "transport", "is_drained", "current_jobs", "last_seen")
    list_filter = ("state", "route")
    list_select_related = ("session",)
    search_fields = ("name", "id")
    action_form = WorkerActionForm
    readonly_fields = (
        "id",
        "public_key",
        "state",
        "route",
        "key_made_at",
        "is_drained",
        "drain_until",
        "device",
        "transport",
        "slots",
        "rtt",
        "created_by",
        "created_at",
        "last_seen",
        "current_jobs",
    )
    fields = ("name", "labels", *readonly_fields)
    actions = ("approve", "activate", "suspend", "revoke", "drain", "undrain", "ask_for_new_key")

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
        return session is not None and session.closed_at is None and session.lease_until > clock_of_leases()

    @admin.display(description=_("connection"))
    def transport(self, worker: Worker) -> str:
        """WebSocket, or HTTPS where a proxy lets none through."""
        return worker.session.transport if self.is_connected(worker) else "-"

    @admin.display(description=_("draining"), boolean=True)
    def is_drained(self, worker: Worker) -> bool:
        """Whether it gets no offers because somebody wants that."""
        return worker.is_drain_wanted or (self.is_connected(worker) and worker.session.is_draining)

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

    @admin.action(description=_("Approve the selected workers"))
    def approve(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """Those that wait since they enrolled may work from now on; others stay as they are."""
        self._set_all(request, queryset.filter(state=Worker.State.PENDING), Worker.State.ACTIVE)

    @admin.action(description=_("Activate the selected workers"))
    def activate(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """They get offers again."""
        self._set_all(request, queryset, Worker.State.ACTIVE)

    @admin.action(description=_("Suspend the selected workers: no new offers"))
    def suspend(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """What they run, they finish."""
        self._set_all(request, queryset, Worker.State.SUSPENDED)

    @admin.action(description=_("Revoke the selected workers: disconnect, their jobs go elsewhere"))
    def revoke(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """Their key is worth nothing from now on."""
        self._set_all(request, queryset, Worker.State.REVOKED)

    @admin.action(description=_("Drain the selected workers: no new offers, finish within the minutes given"))
    def drain(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """Without a number they may take their time."""
        minutes = request.POST.get("minutes", "")
        seconds = 60.0 * min(int(minutes), 7 * 24 * 60) if minutes.isascii() and minutes.isdigit() else None
        for worker in queryset:
            enrolment.drain(worker, seconds=seconds, actor=actor_of(request.user))

    @admin.action(description=_("End draining of the selected workers"))
    def undrain(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """They get offers again."""
        for worker in queryset:
            enrolment.undrain(worker, actor=actor_of(request.user))

    @admin.action(description=_("Ask the selected workers for a new key"))
    def ask_for_new_key(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        """Now, or as soon as they are here."""
        for worker in queryset:
            enrolment.want_new_key(worker, actor=actor_of(request.user))

    def _set_all(self, request: HttpRequest, queryset: QuerySet[Worker], state: Worker.State) -> None:
        for worker in queryset:
            enrolment.set_state(worker, state, actor=actor_of(request.user))


class EnrolForm(forms.Form):
    """What a new token is for."""

    name = forms.CharField(max_length=128, label=_("Name of the machine"))
    route = forms.ChoiceField(choices=ROUTES, label=_("Route"))
    labels = forms.CharField(
        max_length=256, required=False, label=_("Labels"), help_text=_("Words for the machine, separated by commas.")
    )
    network = forms.CharField(
        max_length=64, required=False, label=_("Network"), help_text=_("Where it may be used from, as 10.1.0.0/16.")
    )
    needs_approval = forms.BooleanField(required=False, label=_("An administrator must approve the machine"))
    uses = forms.IntegerField(min_value=1, max_value=100, initial=1, required=False, label=_("Number of machines"))
    hours = forms.IntegerField(min_value=1, max_value=168, initial=1, required=False, label=_("Hours it is good"))

    def clean_network(self) -> str:
        """A network as the standard writes it."""
        network = self.cleaned_data["network"].strip()
        try:
            return str(ip_network(network, strict=False)) if network else ""
        except ValueError:
            raise forms.ValidationError(_("This is no network.")) from None

    def permission(self) -> Permission:
        """What the token is to allow."""
        said = self.cleaned_data
        labels = (label.strip()[:64] for label in said["labels"].split(","))
        return Permission(
            name=said["name"],
            route=said["route"],
            labels=tuple(label for label in labels if label),
            network=said["network"],
            needs_approval=said["needs_approval"],
            uses=said["uses"] or 1,
            seconds=3600.0 * said["hours"] if said["hours"] else None,
        )


@admin.register(EnrolToken)
class EnrolTokenAdmin(admin.ModelAdmin):
    """Tokens that were given out. A new one is shown on the page that made it and nowhere else."""

    list_display = ("name", "route", "uses_left", "network", "needs_approval", "expires_at", "created_by", "created_at")
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
            token = enrolment.issue(form.permission(), created_by=request.user)
        context = {
            **self.admin_site.each_context(request),
            "title": _("New enrol token"),
            "opts": self.model._meta,
            "form": form,
            "token": token,
        }
        return TemplateResponse(request, "admin/dispatch/enroltoken/new.html", context)
