"""Workers, their one session each, and the tokens they enrol with.

Flow: 3 dispatch
"""

from django.conf import settings
from django.db import models
from django.utils import timezone

from server.core.job import Route
from server.ids import new_id

ROUTES = [(Route.LAB.value, "lab"), (Route.SERVER.value, "server")]


class Worker(models.Model):
    """A machine that computes. It is known by its public key; its private key never leaves it."""

    class State(models.TextChoices):
        """What a worker may do."""

        PENDING = "pending", "waits for approval"
        ACTIVE = "active", "active"
        SUSPENDED = "suspended", "suspended: keeps its connection and gets no offers"
        REVOKED = "revoked", "revoked: may not connect"

    id = models.CharField(primary_key=True, max_length=26, default=new_id, editable=False)
    name = models.CharField(max_length=128)
    public_key = models.CharField(max_length=64, unique=True, help_text="Ed25519, base64 of 32 bytes.")
    key_made_at = models.DateTimeField(default=timezone.now)
    old_public_key = models.CharField(max_length=64, blank=True, help_text="Counts until the time beside it.")
    old_key_until = models.DateTimeField(null=True, blank=True)
    is_rotation_wanted = models.BooleanField(default=False)
    is_drain_wanted = models.BooleanField(default=False, help_text="No new offers, until an administrator says so.")
    drain_until = models.DateTimeField(null=True, blank=True, help_text="When its jobs are to be given back.")
    state = models.CharField(max_length=9, choices=State, default=State.ACTIVE)
    route = models.CharField(max_length=6, choices=ROUTES, default=Route.LAB.value)
    labels = models.JSONField(default=list, blank=True, help_text="The administrator's words for it.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="workers"
    )
    created_at = models.DateTimeField(default=timezone.now)
    enrolled_with = models.CharField(max_length=64, blank=True, help_text="Digest of the token.")
    last_session = models.PositiveBigIntegerField(default=0)
    last_seen = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("name", "id")

    def __str__(self) -> str:
        return self.name


class WorkerSession(models.Model):
    """The newest connection of a worker. It is alive while its lease lasts and it was not closed."""

    worker = models.OneToOneField(Worker, on_delete=models.CASCADE, primary_key=True, related_name="session")
    session = models.PositiveBigIntegerField()
    boot_id = models.CharField(max_length=64)
    node = models.CharField(max_length=64, help_text="The server process that holds the socket.")
    channel_name = models.CharField(max_length=128)
    lease_until = models.DateTimeField()
    connected_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    slots = models.PositiveSmallIntegerField(default=1)
    credits = models.PositiveSmallIntegerField(default=0, help_text="How many more jobs it takes, as it last said.")
    load = models.FloatField(default=0.0)
    gpu = models.JSONField(null=True, blank=True)
    is_draining = models.BooleanField(default=False)
    models_offered = models.JSONField(default=list, help_text="Name, version and sha256; the first is the default.")
    warm_sha256 = models.CharField(max_length=64, blank=True, help_text="The model it ran last.")
    device = models.CharField(max_length=128, blank=True)
    vram_mb = models.PositiveIntegerField(default=0)
    software = models.JSONField(default=dict)
    rtt_ms = models.FloatField(null=True, blank=True)
    transport = models.CharField(
        max_length=9, default="websocket", help_text="websocket, or https where that is blocked."
    )
    labels = models.JSONField(default=list, help_text="The worker's own words for itself.")
    free_mb = models.PositiveIntegerField(null=True, blank=True, help_text="Free memory of the device.")
    cached = models.JSONField(default=list, help_text="First 16 hex digits of the inputs that lie there.")

    class Meta:
        indexes = (models.Index(fields=("lease_until",), condition=models.Q(closed_at=None), name="session_alive"),)

    def __str__(self) -> str:
        return f"{self.worker_id} {self.session}"


class WorkerPace(models.Model):
    """How long a worker takes with a model, measured."""

    worker = models.ForeignKey(Worker, on_delete=models.CASCADE, related_name="paces")
    model_sha256 = models.CharField(max_length=64)
    stages = models.JSONField(default=dict, help_text="Seconds by stage, a moving mean.")
    jobs = models.PositiveIntegerField(default=0)
    measured_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("worker", "model_sha256"), name="worker_pace_once"),)

    def __str__(self) -> str:
        return f"{self.worker_id} {self.model_sha256[:12]}"


class EnrolToken(models.Model):
    """Permission to enrol, shown once and kept only as its sha256."""

    digest = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=128, help_text="Which machine it was made for.")
    route = models.CharField(max_length=6, choices=ROUTES, default=Route.LAB.value)
    labels = models.JSONField(default=list, blank=True)
    network = models.CharField(max_length=64, blank=True, help_text="Where it may be used from, as 10.1.0.0/16.")
    needs_approval = models.BooleanField(default=False, help_text="Whoever enrols waits for an administrator.")
    uses_left = models.PositiveSmallIntegerField(default=1)
    expires_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="enrol_tokens"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"for {self.name}"
