"""Django's entry for the dispatch app; here jobs learn whom to wake."""

from django.apps import AppConfig


class DispatchConfig(AppConfig):
    name = "server.dispatch"
    label = "dispatch"
    verbose_name = "Workers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from server.dispatch import assigner, forecast, wakeups
        from server.jobs import outbox, outlook

        outbox.on_seek(wakeups.bell.ring)
        outbox.on_stop(wakeups.poke_worker)
        outbox.on_success(forecast.learn)
        outlook.answer_with(assigner.Outlook())
