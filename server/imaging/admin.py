"""Stored studies, series and masks in the admin: to look at and to share, not to edit."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from server.imaging.models import Mask, Series, Study, Upload, UploadBatch
from server.readonly import ReadOnly


@admin.register(Study)
class StudyAdmin(admin.ModelAdmin):
    """Studies; who may see one is set here."""

    list_display = ("id", "patient_name", "patient_id", "study_date", "description", "source", "owner", "created_at")
    list_filter = ("source", "groups")
    search_fields = ("id", "uid", "patient_name", "patient_id", "description")
    fields = ("id", "uid", "patient_name", "patient_id", "study_date", "description", "source", "owner", "groups")
    readonly_fields = ("id", "uid", "patient_name", "patient_id", "study_date", "description", "source")
    filter_horizontal = ("groups",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Series)
class SeriesAdmin(ReadOnly):
    """Series and their recognised sequence."""

    list_display = ("id", "study", "number", "description", "sequence", "sequence_confidence", "shape", "revision")
    list_filter = ("sequence", "source", "is_current")
    search_fields = ("id", "uid", "description")


@admin.register(Mask)
class MaskAdmin(ReadOnly):
    """Proven results."""

    list_display = ("id", "job_id", "series", "size", "seg_path", "created_at")
    search_fields = ("id", "job_id")


@admin.register(Upload)
class UploadAdmin(ReadOnly):
    """Files on their way in."""

    list_display = ("id", "filename", "offset", "length", "is_complete", "owner", "job_id", "expires_at")


@admin.register(UploadBatch)
class UploadBatchAdmin(ReadOnly):
    """Deliveries of several files."""

    list_display = ("id", "owner", "count", "state", "created_at")
    list_filter = ("state",)
