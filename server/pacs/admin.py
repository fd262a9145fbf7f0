"""Archives in the admin: who they are, what waits for them, what was fetched, and what is analysed by itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from server.audit.services import actor_of, note
from server.pacs import deliveries, loop, pulls, services
from server.pacs.archives import DIMSE
from server.pacs.errors import ArchiveFailure
from server.pacs.models import Delivery, Pull, Rule, Server, Sighting
from server.pacs.place import NoPlace, place_of
from server.pacs.rules import Pattern, check_pattern
from server.pacs.secrets import seal
from server.readonly import ReadOnly

PATTERNS = ("study_description", "series_description", "station_name", "institution")


class ServerForm(forms.ModelForm):
    """The secret goes in and never comes out."""

    secret = forms.CharField(
        required=False,
        max_length=4096,
        strip=False,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        label=_("Password or token"),
        help_text=_("Stored sealed and never shown. Empty: as it is."),
    )

    class Meta:
        model = Server
        fields = "__all__"

    def clean_url(self) -> str:
        """An address that one of our two ways of talking can use, without a password in it."""
        url = self.cleaned_data["url"].strip()
        parts = urlsplit(url)
        if parts.scheme == DIMSE:
            return _dicom_address(url)
        if parts.username or parts.password:
            raise ValidationError(_("Name and password have fields of their own; here they would be seen."))
        try:
            place = place_of(url)
        except NoPlace as error:
            raise ValidationError(str(error)) from None
        return place.url if place else ""

    def clean(self) -> dict[str, Any]:
        """What one way of talking cannot do is not promised."""
        said = super().clean() or {}
        can_only_take = urlsplit(str(said.get("url", ""))).scheme == DIMSE
        if can_only_take and (said.get("can_search") or said.get("watches_for_new")):
            raise ValidationError(_("A dicom:// archive takes results; to search and to watch, name its DICOMweb."))
        return said

    def save(self, commit: bool = True) -> Server:  # noqa: FBT001, FBT002  (Django's own signature)
        if secret := self.cleaned_data.get("secret"):
            self.instance.sealed_secret = seal(secret)
        if self.instance.auth == Server.Auth.NONE:
            self.instance.sealed_secret = ""
        return super().save(commit)


def _dicom_address(url: str) -> str:
    from server.pacs.dimse import peer_of

    try:
        peer_of(url)
    except NoPlace as error:
        raise ValidationError(str(error)) from None
    return url


@admin.register(Server)
class ServerAdmin(admin.ModelAdmin):
    """Archives by name. The one of DICOMWEB_URL has its address and password there; its flags are set here."""

    form = ServerForm
    list_display = (
        *("name", "url", "is_enabled", "can_search", "sends_results", "watches_for_new"),
        *("waiting", "failed", "answered_at", "trouble"),
    )
    actions = ("test_connection",)
    readonly_fields = ("trouble", "failures", "rests_until", "answered_at", "watched_since", "polls_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> tuple[str, ...]:
        fixed = ("name", "url", "auth", "username") if obj is not None and obj.is_from_environment else ()
        return (*self.readonly_fields, *fixed)

    def get_exclude(self, request: HttpRequest, obj: Server | None = None) -> tuple[str, ...]:
        return ("secret",) if obj is not None and obj.is_from_environment else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was fetched from it and sent to it names it; it is taken out of use instead."""
        return False

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:  # noqa: FBT001
        super().save_model(request, obj, form, change)
        note(actor=actor_of(request.user), action="pacs.archive", archive=str(obj.pk))
        loop.bell.set()

    @admin.display(description=_("waiting"))
    def waiting(self, server: Server) -> int:
        """Objects that are still to be sent."""
        return server.deliveries.filter(state=Delivery.State.WAITING).count()

    @admin.display(description=_("failed"))
    def failed(self, server: Server) -> int:
        """Objects that it would not take."""
        return server.deliveries.filter(state=Delivery.State.FAILED).count()

    @admin.action(description=_("Test the connection"), permissions=["change"])
    def test_connection(self, request: HttpRequest, queryset: QuerySet[Server]) -> None:
        """Ask each for something harmless."""
        for server in queryset:
            try:
                self.message_user(request, f"{server.name}: {services.test_connection(server)}", messages.SUCCESS)
            except ArchiveFailure as failure:
                self.message_user(request, f"{server.name}: {failure.detail}", messages.ERROR)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly):
    """The outbox."""

    list_display = ("id", "server", "job", "kind", "state", "attempts", "next_at", "sent_at", "error")
    list_filter = ("state", "server", "kind")
    list_select_related = ("server", "job")
    search_fields = ("id", "job__id", "sop_instance_uid")
    actions = ("retry",)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("pacs.change_delivery"))

    @admin.action(description=_("Try the selected deliveries now"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Those that were sent stay as they are."""
        for job_id in sorted(set(queryset.exclude(state=Delivery.State.SENT).values_list("job_id", flat=True))):
            note(actor=actor_of(request.user), action="pacs.send", job=job_id)
        self.message_user(request, f"{deliveries.retry(queryset)} are tried again.")
        loop.bell.set()


@admin.register(Pull)
class PullAdmin(ReadOnly):
    """What was fetched, for whom."""

    list_display = ("id", "server", "owner", "state", "done", "total", "attempts", "error", "created_at")
    list_filter = ("state", "server")
    list_select_related = ("server", "owner")
    search_fields = ("id", "study_uid")
    actions = ("retry",)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("pacs.change_pull"))

    @admin.action(description=_("Fetch the selected studies again"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Pull]) -> None:
        """Of those that failed."""
        for pull in queryset.filter(state=Pull.State.FAILED):
            note(actor=actor_of(request.user), action="pacs.pull", pull=pull.pk, archive=str(pull.server_id))
        self.message_user(request, f"{pulls.retry(queryset)} are fetched again.")
        loop.bell.set()


class RuleForm(forms.ModelForm):
    """Patterns are checked before they are stored."""

    class Meta:
        model = Rule
        fields = "__all__"

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        for name in PATTERNS:
            try:
                check_pattern(said.get(name, ""))
            except Pattern as error:
                self.add_error(name, str(error))
        return said


@admin.register(Rule)
class RuleAdmin(admin.ModelAdmin):
    """Which new studies are analysed by themselves."""

    form = RuleForm
    list_display = ("name", "position", "is_enabled", "server", "modality", "study_description", "model", "owner")
    list_select_related = ("server", "owner")
    list_filter = ("is_enabled", "server")

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:  # noqa: FBT001
        super().save_model(request, obj, form, change)
        note(actor=actor_of(request.user), action="pacs.rule", rule=str(obj.pk))


@admin.register(Sighting)
class SightingAdmin(ReadOnly):
    """New studies and what became of each, with the reason."""

    list_display = ("id", "server", "study_uid", "state", "reason", "rule", "images", "study", "job", "seen_at")
    list_filter = ("state", "server", "rule")
    list_select_related = ("server", "rule", "study", "job")
    search_fields = ("id", "study_uid")
