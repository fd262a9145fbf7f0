"""A strict Content Security Policy on every page (names as in Django 6, so that the move is small)."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from server.config.finishing import FinishingMiddleware

SECURE_CSP = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "object-src": "'none'",
    "require-trusted-types-for": "'script'",
}
# The stock admin's jQuery and the API page's Swagger write innerHTML, so Trusted Types would break both.
STOCK_PAGES = ("/admin/", "/api/docs/")
STOCK_CSP = {directive: sources for directive, sources in SECURE_CSP.items() if "trusted-types" not in directive}


def _header(policy: dict[str, str]) -> str:
    return "; ".join(f"{directive} {sources}" for directive, sources in policy.items())


HEADER, STOCK_HEADER = _header(SECURE_CSP), _header(STOCK_CSP)


BESIDE = {
    # Nothing of a browser's hardware is needed, and nobody else's page may show or embed what is here.
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), display-capture=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ContentSecurityPolicyMiddleware(FinishingMiddleware):
    """Adds the policy to every answer that has none of its own, and the headers that go with it."""

    def finish(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        header = STOCK_HEADER if request.path.startswith(STOCK_PAGES) else HEADER
        response.headers.setdefault("Content-Security-Policy", header)
        for name, value in BESIDE.items():
            response.headers.setdefault(name, value)
        if request.path.startswith("/api/"):
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response
