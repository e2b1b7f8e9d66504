"""How it is judged: the evaluation loop, the record it leaves, the metrics and intervals derived from the record."""
