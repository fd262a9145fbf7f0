"""The product's settings on a fresh data folder."""

import os
import tempfile

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("DATA_DIR", None)  # the one of the process that shares out the tests
os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="segwire-test-"))
os.environ.setdefault("PUBLIC_URL", "http://testserver")
os.environ.setdefault("LOG_LEVEL", "WARNING")

from server.config.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if "TEST_LAYER" in os.environ:
    CHANNEL_LAYERS["default"]["BACKEND"] = os.environ["TEST_LAYER"]  # noqa: F405
# Looking for every static file took 0.1 s of each test's client.
WHITENOISE_USE_FINDERS = False
