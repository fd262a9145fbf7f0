"""The pages: sign-in and the viewer. They carry no data; the page's script fetches what the person may see."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView


class SignIn(LoginView):
    """The sign-in page."""

    template_name = "frontend_bridge/sign_in.html"
    redirect_authenticated_user = True


@method_decorator(never_cache, name="dispatch")
class Viewer(LoginRequiredMixin, TemplateView):
    """The viewer page of a signed-in person."""

    template_name = "frontend_bridge/viewer.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        person = self.request.user
        return super().get_context_data(**kwargs) | {
            "person_name": person.get_full_name() or person.get_username(),
            "is_staff": "true" if person.is_staff else "false",
        }
