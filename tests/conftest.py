"""Shared test set-up: Hypothesis profiles.

`dev` (default) tries a few new examples each time. `ci` tries more, the same ones for the same commit, which passes or
fails for ever. `search` tries many new ones, for as long as it takes: HYPOTHESIS_PROFILE=search make test-property
"""

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow]

settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", max_examples=300, derandomize=True, deadline=None, suppress_health_check=SLOW)
settings.register_profile("search", max_examples=3000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
