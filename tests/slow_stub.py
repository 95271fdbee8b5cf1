"""Work whose import takes longer than the work: as torch does for a small trial."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime

from harness.means import Means
from harness.records import Record
from harness.schedule import Report
from harness.trial import Trial
from tests.stubs import begins, done

IMPORT_SECONDS = 4.0

time.sleep(IMPORT_SECONDS)


def mortal(trial: Trial, _report: Report, _means: Means) -> Record:
    """Die the first time, be done the second."""
    if not begins(trial):
        time.sleep(0.1)  # the board hears of the beginning
        os.kill(os.getpid(), signal.SIGKILL)
    return done(trial, datetime.now(UTC))
