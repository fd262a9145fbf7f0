"""Accounts: who speaks, by session or by token."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "server.accounts"
    label = "accounts"
