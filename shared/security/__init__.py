"""Passwords, tokens, secrets at rest, one-time codes, and requests to addresses of users."""
