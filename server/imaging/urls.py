"""Addresses of imaging beside its API router: none."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
