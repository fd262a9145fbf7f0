"""Jobs in the admin, to read: what changes them is the rules."""

from django.contrib import admin

from server.jobs.models import Job, JobEvent
from server.readonly import ReadOnly


@admin.register(Job)
class JobAdmin(ReadOnly):
    """Jobs with the causes of each failed attempt."""

    list_display = ("id", "state", "route", "stage", "percent", "worker_name", "attempt", "created_at", "finished_at")
    list_filter = ("state", "route", "error_code")
    search_fields = ("id", "worker_name")
    date_hierarchy = "created_at"

    @admin.display(description="progress")
    def percent(self, job: Job) -> str:
        """Whole job, in per cent."""
        return f"{job.progress:.0%}"


@admin.register(JobEvent)
class JobEventAdmin(ReadOnly):
    """The log of all jobs."""

    list_display = ("job", "seq", "kind", "at")
    list_filter = ("kind",)
    search_fields = ("job__id",)
