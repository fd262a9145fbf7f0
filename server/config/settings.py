"""Django's settings, made from one checked reading of the environment."""

from __future__ import annotations

import sys
from datetime import timedelta

from server.config import backends
from server.config import env as environment
from server.config.logs import logging_config
from server.core.policy import Policy

try:
    ENV = environment.read()
except environment.WrongSetting as error:
    sys.exit(f"segwire cannot start. {error}")

BASE_DIR = environment.PROJECT_DIR
DATA_DIR = ENV.data_dir
MODELS_DIR = ENV.models_dir
PUBLIC_URL = ENV.public_url
USE_LOCAL_INFERENCE = ENV.use_local_inference
LIMITS = ENV.limits
TRUSTED_PROXIES = ENV.trusted_proxies
STORAGE = ENV.storage
ACCEL_LOCATION = ENV.accel_location
DICOMWEB = ENV.dicomweb
POLICY = Policy()

SECRET_KEY = ENV.secret_key
DEBUG = ENV.debug
ALLOWED_HOSTS = list(ENV.allowed_hosts)
ALLOWED_ORIGINS = [PUBLIC_URL, *ENV.allowed_origins]
CSRF_TRUSTED_ORIGINS = list(ALLOWED_ORIGINS)
IS_HTTPS = PUBLIC_URL.startswith("https://")

# Pages of other origins (a viewer such as OHIF) that may ask the API; what such a page sends counts as the person's
# own, so each is named. Workers are programs and have no use for it.
CORS_ALLOWED_ORIGINS = list(ENV.allowed_origins)
CORS_URLS_REGEX = r"^/api/(?!worker/)"
CORS_ALLOW_CREDENTIALS = True
CORS_ALLOW_METHODS = ("GET", "HEAD", "POST", "PATCH")
CORS_ALLOW_HEADERS = ("accept", "authorization", "content-type", "idempotency-key", "prefer", "x-csrftoken")
CORS_EXPOSE_HEADERS = ("location", "retry-after")
CORS_PREFLIGHT_MAX_AGE = 600

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "corsheaders",
    "ninja",
    "server.config",
    "server.audit",
    "server.accounts",
    "axes",
    "server.topics",
    "server.imaging",
    "server.jobs",
    "server.dispatch",
    "server.pacs",
    "frontend_bridge",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "server.config.csp.ContentSecurityPolicyMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "server.config.problems.ProblemMiddleware",
    "server.config.fetch_site.FetchSiteMiddleware",
    "server.config.static.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "server.config.lockout.LockoutMiddleware",
    "server.config.lanes.InOneThread",
]

ROOT_URLCONF = "server.config.urls"
ASGI_APPLICATION = "server.config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "frontend_bridge" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


try:
    DATABASES = {
        "default": backends.database(
            ENV.database_url,
            data_dir=DATA_DIR,
            connections=LIMITS.database_connections,
            is_migrating="migrate" in sys.argv,
        )
    }
except ValueError:  # its sentence could repeat the password
    sys.exit("segwire cannot start. DATABASE_URL: it does not look like postgres://user:password@host:5432/database")
CACHES = {"default": backends.cache(ENV.redis_url)}
CHANNEL_LAYERS = {"default": backends.layer(ENV.redis_url, key=SECRET_KEY)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = [
    "server.accounts.sign_in.Patience",
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# One user name from one address; accounts.sign_in limits the address over all names.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = LIMITS.failures_per_minute
AXES_COOLOFF_TIME = timedelta(minutes=5)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True  # the audit log has it, without names
AXES_CLIENT_IP_CALLABLE = "server.accounts.sign_in.address_of"
AXES_SENSITIVE_PARAMETERS = ["username", "password", "ip_address", "csrfmiddlewaretoken", "next"]
AXES_VERBOSE = False
# axes.W002: its own middleware fails when it runs on the event loop (8.3.1); config.lockout is in its place.
SILENCED_SYSTEM_CHECKS = ["axes.W002"]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ko", "한국어")]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise complains of a folder that is not there
HAS_COLLECTED_STATIC = (STATIC_ROOT / "staticfiles.json").is_file()
WHITENOISE_USE_FINDERS = not HAS_COLLECTED_STATIC
WHITENOISE_AUTOREFRESH = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if HAS_COLLECTED_STATIC or "collectstatic" in sys.argv
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# __Host-: a browser takes it only with Secure, for this host alone, so that no neighbour can put one in its place.
COOKIE_PREFIX = "__Host-" if IS_HTTPS else ""
SESSION_COOKIE_NAME = f"{COOKIE_PREFIX}sessionid"
CSRF_COOKIE_NAME = f"{COOKIE_PREFIX}csrftoken"
SESSION_COOKIE_AGE = 12 * 3600  # a long shift; the sign-in is not lengthened by use
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True  # the page's script reads the CSRF token from the page
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = LANGUAGE_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = IS_HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_HSTS_PRELOAD = IS_HTTPS
SECURE_SSL_REDIRECT = IS_HTTPS
# A worker does not follow redirects with a token in its hand; the server's own comes over loopback.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$", r"^api/worker/"]
X_FRAME_OPTIONS = "DENY"

# The launcher refuses longer bodies while they arrive; this is the second door.
DATA_UPLOAD_MAX_MEMORY_SIZE = LIMITS.body_bytes + 64 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FILES = 2000

LOGGING_CONFIG = None
logging_config(level=ENV.log_level, style=ENV.log_format)
