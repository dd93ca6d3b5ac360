"""How much of one catalogue is read and kept: the broker, and the process that parses for it, hold to the same."""

MAX_DOCUMENTS = 1000
MOST_KEPT = 2000  # datasets
