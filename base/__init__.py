"""What everything stands on: errors with a mend, lazy registries, derived seeds, whole files."""
