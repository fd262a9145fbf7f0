"""What `python -m server` puts around Daphne: limits, a clean end, the dispatcher's clock, the server's own worker."""
