"""200 auth: how people prove who they are: passwords, second factors, sessions, tokens."""
