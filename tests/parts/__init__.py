"""Parts of a machine that a live test cannot do without."""

import os
from typing import NoReturn

import pytest


def lacking(*reasons: str) -> NoReturn:
    """Skip the test: a part is missing, for these reasons. Fail it where CI says that all is there."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("; ".join(reasons))
