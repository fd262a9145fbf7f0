"""Accounts: who speaks, by session or by token."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed


class AccountsConfig(AppConfig):
    name = "server.accounts"
    label = "accounts"

    def ready(self) -> None:
        from server.accounts import sign_in

        user_logged_in.connect(sign_in.on_signed_in, dispatch_uid="accounts.signed_in")
        user_logged_out.connect(sign_in.on_signed_out, dispatch_uid="accounts.signed_out")
        user_login_failed.connect(sign_in.on_refused, dispatch_uid="accounts.refused")
