"""`python -m carryover`."""

from .cli import main

main()
