"""Mechanisms that several strategies share, each written once."""
