"""Django's entry for the jobs app."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "server.jobs"
    label = "jobs"
    verbose_name = "Segmentation jobs"
    default_auto_field = "django.db.models.BigAutoField"
