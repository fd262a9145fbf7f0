"""Django's entry for the archives."""

from django.apps import AppConfig


class PacsConfig(AppConfig):
    name = "server.pacs"
    label = "pacs"
    verbose_name = "Picture archives"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from server.jobs.outbox import on_success
        from server.pacs.loop import bell

        on_success(lambda _job_id: bell.set())
