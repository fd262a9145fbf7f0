"""Every address of the server."""

from django.contrib import admin
from django.urls import include, path

from server.config.api import api
from server.config.health import healthz, readyz
from server.config.metrics import metrics

admin.site.site_header = "Segwire"
admin.site.site_title = "Segwire"
admin.site.index_title = "Administration"

handler500 = "server.config.outages.failed"
urlpatterns = [
    path("healthz", healthz),
    path("readyz", readyz),
    path("metrics", metrics),
    path("api/", api.urls),
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("", include("frontend_bridge.urls")),
]
