"""Django's entry for the imaging app."""

from django.apps import AppConfig


class ImagingConfig(AppConfig):
    """Studies, series, uploads and masks."""

    name = "server.imaging"
    label = "imaging"
    verbose_name = "Imaging"
    default_auto_field = "django.db.models.BigAutoField"
