"""The name of this life of the database, read once a process: it only changes while the servers are down."""

from functools import cache

from django.db import transaction

from server.jobs.models import Epoch
from server.topics.services import begin_anew


@cache
def current_epoch() -> str:
    """In every snapshot, offer and result, so that what belongs to another life is refused."""
    epoch, _ = Epoch.objects.get_or_create(id=1)
    return epoch.value


@transaction.atomic
def begin_epoch() -> str:
    """Give the database, and every log in it, another life: after a backup was restored, while no server runs.

    Fences and seqs that were given out since the backup are given out again; the new name tells them from the old.
    """
    Epoch.objects.filter(id=1).delete()
    epoch = Epoch.objects.create(id=1)
    begin_anew()
    current_epoch.cache_clear()
    return epoch.value
