"""What is forgotten in time, so that no table grows for ever: logs of old jobs, old keys of requests, ended sign-ins.

A log that was trimmed is no log with a gap: who asks for more than is left learns that it has to read the job anew.

Flow: 2 job
"""

from datetime import datetime, timedelta
from importlib import import_module

from django.conf import settings
from django.utils import timezone

from server.core.job import OPEN_STATES
from server.jobs.models import Job, JobEvent, RequestKey
from server.topics.models import TopicEvent

KEPT_EVENTS = 500
"""Of a job that waits for days while workers come and go."""
AT_ONCE = 500
KEY_DAYS = 2.0


def prune() -> None:
    """Forget what is old enough, some at a time, so that nobody waits long for the database."""
    before = timezone.now() - timedelta(days=settings.LIMITS.log_days)
    ended = Job.objects.filter(finished_at__lt=before, events__isnull=False).order_by().values_list("pk", flat=True)
    while some := list(ended.distinct()[:AT_ONCE]):
        JobEvent.objects.filter(job_id__in=some).delete()
    long = Job.objects.filter(state__in=sorted(OPEN_STATES), last_seq__gt=KEPT_EVENTS).order_by()
    for job_id, seq in list(long.values_list("pk", "last_seq")):
        JobEvent.objects.filter(job_id=job_id, seq__lte=seq - KEPT_EVENTS).delete()
    _prune_topics(before)
    keys = RequestKey.objects.filter(created_at__lt=timezone.now() - timedelta(days=KEY_DAYS)).order_by()
    while some := list(keys.values_list("pk", flat=True)[:AT_ONCE]):
        RequestKey.objects.filter(pk__in=some).delete()
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


def _prune_topics(before: datetime) -> None:
    """The oldest come first by their number, so that a look at a log without old events is short."""
    while True:
        oldest = list(TopicEvent.objects.order_by("pk").values_list("pk", "at")[:AT_ONCE])
        old = [number for number, at in oldest if at < before]
        TopicEvent.objects.filter(pk__in=old).delete()
        if len(old) < AT_ONCE:
            return
