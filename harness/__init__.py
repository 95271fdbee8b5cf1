"""The engine: turns a suite into trials, trials into records, records into tables. Knows no method and no data set."""

import os

# torch asks once, at its first large tensor: with huge pages a training step on the CPU spends a tenth less of its time
# on getting memory from the system; no number changes
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
