"""What is compared on: the tasks, the suites made of them, and one reader per data set."""
