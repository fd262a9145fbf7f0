"""The audit log in the admin: to read."""

from django.contrib import admin

from server.audit.models import Entry
from server.readonly import ReadOnly


@admin.register(Entry)
class EntryAdmin(ReadOnly):
    """Newest first. The seals and the export are with `manage.py audit`."""

    list_display = ("at", "actor", "action", "ids", "address")
    list_filter = ("action",)
    search_fields = ("actor", "action")
    show_full_result_count = False
