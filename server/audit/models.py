"""What was done, and the chain of hashes that shows whether the log is still as it was written."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models
from django.utils import timezone

from server.audit.errors import AppendOnly


class WrittenOnce(models.QuerySet):
    """Rows to add and to read. Triggers in the database refuse the rest to every other program as well."""

    def update(self, **_: Any) -> NoReturn:
        raise AppendOnly

    def delete(self) -> NoReturn:
        raise AppendOnly


class _Kept(models.Model):
    objects = WrittenOnce.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        raise AppendOnly


class Entry(_Kept):
    """One deed. `ids` names rows by their ids and holds nothing else."""

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=64, help_text="user:<id>, worker:<id>, server or anonymous.")
    action = models.CharField(max_length=40)
    ids = models.JSONField(default=dict)
    address = models.GenericIPAddressField(
        null=True, blank=True, help_text="Of a refused sign-in or enrolment only: an address is personal."
    )

    class Meta:
        verbose_name_plural = "entries"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.actor} {self.action}"


class Seal(_Kept):
    """An entry's place in the chain. `sha256` covers the entry, the number and the hash before it."""

    number = models.PositiveBigIntegerField(primary_key=True, help_text="1, 2, 3 … without a gap.")
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, related_name="seal")
    previous = models.CharField(max_length=64, blank=True, help_text="The sha256 of the seal before; empty at first.")
    sha256 = models.CharField(max_length=64)
    sealed_at = models.DateTimeField(help_text="The same for all that were sealed together.")

    class Meta:
        ordering = ("number",)

    def __str__(self) -> str:
        return f"{self.number}:{self.sha256}"
