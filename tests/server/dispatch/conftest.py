"""Each test looks at the workers anew."""

import pytest

from server.dispatch import assigner


@pytest.fixture(autouse=True)
def _forgetful_assigner():
    assigner.forget()
