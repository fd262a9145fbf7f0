"""A job, its log, and the keys of requests that may come twice.

Flow: 2 job
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from inference.contract import Stage
from server.core.job import OPEN_STATES, Route, State, WaitingReason
from server.ids import new_id


def _choices(names: type[State] | type[Route] | type[Stage] | type[WaitingReason]) -> list[tuple[str, str]]:
    return [(name.value, name.value.replace("_", " ")) for name in names]


DEMAND_LENGTH = 600


class Rank(models.IntegerChoices):
    """A priority as the queue is sorted by it."""

    URGENT = 0, "urgent"
    ROUTINE = 1, "routine"
    BATCH = 2, "batch"


class Job(models.Model):
    """One segmentation. Only `services` writes it, and what the rules own only by way of `core.advance`.

    A worker is named by its id and not by a key of its table: who computes is the business of the app above.
    """

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    study = models.ForeignKey("imaging.Study", on_delete=models.PROTECT, related_name="jobs")
    series = models.ForeignKey("imaging.Series", on_delete=models.PROTECT, related_name="jobs")
    sequence_series_ids = models.JSONField(help_text="Our ids, in the order T1, T1CE, T2, FLAIR.")
    sequences = models.JSONField(default=list, blank=True, help_text="Which sequences these are; empty: all four.")
    warnings = models.JSONField(default=list, blank=True, help_text="What was doubtful about them when it was asked.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    dedupe_key = models.CharField(max_length=64, db_index=True)
    rank = models.PositiveSmallIntegerField(choices=Rank, default=Rank.ROUTINE)
    model_name = models.CharField(max_length=128, blank=True, help_text="As asked for; empty: the worker's default.")
    model_version = models.CharField(max_length=128, blank=True)
    labels = models.JSONField(default=list, blank=True, help_text="Every one of them a worker has to have.")
    demand = models.CharField(
        max_length=DEMAND_LENGTH, default="", help_text="Route, model and labels as one word (jobs.rows)."
    )
    inputs = models.JSONField(default=list, help_text="First 16 hex digits of what it reads, as workers name it.")
    run_model = models.JSONField(null=True, blank=True, help_text="Name, version and sha256 of what was offered.")

    state = models.CharField(max_length=9, choices=_choices(State), default=State.QUEUED)
    route = models.CharField(max_length=6, choices=_choices(Route))
    fence = models.PositiveBigIntegerField(default=0)
    started_fence = models.PositiveBigIntegerField(default=0)
    attempt = models.PositiveIntegerField(default=0)
    worker_id = models.CharField(max_length=26, null=True, blank=True)
    worker_name = models.CharField(max_length=128, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    stage = models.CharField(max_length=11, choices=_choices(Stage), null=True, blank=True)
    progress = models.FloatField(default=0.0)
    eta_seconds = models.FloatField(null=True, blank=True)
    waiting_reason = models.CharField(max_length=13, choices=_choices(WaitingReason), null=True, blank=True)
    is_stop_pending = models.BooleanField(default=False, help_text="The worker has not confirmed a cancel yet.")
    result_id = models.CharField(max_length=64, null=True, blank=True)
    error_code = models.CharField(max_length=64, null=True, blank=True)
    causes = models.JSONField(default=list, help_text="Why each attempt ended without a result.")
    avoid = models.JSONField(default=list, help_text="Workers not to be asked before a time.")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    last_seq = models.PositiveBigIntegerField(default=0)

    class Meta:
        # An id begins with its time, and the primary key is an index.
        ordering = ("-id",)
        constraints = (
            # The double click: one open job for the same question.
            models.UniqueConstraint(
                fields=("dedupe_key",), condition=Q(state__in=sorted(OPEN_STATES)), name="job_open_once"
            ),
            models.CheckConstraint(condition=Q(progress__gte=0.0, progress__lte=1.0), name="job_progress_in_range"),
            models.CheckConstraint(
                condition=~Q(state__in=["leased", "running"])
                | Q(worker_id__isnull=False, lease_until__isnull=False, fence__gt=0),
                name="job_held_by_somebody",
            ),
        )
        indexes = (
            # The queue as it is read: for each demand and rank the lines of the users, each in its order.
            models.Index(
                fields=("demand", "rank", "requested_by", "created_at", "id"),
                condition=Q(state="queued"),
                name="job_lines",
            ),
            models.Index(fields=("demand", "waiting_reason", "id"), condition=Q(state="queued"), name="job_reasons"),
            models.Index(fields=("lease_until",), condition=Q(lease_until__isnull=False), name="job_leases"),
            models.Index(fields=("finished_at",), name="job_finished"),
            models.Index(fields=("worker_id",), condition=Q(lease_until__isnull=False), name="job_held"),
            models.Index(fields=("worker_id",), condition=Q(is_stop_pending=True), name="job_to_stop"),
        )

    def __str__(self) -> str:
        return self.id


class JobEvent(models.Model):
    """One durable change of a job, with the snapshot right after it. `seq` has no gaps within a job."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=16)
    payload = models.JSONField()

    class Meta:
        ordering = ("seq",)
        constraints = (models.UniqueConstraint(fields=("job", "seq"), name="job_event_seq"),)

    def __str__(self) -> str:
        return f"{self.job_id} {self.seq}"


class RequestKey(models.Model):
    """An `Idempotency-Key` of a user and the job it was answered with."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="request_keys")
    key = models.CharField(max_length=255)
    request_sha256 = models.CharField(max_length=64, help_text="The same key with another request is a mistake.")
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="request_keys")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("user", "key"), name="request_key_once"),)
        indexes = (models.Index(fields=("created_at",), name="request_key_age"),)

    def __str__(self) -> str:
        return self.key


def _new_epoch() -> str:
    return uuid.uuid4().hex


class Epoch(models.Model):
    """One row: the name of this life of the database. A restored backup gets another, so that its fences and seqs,
    which are given out a second time, are not taken for the first."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.CharField(max_length=32, default=_new_epoch)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="epoch_single"),)

    def __str__(self) -> str:
        return self.value
