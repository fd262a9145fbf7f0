"""Archives, what was fetched from them, what is to be sent to them, and the rules by which they are watched."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from server.ids import new_id

UID_LENGTH = 64
LONGEST_SENTENCE = 400


class Server(models.Model):
    """An archive by its name. Only administrators name one, and so decide whom this server talks to."""

    class Auth(models.TextChoices):
        """How it is told who asks."""

        NONE = "none", "none"
        BASIC = "basic", "user name and password"
        BEARER = "bearer", "bearer token"

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[
            RegexValidator(
                r"\A(?!(pulls|deliveries)\Z)[a-z0-9][a-z0-9._-]*\Z",
                "Small letters, digits, dots, dashes; not pulls and not deliveries.",
            )
        ],
        help_text="Stands in addresses of the API. `default` is the one of DICOMWEB_URL, if that is set.",
    )
    url = models.CharField(
        max_length=500, help_text="https://archive.example.org/dicom-web, or dicom://AET@host:port (C-STORE only)."
    )
    auth = models.CharField(max_length=8, choices=Auth, default=Auth.NONE)
    username = models.CharField(max_length=128, blank=True)
    sealed_secret = models.TextField(blank=True, editable=False)
    calling_aet = models.CharField(
        max_length=16, default="SEGWIRE", help_text="Our own name towards a dicom:// archive.", verbose_name="our AET"
    )
    is_from_environment = models.BooleanField(default=False, editable=False)
    is_enabled = models.BooleanField(default=True, help_text="Off: nothing is asked of it and nothing sent to it.")
    can_search = models.BooleanField(default=True)
    sends_results = models.BooleanField(default=False, help_text="Every result is sent here by itself.")
    sends_only_own = models.BooleanField(
        default=False, help_text="Of those, only results of studies that came from here."
    )
    sends_since = models.DateTimeField(
        default=timezone.now, help_text="Results from before are not sent by themselves."
    )
    watches_for_new = models.BooleanField(default=False, help_text="New studies are looked for, see the rules.")
    has_orthanc_changes = models.BooleanField(
        default=False, help_text="An Orthanc: its list of changes is read as well, so that late arrivals are seen."
    )
    poll_seconds = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(86_400)], help_text="Between two looks."
    )
    stable_seconds = models.PositiveIntegerField(
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(86_400)],
        help_text="A study that has not grown for so long is taken to be complete.",
    )
    watched_since = models.DateTimeField(null=True, blank=True, editable=False)
    polls_at = models.DateTimeField(default=timezone.now, editable=False, help_text="When the next look is due.")
    change_number = models.BigIntegerField(default=-1, editable=False, help_text="The newest Orthanc change seen.")
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="In a row, when it was away.")
    rests_until = models.DateTimeField(null=True, blank=True, editable=False, help_text="Left alone until then.")
    trouble = models.CharField(max_length=LONGEST_SENTENCE, blank=True, editable=False)
    answered_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "archive"
        ordering = ("name",)
        permissions = (
            ("search_archive", "Can search archives and pull studies"),
            ("send_result", "Can send results to archives"),
        )

    def __str__(self) -> str:
        return self.name


class Pull(models.Model):
    """A study on its way here. `done` and `total` count series."""

    class State(models.TextChoices):
        """Where it stands."""

        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="pulls")
    study_uid = models.CharField(max_length=UID_LENGTH)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="pulls")
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now)
    claimed_until = models.DateTimeField(null=True, blank=True, help_text="Whoever fetches it renews this.")
    series = models.JSONField(default=dict, help_text="SeriesInstanceUID to number of images, as fetched.")
    study = models.ForeignKey("imaging.Study", on_delete=models.SET_NULL, null=True, blank=True, related_name="pulls")
    refused = models.JSONField(default=list)
    error_code = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=LONGEST_SENTENCE, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("server", "study_uid", "owner"),
                condition=Q(state__in=["queued", "running"]),
                name="pull_open_once",
            ),
        )
        indexes = (
            models.Index(fields=("next_at",), condition=Q(state__in=["queued", "running"]), name="pull_open"),
            models.Index(fields=("server", "study_uid", "owner"), name="pull_of_study"),
        )

    def __str__(self) -> str:
        return self.id


class Delivery(models.Model):
    """One DICOM object of one result for one archive: the outbox. A row ends in sent or failed, never by itself
    in nothing."""

    class State(models.TextChoices):
        """Where it stands."""

        WAITING = "waiting"
        SENT = "sent"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="deliveries")
    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=8, help_text="seg, sr, key or pdf.")
    name = models.CharField(max_length=64, help_text="Of the file in the result's folder.")
    sha256 = models.CharField(max_length=64, blank=True)
    sop_instance_uid = models.CharField(max_length=UID_LENGTH, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now)
    claimed_until = models.DateTimeField(null=True, blank=True)
    claim = models.CharField(max_length=26, blank=True, help_text="Of whoever sends it now.")
    error_code = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=LONGEST_SENTENCE, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=("server", "job", "name"), name="delivery_once"),)
        indexes = (
            models.Index(fields=("server", "next_at"), condition=Q(state="waiting"), name="delivery_due"),
            models.Index(fields=("server",), condition=Q(state="failed"), name="delivery_failed"),
        )

    def __str__(self) -> str:
        return self.id


class Rule(models.Model):
    """Which new studies are analysed without anybody's click. The first rule of a source that fits counts."""

    class Priority(models.TextChoices):
        """As of jobs."""

        URGENT = "urgent"
        ROUTINE = "routine"
        BATCH = "batch"

    name = models.CharField(max_length=64, unique=True)
    position = models.PositiveSmallIntegerField(default=100, help_text="Smaller ones are looked at first.")
    is_enabled = models.BooleanField(default=True)
    server = models.ForeignKey(
        Server,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="rules",
        verbose_name="archive",
        help_text="Whose new studies; empty: what is received by C-STORE (manage.py dicom_listen).",
    )
    modality = models.CharField(max_length=16, default="MR", blank=True)
    study_description = models.CharField(max_length=200, blank=True, help_text="Regular expression found in it.")
    series_description = models.CharField(max_length=200, blank=True, help_text="Found in that of any series.")
    station_name = models.CharField(max_length=200, blank=True, help_text="Found in that of any series.")
    institution = models.CharField(max_length=200, blank=True, help_text="Found in that of any series.")
    model = models.CharField(max_length=128, blank=True, help_text="Name, or name@version; empty: the worker's own.")
    priority = models.CharField(max_length=8, choices=Priority, default=Priority.BATCH)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="rules", help_text="Whose studies they become."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("position", "name")

    def __str__(self) -> str:
        return self.name


class Sighting(models.Model):
    """A new study at an archive or received by C-STORE, and what became of it: one row, so one job."""

    class State(models.TextChoices):
        """Where it stands."""

        GROWING = "growing", "still growing"
        PULLING = "pulling", "being fetched"
        HERE = "here", "here, to be looked at"
        STARTED = "started", "analysed"
        PASSED = "passed", "left alone"

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    server = models.ForeignKey(
        Server, on_delete=models.CASCADE, null=True, blank=True, related_name="sightings", verbose_name="archive"
    )
    study_uid = models.CharField(max_length=UID_LENGTH)
    state = models.CharField(max_length=8, choices=State, default=State.GROWING)
    reason = models.CharField(max_length=LONGEST_SENTENCE, blank=True)
    images = models.PositiveIntegerField(default=0, help_text="As the archive last counted them.")
    grown_at = models.DateTimeField(default=timezone.now, help_text="When it was last seen to have more.")
    facts = models.JSONField(default=dict, help_text="Of C-STORE: what rules look at.")
    rule = models.ForeignKey(Rule, on_delete=models.SET_NULL, null=True, blank=True, related_name="sightings")
    pull = models.ForeignKey(Pull, on_delete=models.SET_NULL, null=True, blank=True, related_name="sightings")
    study = models.ForeignKey(
        "imaging.Study", on_delete=models.SET_NULL, null=True, blank=True, related_name="sightings"
    )
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, blank=True, related_name="sightings")
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("server", "study_uid"), condition=Q(server__isnull=False), name="sighting_once"
            ),
            models.UniqueConstraint(
                fields=("study_uid",), condition=Q(server__isnull=True), name="sighting_received_once"
            ),
        )
        indexes = (
            models.Index(
                fields=("state",), condition=Q(state__in=["growing", "pulling", "here"]), name="sighting_open"
            ),
        )

    def __str__(self) -> str:
        return self.id
