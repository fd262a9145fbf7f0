"""The name of this life of the database, read once a process: it only changes while the servers are down."""

from functools import cache

from server.jobs.models import Epoch


@cache
def current_epoch() -> str:
    """In every snapshot, offer and result, so that what belongs to another life is refused."""
    epoch, _ = Epoch.objects.get_or_create(id=1)
    return epoch.value
