"""Jobs in the admin, to read: what changes them is the rules."""

from django.contrib import admin
from django.core.paginator import Paginator
from django.utils.functional import cached_property

from server.jobs.models import Job, JobEvent
from server.readonly import ReadOnly

MOST_SHOWN = 10_000


class BoundedPaginator(Paginator):
    """Counts no further than anybody turns pages: to count a hundred thousand rows takes longer than to show a page."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, or the most that are shown."""
        return self.object_list.order_by()[:MOST_SHOWN].count()


@admin.register(Job)
class JobAdmin(ReadOnly):
    """Jobs with the causes of each failed attempt."""

    list_display = ("id", "state", "route", "stage", "percent", "worker_name", "attempt", "created_at", "finished_at")
    list_filter = ("state", "route", "error_code")
    search_fields = ("id__startswith", "worker_name")
    paginator = BoundedPaginator
    show_full_result_count = False

    @admin.display(description="progress")
    def percent(self, job: Job) -> str:
        """Whole job, in per cent."""
        return f"{job.progress:.0%}"


@admin.register(JobEvent)
class JobEventAdmin(ReadOnly):
    """The log of all jobs."""

    list_display = ("job", "seq", "kind", "at")
    list_filter = ("kind",)
    search_fields = ("job__id__startswith",)
    ordering = ("-id",)
    paginator = BoundedPaginator
    show_full_result_count = False
