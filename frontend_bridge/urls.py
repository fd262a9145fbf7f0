"""The addresses of the pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from frontend_bridge.views import SignIn, Viewer

app_name = "frontend_bridge"

urlpatterns = [
    path("", Viewer.as_view(), name="viewer"),
    path("login/", SignIn.as_view(), name="sign-in"),
    path("logout/", LogoutView.as_view(), name="sign-out"),
]
