"""Where results go: counts are submitted, kept for good, verified, and shown on a site anybody can rebuild."""
