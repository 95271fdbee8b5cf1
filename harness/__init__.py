"""The engine: turns a suite into trials, trials into records, records into tables. Knows no method and no data set."""
