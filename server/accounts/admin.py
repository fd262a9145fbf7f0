"""API tokens and users in the admin: who has what, and taking it back. Making a token is `manage.py api_token`."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest

from server.accounts import services
from server.accounts.models import ApiToken
from server.audit.services import actor_of


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    """Nothing can be made or changed here; a token is taken back."""

    list_display = ("prefix", "user", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_select_related = ("user",)
    readonly_fields = list_display
    exclude = ("digest",)
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset.filter(revoked_at=None):
            services.revoke_api_token(token=token, by=actor_of(request.user))


admin.site.unregister(User)


@admin.register(User)
class AccountAdmin(UserAdmin):
    """Django's own, and a way to end everything that somebody is signed in with."""

    actions = ("sign_out_everywhere",)

    @admin.action(description="Sign out everywhere: end sessions, tickets and API tokens", permissions=["change"])
    def sign_out_everywhere(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            services.sign_out_everywhere(user=user, by=actor_of(request.user))
